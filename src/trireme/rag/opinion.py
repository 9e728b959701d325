"""The LLM's answer as a second opinion on the best sentence: a refusal, the same, or another answer. Pure."""

from __future__ import annotations

import re
from typing import Literal

from trireme.rag.citations import MARK, content_words
from trireme.refusals import may_open_refusal, opens_refusal

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


def read_opinion(said: str, sentence: str, *, is_whole: bool) -> Opinion:
    """What an LLM's answer is beside the best sentence, while it comes and, with `is_whole`, when it has come.

    refused: it begins as a refusal does, or has no word. agreed: its words stand in the sentence, in their order
    and without a gap. differs: neither. Once an answer is refused or differs, no further text changes that.
    """
    plain = _plain(said)
    # The last word of a part may be half of one.
    sure = plain if is_whole or not _IN_WORD.search(said) else plain.rpartition(" ")[0]
    if opens_refusal(sure) or (is_whole and not plain):
        return "refused"
    end = " " if is_whole else ""
    if f" {plain}{end}" in f" {_plain(sentence)} ":
        if not is_whole:
            return "open"
        return "agreed" if content_words(said) else "differs"
    if not is_whole and may_open_refusal(plain):
        return "open"
    return "differs"
