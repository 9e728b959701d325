"""Late interaction: a query's tokens each find their nearest in a passage (Khattab, Zaharia, "ColBERT", 2020)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest, spread_scores
from trireme.encode.outputs import AskedRow, OutputRunner, Parts, ask, check_vectors, join_windows
from trireme.encode.row_queue import Pending, RowQueue
from trireme.encode.session import NamedSession
from trireme.encode.text_encoder import WindowCount, check_length, named_row
from trireme.encode.tokenizer import Row, Tokenizer
from trireme.types import EncoderOutput, FloatArray, InputType, Scored, TokenRules

# Dot products that are in memory at once: 64 MiB.
MOST_PRODUCTS = 1 << 24
_MULTI: frozenset[EncoderOutput] = frozenset({"multi"})


@dataclass(frozen=True, slots=True)
class LateSpec:
    """What the server must know of the model beside a ranker's limits; cache_bytes: of passages' vectors."""

    ranker: RankerSpec
    rules: TokenRules
    query_prompt: str = ""
    passage_prompt: str = ""
    cache_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ReadPassage:
    """Vectors [n, D] of a passage's tokens, and how many tokens were cut off before."""

    vectors: FloatArray
    truncated_tokens: int = 0


class PassageCache:
    """The passages that were read last, within so many bytes. Thread-safe."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, ReadPassage] = OrderedDict()
        self._bytes = 0

    def get(self, passage: str) -> ReadPassage | None:
        """What was read of it, or None."""
        with self._lock:
            if passage not in self._kept:
                return None
            self._kept.move_to_end(passage)
            return self._kept[passage]

    def put(self, passage: str, read: ReadPassage) -> None:
        """Keeps it, and lets those go that were asked for the longest ago."""
        size = _size(passage, read)
        if size > self._most:
            return
        with self._lock:
            if passage in self._kept:
                return
            self._kept[passage] = read
            self._bytes += size
            while self._bytes > self._most:
                self._bytes -= _size(*self._kept.popitem(last=False))


@dataclass(frozen=True, slots=True)
class _Reading:
    """One row of a request: the passages that are read, by their place: those known, and windows of the others."""

    request: RankRequest
    chosen: list[int]
    query: AskedRow
    known: dict[int, ReadPassage]
    windows: dict[int, list[AskedRow]]

    @property
    def rows(self) -> list[Row]:
        return [self.query, *(row for rows in self.windows.values() for row in rows)]


class LateInteraction(CrossEncoder):
    """Ranks passages by the sum, over the query's tokens, of the largest dot product with a passage's tokens.

    Thread-safe; queries and passages of all callers share micro-batches.
    """

    def __init__(self, tokenizer: Tokenizer, session: NamedSession, spec: LateSpec) -> None:
        super().__init__(tokenizer, session, spec.ranker)
        rules = spec.rules
        self.queue = RowQueue(
            session,
            spec.ranker.max_batch_tokens,
            run=OutputRunner(session, ("multi",), rules).run,
            max_attention=spec.ranker.max_attention,
        )
        self._late, self._cache = spec, PassageCache(spec.cache_bytes)
        self._query_tokenizer = tokenizer.cut_at(rules.query_length) if rules.query_length else tokenizer
        self._passage_tokenizer = (
            tokenizer.cut_at(rules.passage_length) if rules.passage_length else tokenizer
        )

    def rank(self, requests: Sequence[RankRequest]) -> Pending[list[Scored]]:
        """See CrossEncoder.rank. A blank passage has no tokens of its own and is read all the same."""
        readings, count = [], WindowCount()
        for position, request in enumerate(requests):
            with named_row(position, len(requests)):
                self._check(request)
        for position, request in enumerate(requests):
            with named_row(position, len(requests)):
                readings.append(self._read_apart(request, count))
        rows = [row for reading in readings for row in reading.rows]
        tokens = sum(len(row.ids) for row in rows)
        check_vectors(tokens, self._late.rules)
        return Pending(self.queue.submit(rows), partial(self._score, readings), tokens)

    def _read_apart(self, request: RankRequest, count: WindowCount) -> _Reading:
        chosen, policy = self._choose(request), self._policy(request)
        (query,) = self._query_tokenizer.encode_texts([self._late.query_prompt + request.query])
        check_length("query", query, policy)
        known = {}
        for place in chosen:
            kept = self._cache.get(request.passages[place])
            # One that was cut is of no use to who does not want it cut.
            if kept is not None and (policy == "truncate" or not kept.truncated_tokens):
                known[place] = kept
        new = [place for place in chosen if place not in known]
        windows = dict(zip(new, self._encode_passages(request, new, count), strict=True))
        return _Reading(request, chosen, self._ask(query, "query"), known, windows)

    def _encode_passages(
        self, request: RankRequest, places: Sequence[int], count: WindowCount
    ) -> list[list[AskedRow]]:
        """The rows of each passage: one, or its windows where it is split."""
        prompt, policy = self._late.passage_prompt, self._policy(request)
        texts = [prompt + request.passages[place] for place in places]
        found = []
        for place, row in zip(places, self._passage_tokenizer.encode_texts(texts), strict=True):
            rows = [row]
            check_length(f"passages[{place}]", row, policy)
            if row.truncated_tokens and policy == "split":
                rows = count.add(self._passage_tokenizer.split_text(request.passages[place], prompt))
            found.append([self._ask(one, "passage") for one in rows])
        return found

    def _ask(self, row: Row, input_type: InputType) -> AskedRow:
        return ask(row, _MULTI, input_type, self._late.rules)

    def _score(self, readings: Sequence[_Reading], parts: Sequence[Parts]) -> list[Scored]:
        found, start = [], 0
        for reading in readings:
            request, query = reading.request, parts[start]
            start += 1
            read = dict(reading.known)
            for place, rows in reading.windows.items():
                whole = join_windows(parts[start : start + len(rows)], [1] * len(rows))
                start += len(rows)
                read[place] = ReadPassage(_vectors(whole), rows[0].truncated_tokens)
                if len(rows) == 1:
                    self._cache.put(request.passages[place], read[place])
            chosen = [read[place] for place in reading.chosen]
            scores = score_passages(_vectors(query), [one.vectors for one in chosen])
            lost = [one.truncated_tokens + reading.query.truncated_tokens for one in chosen]
            found.append(spread_scores(request, reading.chosen, scores, lost))
        return found


def score_passages(query: FloatArray, passages: Sequence[FloatArray]) -> FloatArray:
    """The score of each passage [passages]: over the tokens of `query` [q, D] the sum of the largest dot products.

    A passage without a vector has 0, and so has each for a query without one.
    """
    scores = np.zeros(len(passages), np.float32)
    if not len(query):
        return scores
    places = [place for place, vectors in enumerate(passages) if len(vectors)]
    for group in _group(places, [len(passages[place]) for place in places], MOST_PRODUCTS // len(query)):
        every = np.concatenate([passages[place] for place in group])
        starts = np.cumsum([0, *(len(passages[place]) for place in group[:-1])])
        # Of a long passage a part of the query at once.
        step = max(1, MOST_PRODUCTS // len(every))
        nearest = [
            np.maximum.reduceat(query[first : first + step] @ every.T, starts, axis=1)
            for first in range(0, len(query), step)
        ]
        scores[group] = np.concatenate(nearest).sum(0)
    return scores


def _group(places: Sequence[int], sizes: Sequence[int], most: int) -> list[list[int]]:
    """The places in order, in groups of sizes that make at most `most`, or of one."""
    groups: list[list[int]] = []
    filled = 0
    for place, size in zip(places, sizes, strict=True):
        if not groups or filled + size > most:
            groups.append([])
            filled = 0
        groups[-1].append(place)
        filled += size
    return groups


def _vectors(parts: Parts) -> FloatArray:
    return np.zeros((0, 0), np.float32) if parts.token_vectors is None else parts.token_vectors


def _size(passage: str, read: ReadPassage) -> int:
    return len(passage) * 4 + read.vectors.nbytes
