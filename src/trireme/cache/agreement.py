"""Whether two answers say the same, by their words: what a shadow check compares with."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from trireme.cache.numbers import read_numbers

# Of the words of two answers, as a harmonic mean of precision and recall (token F1, as in SQuAD).
LEAST_F1 = 0.6
# Answers of so many words or more may each name a figure that the other leaves out.
LONG = 60

_CITATION = re.compile(r"\[\d+\]")
_SIGN = re.compile(r"[^\w\s]")
_ARTICLES = frozenset({"a", "an", "the"})
_POLARITY = {"yes": True, "yeah": True, "correct": True, "true": True, "no": False, "nope": False}
_NEGATORS = frozenset({"not", "no", "never", "cannot", "without", "none", "neither", "nor"})


def answers_agree(a: str, b: str) -> bool:
    """Whether one answer serves where the other was asked for. Pure; symmetric.

    Equal but for case, punctuation, articles and citation marks: yes. Else all of these must hold: neither is
    empty; they do not begin with yes and no; they hold the same numbers (of long ones, one holds all of the
    other's); short ones have as many negations, even or odd; their words' F1 is LEAST_F1 or more. What is said in
    other words does not agree, so the rule counts false hits too often rather than too seldom.
    """
    first, second = _words(a), _words(b)
    if first == second:
        return True
    if not first or not second:
        return False
    opening = _POLARITY.get(first[0]), _POLARITY.get(second[0])
    if None not in opening and opening[0] != opening[1]:
        return False
    is_long = min(len(first), len(second)) >= LONG
    if not _numbers_agree(a, b, is_long=is_long):
        return False
    if not is_long and (_negations(a) - _negations(b)) % 2:
        return False
    return _f1(first, second) >= LEAST_F1


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", _CITATION.sub(" ", text)).casefold().replace("\u2019", "'")
    return [word for word in _SIGN.sub(" ", plain.replace("'", "")).split() if word not in _ARTICLES]


def _negations(text: str) -> int:
    words = text.casefold().replace("\u2019", "'").split()
    return sum(word.strip('.,;:!?()"') in _NEGATORS or "n't" in word for word in words)


def _numbers_agree(a: str, b: str, *, is_long: bool) -> bool:
    first, second = (set(read_numbers(_CITATION.sub(" ", text))) for text in (a, b))
    if is_long:
        return first <= second or second <= first
    return first == second


def _f1(a: list[str], b: list[str]) -> float:
    shared = sum((Counter(a) & Counter(b)).values())
    return 2 * shared / (len(a) + len(b))
