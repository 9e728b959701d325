"""The best sentence of the best passages, ranked by the reranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trireme.rag.citations import content_words
from trireme.rag.passages import (
    document_id_of,
    find_context,
    find_openings,
    sentences_of,
    source_of,
)
from trireme.rag.ports import Citation, Steps
from trireme.rag.question import asks_for_fact, is_code, is_pointer, lacks_quantity
from trireme.rag.sentences import Sentence
from trireme.types import FloatArray, Hit

# As many as the default reranker reads of a request's texts (rerank_depth).
MAX_SENTENCES = 20
# For the first sentence below a heading that has all of the question's words; chosen on SQuAD's training articles,
# where 0 to 0.3 make no difference, and on questions about our own documents, where it matters.
OPENING_BONUS = 0.15
# For the first sentence below a heading that is a question, whichever: it is written to answer one. On 51 questions
# about our own documents 42 answers are right instead of 39; 0.03 to 0.1 make no difference.
ANSWER_BONUS = 0.05
# Taken from a sentence without a number where the question asks for a quantity. Of 382 questions of SQuAD's
# training articles two more are answered right with 0.2, and of 120 others none less.
QUANTITY_MALUS = 0.2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of passages[passage]. `context` is the title and headings above it."""

    passage: int
    sentence: Sentence
    context: str


def find_sentences(passages: Sequence[Hit], question: str = "", most: int = MAX_SENTENCES) -> list[Candidate]:
    """Sentences of the passages in their order, each text once, at most `most`. Pure.

    Where there are other sentences, entries of lists of links are left out, and code alone where the question
    asks for a fact.
    """
    found: dict[str, Candidate] = {}
    for position, passage in enumerate(passages):
        context = find_context(passage)
        for sentence in sentences_of(passage):
            found.setdefault(sentence.text, Candidate(position, sentence, context))
    every = list(found.values())
    said = [one for one in every if not is_pointer(passages[one.passage].text, one.sentence.start)]
    candidates = said or every
    if asks_for_fact(question):
        candidates = [one for one in candidates if not is_code(one.sentence.text)] or candidates
    return candidates[:most]


def rank_sentences(
    question: str, passages: Sequence[Hit], candidates: Sequence[Candidate], steps: Steps
) -> tuple[int, float]:
    """Position and score of the best of at least one candidate.

    A sentence is read below its title and headings, with its passage's score as prior: what a good passage
    says counts more than the same words in a bad one. The sentence that opens a section gets a bonus as far as
    the heading above it is the question, and one where it is any question; one without a number gets less where a
    quantity is asked for. The score that comes back is without these.
    """
    texts = ["\n".join(filter(None, (one.context, one.sentence.text))) for one in candidates]
    prior = np.array([passages[one.passage].score for one in candidates], np.float32)
    scores = steps.rank(question, texts, prior)
    lacking = np.array([lacks_quantity(question, one.sentence.text) for one in candidates])
    bonuses = _opening_bonuses(question, passages, candidates) - QUANTITY_MALUS * lacking
    best = int(np.argmax(scores + bonuses))
    return best, float(scores[best])


def _opening_bonuses(question: str, passages: Sequence[Hit], candidates: Sequence[Candidate]) -> FloatArray:
    asked = content_words(question)
    openings = find_openings(passages)
    bonuses = np.zeros(len(candidates), np.float32)
    for position, one in enumerate(candidates):
        if one.passage in openings:
            openings.remove(one.passage)
            heading = one.context.rpartition(" > ")[2]
            shared = len(asked & content_words(heading)) / max(len(asked), 1)
            bonuses[position] = OPENING_BONUS * shared**2 + ANSWER_BONUS * heading.rstrip().endswith("?")
    return bonuses


def cite_sentence(candidate: Candidate, passage: Hit, score: float) -> Citation:
    """The citation of an answer that is the sentence itself."""
    sentence = candidate.sentence
    span = (sentence.start, sentence.end)
    return Citation(
        1, passage.id, source_of(passage), *span, score, 1.0, sentence.text, document_id_of(passage)
    )
