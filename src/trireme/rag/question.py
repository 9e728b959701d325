"""What a question asks for, as far as its first words tell."""

from __future__ import annotations

import re

from trireme.passage_text import FENCE

# "In which", "on what": the word that asks may come second.
_ASKS_FACT = re.compile(
    r"\W*(?:(?:at|by|for|from|in|of|on|since|to|until|with)\s+)?"
    r"(?:(?:who|whose|whom|when|where|which|what|why)\b|how\s+(?!do\b|does\b|did\b|can\b|could\b|to\b|should\b|would\b|is\b|are\b"
    r"|may\b|must\b|might\b))",
    re.IGNORECASE,
)
_NAMES_CODE = re.compile(
    r"\b(?:code|commands?|curl|example|expression|flags?|line|options?|query|syntax)\b", re.IGNORECASE
)
_INLINE_CODE = re.compile(r"`[^`]+`[.,;]?")
_FENCE = re.compile(FENCE)


def asks_for_fact(question: str) -> bool:
    """Whether a sentence answers it, and code alone does not: who, where, which, how long, but not how to.

    Only English questions are told apart; of others nothing is known.
    """
    return bool(_ASKS_FACT.match(question)) and not _NAMES_CODE.search(question)


def is_code(sentence: str) -> bool:
    """Whether a sentence of a passage is nothing but Markdown code: a block of its own, or one span."""
    text = sentence.strip()
    return bool(_FENCE.match(text) or _INLINE_CODE.fullmatch(text))
