"""Cross-encoder: scores of (query, passage) pairs, and classifiers: labels of single texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trireme.encode.pair_template import PairTemplate
from trireme.encode.row_queue import Pending, RowQueue
from trireme.encode.session import Session
from trireme.encode.text_encoder import (
    EmbedRequest,
    TextEncoder,
    WindowCount,
    check_length,
    check_size,
    check_text,
    named_row,
)
from trireme.encode.tokenizer import Row, Tokenizer
from trireme.errors import InvalidInputError
from trireme.types import Classified, EncoderOutput, FloatArray, OverLength, Scored

# Between the lowest score read and the highest that is not; far above float32's rounding.
UNREAD_GAP = 1e-3
# What a prior is made of, whatever else the embedding model makes.
_DENSE: frozenset[EncoderOutput] = frozenset({"dense"})


@dataclass(frozen=True, slots=True)
class RankRequest:
    """One query and its passages. `prior`: their retrieval scores, or None to have them computed.

    `rank_score`: what the passages were found in order of, where that is not the prior; it chooses those to read.
    `depth`: how many are read, where the model's rerank_depth allows no fewer; 0: none, and the order stays.
    `over_length` None leaves the model's own.
    """

    query: str
    passages: Sequence[str]
    prior: FloatArray | None = None
    rank_score: FloatArray | None = None
    depth: int | None = None
    over_length: OverLength | None = None

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
    # The session's output is added to a prior, the cosine of query and passage.
    needs_prior: bool = False
    # What query and passage are read in, where the tokenizer's own pair is not it.
    template: PairTemplate | None = None
    # Of requests that do not say what becomes of a pair or text that is longer than the model reads.
    over_length: OverLength = "truncate"
    # See RowQueue.
    max_attention: float = math.inf


@dataclass(frozen=True, slots=True)
class _PairsToRead:
    """The pairs of one row of a request that are read: which passages, their windows, and what is added to them."""

    request: RankRequest
    chosen: list[int]
    windows: list[list[Row]]
    prior: FloatArray | np.float32
    # Run already for its prior.
    prior_tokens: int = 0

    @property
    def rows(self) -> list[Row]:
        """All windows, one behind the other."""
        return [row for rows in self.windows for row in rows]


class CrossEncoder:
    """Scores pairs, or labels texts, with one session. Thread-safe; the rows of all callers share micro-batches."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        session: Session,
        spec: RankerSpec,
        prior_encoder: TextEncoder | None = None,
    ) -> None:
        """prior_encoder: embeds query and passages where the spec needs a prior and a request has none."""
        self._tokenizer = tokenizer
        self.queue = RowQueue(session, spec.max_batch_tokens, max_attention=spec.max_attention)
        self._prior_encoder = prior_encoder
        self.spec = spec

    def close(self) -> None:
        """Ends the session's threads. Idempotent."""
        self.queue.close()
        if self._prior_encoder is not None:
            self._prior_encoder.close()

    def rank(self, requests: Sequence[RankRequest]) -> Pending[list[Scored]]:
        """The scores of each row of a request, in the order of its passages.

        Blocks while it tokenizes, and while a row without a prior is embedded; does not wait for runs. Raises
        InvalidInputError, which names the row where there are several; then nothing of the request is run.
        """
        for position, request in enumerate(requests):
            with named_row(position, len(requests)):
                self._check(request)
        readings, count = [], WindowCount()
        for position, request in enumerate(requests):
            with named_row(position, len(requests)):
                readings.append(self._read(request, count))
        rows = [row for reading in readings for row in reading.rows]
        tokens = sum(len(row.ids) for row in rows) + sum(reading.prior_tokens for reading in readings)
        return Pending(self.queue.submit(rows), partial(_scores, readings), tokens)

    def classify(
        self, texts: Sequence[str], over_length: OverLength | None = None
    ) -> Pending[list[Classified]]:
        """Every label of each text with its score, best first. Raises as `rank`; no text is split."""
        policy = over_length or self.spec.over_length
        if policy == "split":
            raise InvalidInputError(
                "over_length split is not for a classifier, whose labels are of a whole text; send error or"
                " truncate, or the parts of the text as rows of their own"
            )
        for position, text in enumerate(texts):
            with named_row(position, len(texts)):
                check_text("text", text, self.spec.max_text_bytes)
        rows = self._tokenizer.encode_texts(texts)
        for position, row in enumerate(rows):
            with named_row(position, len(rows)):
                check_length("text", row, policy)
        tokens = sum(len(row.ids) for row in rows)
        return Pending(self.queue.submit(rows), partial(self._labels, rows), tokens)

    def _labels(self, rows: Sequence[Row], outputs: FloatArray) -> list[Classified]:
        return [self._label(row, logits) for row, logits in zip(rows, outputs, strict=True)]

    def _label(self, row: Row, logits: FloatArray) -> Classified:
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

    def _read(self, request: RankRequest, count: WindowCount) -> _PairsToRead:
        chosen = self._choose(request)
        windows = self._encode(request, chosen, count)
        prior, prior_tokens = self._prior(request) if self.spec.needs_prior else (None, 0)
        added = np.float32(0) if prior is None else prior[chosen]
        return _PairsToRead(request, chosen, windows, added, prior_tokens)

    def _encode(self, request: RankRequest, chosen: Sequence[int], count: WindowCount) -> list[list[Row]]:
        """The rows of each chosen passage: one, or its windows where it is split."""
        query, passages = request.query, [request.passages[i] for i in chosen]
        template, policy = self.spec.template, self._policy(request)
        if template is None:
            rows = self._tokenizer.encode_pairs(query, passages)
        else:
            rows = self._tokenizer.encode_filled(template, query, passages)
        windows = [[row] for row in rows]
        for place, row in enumerate(rows):
            check_length(f"query with passages[{chosen[place]}]", row, policy)
            if row.truncated_tokens and policy == "split":
                windows[place] = count.add(
                    self._tokenizer.split_pair(query, passages[place])
                    if template is None
                    else self._tokenizer.split_filled(template, query, passages[place])
                )
        return windows

    def _policy(self, request: RankRequest) -> OverLength:
        return request.over_length or self.spec.over_length

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
        if request.depth is not None and request.depth < 0:
            raise InvalidInputError(f"rerank_depth must be at least 0, got {request.depth}")
        if request.depth is not None and request.prior is None:
            raise InvalidInputError(
                "rerank_depth needs the input prior: it orders the passages that are not read"
            )

    def _choose(self, request: RankRequest) -> list[int]:
        """Positions of the passages to read: all, or the best by order where there are more than rerank_depth."""
        depths = [self.spec.rerank_depth or len(request.passages)]
        if request.depth is not None:
            depths.append(request.depth)
        depth = min(depths)
        if request.prior is None or request.order is None or depth >= len(request.passages):
            return list(range(len(request.passages)))
        return sorted(np.argsort(-request.order, kind="stable")[:depth].tolist())

    def _prior(self, request: RankRequest) -> tuple[FloatArray, int]:
        """Cosine of query and passages by the embedding model that the ranker was trained on, [passages], and the
        tokens that were run for it."""
        if request.prior is not None:
            return request.prior, 0
        if self._prior_encoder is None:
            raise InvalidInputError(
                "this reranker needs the input prior: the retrieval score of each passage"
            )
        # A blank passage has no embedding: it is no neighbour of anything.
        visible = [i for i, passage in enumerate(request.passages) if passage.strip()]
        # A pair that may not be too long has a passage that is not.
        policy: OverLength = "split" if self._policy(request) == "split" else "truncate"
        ask = partial(EmbedRequest, over_length=policy, outputs=_DENSE)
        query = self._prior_encoder.submit(ask([request.query], ["query"]))
        texts = [request.passages[i] for i in visible]
        found = self._prior_encoder.submit(ask(texts, ["passage"] * len(texts)))
        prior = np.zeros(len(request.passages), np.float32)
        asked, passages = query.result()[0], found.result()
        if visible:
            prior[visible] = np.stack([one.vector for one in passages]) @ asked.vector
        return prior, asked.token_count + sum(one.token_count for one in passages)


