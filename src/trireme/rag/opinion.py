"""The LLM's answer as a second opinion on the best sentence: a refusal, the same, or another answer. Pure."""

from __future__ import annotations

import re
from typing import Literal

from trireme.rag.citations import MARK, content_words

# open: what was said so far may still become any of the others.
Opinion = Literal["open", "refused", "agreed", "differs"]

# A number is one word, separators and all: 8.5 is not 5.
_WORD = re.compile(r"\w+(?:(?<=\d)[.,:](?=\d)\w+)*")
_IN_WORD = re.compile(r"\w$")
# A citation mark that is not all there yet.
_HALF_MARK = re.compile(r"\[[\d\s,]*$")


def _plain(text: str) -> str:
    """Words alone, in small letters, one space between them; citation marks are none."""
    return " ".join(_WORD.findall(_HALF_MARK.sub("", MARK.sub(" ", text)).casefold()))


# How an answer begins that says that there is none. The first is what the prompt asks for.
REFUSALS = tuple(
    _plain(opening)
    for opening in (
        "The passages do not",
        "The passages don't",
        "The passage does not",
        "The passage doesn't",
        "The provided passages do not",
        "The given passages do not",
        "None of the passages",
        "I do not know",
        "I don't know",
        "There is no information",
        "There is no mention",
    )
)


def is_refusal(answer: str) -> bool:
    """Whether an LLM's answer says that the passages hold none. An answer without a word says so too."""
    said = _plain(answer)
    return not said or _begins_as_refusal(said)


def _begins_as_refusal(plain: str) -> bool:
    # Whole words: "The passages do note" is none.
    return f"{plain} ".startswith(tuple(f"{opening} " for opening in REFUSALS))


def read_opinion(said: str, sentence: str, *, is_whole: bool) -> Opinion:
    """What an LLM's answer is beside the best sentence, while it comes and, with `is_whole`, when it has come.

    refused: it begins as a refusal does. agreed: its words stand in the sentence, in their order and without a gap.
    differs: neither. Once an answer is refused or differs, no further text changes that.
    """
    plain = _plain(said)
    if is_whole and is_refusal(said):
        return "refused"
    # The last word of a part may be half of one.
    if _begins_as_refusal(plain if is_whole or not _IN_WORD.search(said) else plain.rpartition(" ")[0]):
        return "refused"
    end = " " if is_whole else ""
    if f" {plain}{end}" in f" {_plain(sentence)} ":
        if not is_whole:
            return "open"
        return "agreed" if content_words(said) else "differs"
    if not is_whole and any(opening.startswith(plain) for opening in REFUSALS):
        return "open"
    return "differs"
