"""What a question asks for, as far as its first words tell."""

from __future__ import annotations

import re

from trireme.passage_text import FENCE

# "In which", "on what": the word that asks may come second. "Does it": yes or no, and why; "can I" may ask how.
_ASKS_FACT = re.compile(
    r"\W*(?:(?:are|did|do|does|is|was|were)\b|(?:(?:at|by|for|from|in|of|on|since|to|until|with)\s+)?"
    r"(?:(?:who|whose|whom|when|where|which|what|why)\b|how\s+(?!do\b|does\b|did\b|can\b|could\b|to\b|should\b|would\b|is\b|are\b"
    r"|may\b|must\b|might\b)))",
    re.IGNORECASE,
)
_ASKS_QUANTITY = re.compile(
    r"\bhow\s+(?:big|deep|far|fast|few|high|large|long|many|much|often|old|tall|wide)\b"
    r"|\b(?:what|which)\s+(?:\w+\s+)?(?:age|amount|distance|number|percentage|population|port|size|speed|year)\b",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred"
    r"|thousand|million|billion|dozen|half|third|quarter|once|twice)\b",
    re.IGNORECASE,
)
_NAMES_CODE = re.compile(
    r"\b(?:code|commands?|curl|example|expression|flags?|line|options?|query|syntax)\b", re.IGNORECASE
)
_BULLET = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s+")
# What a sentence about the linked thing goes on with is a word.
_LINK_ENTRY = re.compile(r"\[[^\]\n]+\]\([^)\s]+\)\s*(?:[:;,.–—-]|$)", re.MULTILINE)
_INLINE_CODE = re.compile(r"`[^`]+`[.,;]?")
_FENCE = re.compile(FENCE)


def asks_for_fact(question: str) -> bool:
    """Whether a sentence answers it, and code alone does not: who, where, which, how long, does it, but not how to.

    Only English questions are told apart; of others nothing is known.
    """
    return bool(_ASKS_FACT.match(question)) and not _NAMES_CODE.search(question)


def lacks_quantity(question: str, sentence: str) -> bool:
    """Whether an English question asks for a quantity and the sentence has no number, in digits or words."""
    return bool(_ASKS_QUANTITY.search(question)) and not _QUANTITY.search(sentence)


def is_code(sentence: str) -> bool:
    """Whether a sentence of a passage is nothing but Markdown code: a block of its own, or one span."""
    text = sentence.strip()
    return bool(_FENCE.match(text) or _INLINE_CODE.fullmatch(text))


def is_pointer(passage: str, start: int) -> bool:
    """Whether what begins at `start` is an entry of a Markdown list of links: a link and a remark."""
    line = passage.rfind("\n", 0, start) + 1
    return bool(_BULLET.fullmatch(passage, line, start) and _LINK_ENTRY.match(passage, start))