def _scores(readings: Sequence[_PairsToRead], outputs: FloatArray) -> list[Scored]:
    found = []
    start = 0
    for reading in readings:
        counts = [len(rows) for rows in reading.windows]
        end = start + sum(counts)
        scores = outputs[start:end].reshape(-1)
        if len(scores) > len(counts):
            # A passage is as good as its best window.
            scores = np.maximum.reduceat(scores, np.cumsum([0, *counts[:-1]]))
        lost = [rows[0].truncated_tokens for rows in reading.windows]
        found.append(spread_scores(reading.request, reading.chosen, scores + reading.prior, lost))
        start = end
    return found


def spread_scores(
    request: RankRequest, read: Sequence[int], scores: FloatArray, lost: Sequence[int]
) -> Scored:
    """Scores of all passages from those of the read ones, of which so many tokens were cut off.

    Passages that were not read come below, in the order they were found in.
    """
    cut = np.zeros(len(request.passages), np.int32)
    cut[list(read)] = lost
    if request.order is None or len(read) == len(request.passages):
        return Scored(scores, cut)
    unread = np.setdiff1d(np.arange(len(request.passages)), read)
    score = np.empty(len(request.passages), np.float32)
    score[list(read)] = scores
    if not read:
        return Scored(request.order.astype(np.float32), cut)
    below = request.order[unread] - request.order[unread].max() - UNREAD_GAP
    score[unread] = scores.min() + below
    return Scored(score, cut)
