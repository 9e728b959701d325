"""What says that it does not know: how refusals begin, and whether an answer is one. English."""

from __future__ import annotations

import re

_MARK = re.compile(r"\s*\[\d{1,3}(?:\s*,\s*\d{1,3})*\]")
_WORD = re.compile(r"\w+")
# Nobody needs more to say that they do not know.
_MOST_READ = 240
_FIRST_SENTENCE = re.compile(r"[^.!?]*(?:[.!?](?!\s|$)[^.!?]*)*")
_THING = (
    r"(?:(?:the|these|this|those|your) )?(?:(?:given|provided|above|supplied|retrieved) )?"
    r"(?:passages?|contexts?|texts?|documents?|sources?|information|articles?|excerpts?|paragraphs?|search results)"
    r"(?: (?:provided|given|above|supplied))?"
)
_NOT = r"(?:do not|does not|don't|doesn't|did not|didn't|cannot|can not|can't)"
_CANNOT = r"(?:cannot|can not|can't|could not|couldn't)"
_SAY = r"(?:say|state|mention|contain|provide|specify|include|give|answer|indicate|discuss|address|tell|have|hold)"
_DEED = r"(?:answer|find|determine|provide|help|say|tell|assist)"
_IT = r"(?:it|this|that|the answer|the question)"
_UNSAID = r"(?:mentioned|stated|specified|provided|said|given|known|clear)"
# What politeness puts in front.
_OPENING = re.compile(
    r"(?:unfortunately|sorry|apologies|i'm sorry|i am sorry|i apologi[sz]e|but|that"
    rf"|(?:based on|according to|from|in) {_THING})\b[,;:]? *"
)
# From the first word of an answer on.
_REFUSAL = re.compile(
    rf"{_THING} {_NOT} (?:\w+ ){{0,2}}?{_SAY}\b"
    r"|nothing relevant was found\b|nothing (?:was|is) (?:found|said|stated)\b"
    r"|i(?:'m| am) (?:not sure|unsure|not able|unable|not aware|not certain)\b|i (?:do not|don't) (?:know|have)\b"
    rf"|i {_CANNOT} (?:\w+ )?{_DEED}\b"
    r"|i have no (?:information|idea)\b|as an ai\b"
    r"|(?:there is |there's )?(?:no|not enough|insufficient) (?:relevant |such |specific |sufficient |enough )?"
    r"(?:information|mention|evidence|context)\b(?! (?:is|was) (?:needed|required))"
    rf"|{_IT} (?:is|was) (?:not (?:\w+ )?(?:{_UNSAID}|possible to)|unclear|unknown|unanswerable)\b"
    rf"|{_IT} {_CANNOT} be (?:answered|determined|found)\b"
    rf"|(?:not (?:{_UNSAID}|enough information)|unanswerable|unknown|none|n/a|no answer"
    r"|cannot (?:answer|be determined))$"
)


def plain_words(text: str) -> str:
    """Words alone, in small letters, one space between them; citation marks are none. Pure."""
    return " ".join(_WORD.findall(_MARK.sub(" ", text).casefold()))


# How an answer begins that says that there is none, in plain words. The first is what rag's prompt asks for. What
# begins so is a refusal however it goes on: so a stream is known for one before its first sentence is over.
OPENINGS = tuple(
    plain_words(opening)
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


def opens_refusal(words: str) -> bool:
    """Whether plain words begin as a refusal does. Pure."""
    # Whole words: "The passages do note" is none.
    return f"{words} ".startswith(tuple(f"{opening} " for opening in OPENINGS))


def may_open_refusal(words: str) -> bool:
    """Whether plain words, of which the last may be half of one, may still become such a beginning. Pure."""
    return any(opening.startswith(words) for opening in OPENINGS)


def is_refusal(text: str) -> bool:
    """Whether an answer's first sentence says that it does not know; an empty one is a refusal too. Pure.

    Ours ("The passages do not say.", "Nothing relevant was found in collection X.") and those common to English
    chat models. A sentence that only has such words in its middle is none.
    """
    begun = text[: 4 * _MOST_READ]
    words = plain_words(begun)
    if not words or opens_refusal(words):
        return True
    plain = " ".join(_MARK.sub("", begun).replace("’", "'").lower().split())
    plain = plain.lstrip("\"'*-# ")[:_MOST_READ]
    while opening := _OPENING.match(plain):
        plain = plain[opening.end() :]
    sentence = _FIRST_SENTENCE.match(plain)
    return sentence is not None and _REFUSAL.match(sentence[0].rstrip("\"'*, ")) is not None
