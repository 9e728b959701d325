"""Cross-encoder: scores of (query, passage) pairs, and classifiers: labels of single texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from trireme.encode.row_queue import Done, RowQueue
from trireme.encode.session import Session
from trireme.encode.text_encoder import EmbedRequest, TextEncoder, check_size, check_text
from trireme.encode.tokenizer import Row, Tokenizer
from trireme.errors import InvalidInputError, TriremeError
from trireme.types import BatchStats, Classified, FloatArray, Scored

A = TypeVar("A")

# Between the lowest score read and the highest that is not; far above float32's rounding.
UNREAD_GAP = 1e-3


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One query and its passages. `prior`: their retrieval scores, or None to have them computed.

    `rank_score`: what the passages were found in order of, where that is not the prior; it chooses those to read.
    """

    query: str
    passages: Sequence[str]
    prior: FloatArray | None = None
    rank_score: FloatArray | None = None

    @property
    def order(self) -> FloatArray | None:
        """What says which passages are the best before any is read."""
        return self.prior if self.rank_score is None else self.rank_score


@dataclass(frozen=True, slots=True)
class RankerSpec:
    """Limits and labels; from the manifest and the model's configuration."""

    max_batch_tokens: int
    max_text_bytes: int
    max_passages: int
    # Of passages that come with a prior, how many of the best are read, by rank_score or else by it; 0 reads all.
    rerank_depth: int = 0
    labels: tuple[str, ...] = ()
    activation: str = "softmax"


class CrossEncoder:
    """Scores pairs, or labels texts, with one session. Thread-safe; the rows of all callers share micro-batches."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        session: Session,
        spec: RankerSpec,
        prior_encoder: TextEncoder | None = None,
    ) -> None:
        """prior_encoder: embeds query and passages where the graph wants a prior and a request has none."""
        self._tokenizer = tokenizer
        self.queue = RowQueue(session, spec.max_batch_tokens)
        self._prior_encoder = prior_encoder
        self.needs_prior = "prior" in session.input_names
        self.spec = spec

    def close(self) -> None:
        """Ends the session's threads. Idempotent."""
        self.queue.close()
        if self._prior_encoder is not None:
            self._prior_encoder.queue.close()

    def score(self, requests: Sequence[RankRequest], done: Callable[[int, Scored | Exception], None]) -> None:
        """Calls `done` once for each request, perhaps from other threads, with its position and scores.

        The scores are in the order of its passages. What is no TriremeError is what the session raised. Blocks
        while it tokenizes, and while a request without a prior is embedded; does not wait for runs.
        """
        for position, request in enumerate(requests):
            try:
                self._check(request)
                prior = self._prior(request) if self.needs_prior else None
                read = self._choose(request)
                rows = self._tokenizer.encode_pairs(request.query, [request.passages[i] for i in read])
                spread = partial(_spread, request, read, rows)
                self.queue.submit(
                    rows,
                    _answer_with(spread, partial(done, position)),
                    None if prior is None else prior[read],
                )
            except Exception as error:
                # Whatever it is, it ends this request alone: those before it are in the queue already.
                done(position, error)

    def classify(self, texts: Sequence[str], done: Callable[[int, Classified | Exception], None]) -> None:
        """Calls `done` once for each text, as `score` does, with every label and its score, best first."""
        good = []
        for position, text in enumerate(texts):
            try:
                check_text("text", text, self.spec.max_text_bytes)
                good.append(position)
            except TriremeError as error:
                done(position, error)
        rows = self._tokenizer.encode_texts([texts[position] for position in good])
        for position, row in zip(good, rows, strict=True):
            try:
                label = partial(self._label, row)
                self.queue.submit([row], _answer_with(label, partial(done, position)))
            except TriremeError as error:
                done(position, error)

    def _label(self, row: Row, outputs: FloatArray) -> Classified:
        logits = outputs[0]
        if self.spec.activation == "sigmoid":
            score = 1 / (1 + np.exp(-logits))
        elif self.spec.activation == "identity":
            score = logits
        else:
            shifted = np.exp(logits - logits.max())
            score = shifted / shifted.sum()
        order = np.argsort(-score, kind="stable")
        labels = tuple(self.spec.labels[i] for i in order)
        return Classified(labels, score[order].astype(np.float32), row.truncated_tokens)

    def _check(self, request: RankRequest) -> None:
        check_text("query", request.query, self.spec.max_text_bytes)
        if len(request.passages) > self.spec.max_passages:
            raise InvalidInputError(
                f"{len(request.passages)} passages, the limit is {self.spec.max_passages}; send fewer per request"
            )
        for position, passage in enumerate(request.passages):
            check_size(f"passages[{position}]", passage, self.spec.max_text_bytes)
        if request.prior is not None and not np.isfinite(request.prior).all():
            raise InvalidInputError("prior must hold finite numbers, one per passage")
        if request.rank_score is not None and not np.isfinite(request.rank_score).all():
            raise InvalidInputError("rank_score must hold finite numbers, one per passage")

    def _choose(self, request: RankRequest) -> list[int]:
        """Positions of the passages to read: all, or the best by order where there are more than rerank_depth."""
        depth = self.spec.rerank_depth
        if request.prior is None or request.order is None or not 0 < depth < len(request.passages):
            return list(range(len(request.passages)))
        return sorted(np.argsort(-request.order, kind="stable")[:depth].tolist())

    def _prior(self, request: RankRequest) -> FloatArray:
        """Cosine of query and passages by the embedding model that the ranker was trained on. [passages]"""
        if request.prior is not None:
            return request.prior
        if self._prior_encoder is None:
            raise InvalidInputError(
                "this reranker needs the input prior: the retrieval score of each passage"
            )
        # A blank passage has no embedding: it is no neighbour of anything.
        visible = [i for i, passage in enumerate(request.passages) if passage.strip()]
        embeddings, _ = self._prior_encoder.embed(
            [
                EmbedRequest([request.query], "query"),
                EmbedRequest([request.passages[i] for i in visible], "passage"),
            ]
        )
        vectors = []
        for answer in embeddings:
            if isinstance(answer, TriremeError):
                raise answer
            vectors.append([embedding.vector for embedding in answer])
        prior = np.zeros(len(request.passages), np.float32)
        if visible:
            prior[visible] = np.stack(vectors[1]) @ vectors[0][0]
        return prior


def _answer_with(make: Callable[[FloatArray], A], answer: Callable[[A | Exception], None]) -> Done:
    """What a queue calls with the outputs of a request: hands on what `make` makes of them, or what was raised."""

    def done(outputs: FloatArray | Exception, _: BatchStats) -> None:
        try:
            found = outputs if isinstance(outputs, Exception) else make(outputs)
        except Exception as error:
            found = error
        answer(found)

    return done


def _spread(request: RankRequest, read: list[int], rows: Sequence[Row], outputs: FloatArray) -> Scored:
    """Scores of all passages: those not read come below the read ones, in the order they were found in."""
    scores = outputs.reshape(-1)
    cut = np.zeros(len(request.passages), np.int32)
    cut[read] = [row.truncated_tokens for row in rows]
    if request.order is None or len(read) == len(request.passages):
        return Scored(scores, cut)
    unread = np.setdiff1d(np.arange(len(request.passages)), read)
    score = np.empty(len(request.passages), np.float32)
    score[read] = scores
    below = request.order[unread] - request.order[unread].max() - UNREAD_GAP
    score[unread] = scores.min() + below
    return Scored(score, cut)
