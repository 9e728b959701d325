"""The best sentence of the best passages, ranked by the reranker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trireme.rag.passages import find_context, sentences_of, source_of
from trireme.rag.ports import Citation, Steps
from trireme.rag.sentences import Sentence
from trireme.types import Hit

# As many as the default reranker reads of a request's texts (rerank_depth).
MAX_SENTENCES = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence of passages[passage]. `context` is the title and headings above it."""

    passage: int
    sentence: Sentence
    context: str


def find_sentences(passages: Sequence[Hit], most: int = MAX_SENTENCES) -> list[Candidate]:
    """Sentences of the passages in their order, each text once, at most `most`. Pure."""
    found: dict[str, Candidate] = {}
    for position, passage in enumerate(passages):
        context = find_context(passage)
        for sentence in sentences_of(passage):
            found.setdefault(sentence.text, Candidate(position, sentence, context))
    return list(found.values())[:most]


def rank_sentences(
    question: str, passages: Sequence[Hit], candidates: Sequence[Candidate], steps: Steps
) -> tuple[int, float]:
    """Position and score of the best of at least one candidate.

    A sentence is read below its title and headings, with its passage's score as prior: what a good passage
    says counts more than the same words in a bad one.
    """
    texts = ["\n".join(filter(None, (one.context, one.sentence.text))) for one in candidates]
    prior = np.array([passages[one.passage].score for one in candidates], np.float32)
    scores = steps.rank(question, texts, prior)
    best = int(np.argmax(scores))
    return best, float(scores[best])


def cite_sentence(candidate: Candidate, passage: Hit, score: float) -> Citation:
    """The citation of an answer that is the sentence itself."""
    sentence = candidate.sentence
    source = source_of(passage)
    return Citation(1, passage.id, source, sentence.start, sentence.end, score, 1.0, sentence.text)
