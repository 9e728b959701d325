"""Citations [n] of a generated answer, checked against the passages it was given."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from trireme.rag.passages import document_id_of, language_of, sentences_of, source_of
from trireme.rag.ports import Citation
from trireme.rag.sentences import Sentence, split_sentences, word_set
from trireme.types import Hit

# A citation mark: [1] or [1, 3].
MARK = re.compile(r"\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]")
_WORD = re.compile(r"[^\W_]+")
# The rest of a word that was drawn together or owns something: it's, don't, the ship's.
_CONTRACTED = re.compile(r"(?<=\w)['’](?:s|t|d|m|ll|re|ve)\b", re.IGNORECASE)
_ENDING = re.compile(r"(?:ies|ing|ed|es|s|e|y)$")
_COMMON_WORDS = word_set(
    "a an and are as at be been but by can did do does for from had has have he her his how i if in into is it its"
    " may more most no not of on or our over she so some such than that the their them then there these they this"
    " to under until up was we were what when where which while who whom whose why will with would you your"
)
# Of a sentence's content words, how many a passage must have that is cited for it without being named.
SUPPORT = 0.75


@dataclass(frozen=True, slots=True)
class Checked:
    """The citations that hold, in the order of their first mention, and the numbers of those that do not."""

    citations: tuple[Citation, ...]
    unknown: tuple[int, ...]
    unsupported: tuple[int, ...]


def check_citations(answer: str, passages: Sequence[Hit]) -> Checked:
    """Every [n] of `answer` against the n-th passage. Pure.

    A number without a passage is unknown. A passage that shares no content word with any sentence that cites it
    does not support it. The span of a citation is the passage's sentence nearest to the citing one.
    """
    held: dict[int, Citation] = {}
    unknown: dict[int, None] = {}
    unsupported: dict[int, None] = {}
    for number, sentence in _mentions(answer, language_of(*passages)):
        if not 1 <= number <= len(passages):
            unknown[number] = None
            continue
        cited = cite_passage(number, sentence, passages[number - 1])
        if cited.support == 0:
            unsupported[number] = None
        elif number not in held or cited.support > held[number].support:
            held[number] = cited
    missing = tuple(number for number in unsupported if number not in held)
    return Checked(tuple(held.values()), tuple(unknown), missing)


def infer_citations(answer: str, passages: Sequence[Hit]) -> tuple[Citation, ...]:
    """Citations for an answer that has none: each sentence's best passage, where that supports it. Pure.

    A passage supports a sentence when it has at least SUPPORT of its content words, and among them all that have a
    digit or a capital letter: numbers and names.
    """
    held: dict[int, Citation] = {}
    for sentence in split_sentences(_without_marks(answer), language=language_of(*passages)):
        wanted = content_words(sentence.text)
        named = content_words(" ".join(filter(_is_name, _WORD.findall(_composed(sentence.text)))))
        able = [
            cite_passage(number, sentence.text, passage)
            for number, passage in enumerate(passages, 1)
            if wanted and named <= content_words(passage.text)
        ]
        best = max(able, key=lambda cited: cited.support, default=None)
        if best and best.support >= SUPPORT and best.number not in held:
            held[best.number] = best
    return tuple(held.values())


def cite_passage(number: int, sentence: str, passage: Hit) -> Citation:
    """The passage as evidence for a sentence: its nearest sentence, and the share of words the passage has."""
    wanted = content_words(sentence)
    support = len(wanted & content_words(passage.text)) / len(wanted) if wanted else 0.0
    spans = sentences_of(passage) or [Sentence(0, len(passage.text), passage.text)]
    best = max(spans, key=lambda span: _nearness(wanted, content_words(span.text)))
    return Citation(
        number,
        passage.id,
        source_of(passage),
        best.start,
        best.end,
        passage.score,
        support,
        best.text,
        document_id_of(passage),
    )


def content_words(text: str) -> frozenset[str]:
    """Lower-case words without the commonest ones and without their English endings, in NFC."""
    words = (word.lower() for word in _WORD.findall(_CONTRACTED.sub("", _composed(text))))
    return frozenset(
        _ENDING.sub("", word) if len(word) > 3 else word for word in words if word not in _COMMON_WORDS
    )


def _composed(text: str) -> str:
    # A mark on its own is no part of a word.
    return unicodedata.normalize("NFC", text)


def _is_name(word: str) -> bool:
    """Whether a word is written as numbers and names are."""
    return any(letter.isdigit() or letter.isupper() for letter in word)


def _without_marks(answer: str) -> str:
    """Marks are blanked out, not removed: places stay."""
    return MARK.sub(lambda found: " " * len(found[0]), answer)


def _mentions(answer: str, language: str) -> list[tuple[int, str]]:
    """(number, the sentence it stands in or right after) for every citation mark."""
    sentences = split_sentences(_without_marks(answer), language=language)
    mentions = []
    for found in MARK.finditer(answer):
        before = bisect_left(sentences, found.start(), key=lambda sentence: sentence.start)
        text = sentences[before - 1].text if before else ""
        mentions += [(int(number), text) for number in found[1].split(",")]
    return mentions


def _nearness(wanted: frozenset[str], words: frozenset[str]) -> float:
    """Dice coefficient of two sets of words."""
    return 2 * len(wanted & words) / max(len(wanted) + len(words), 1)
