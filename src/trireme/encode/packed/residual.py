"""The default reranker's adjustments over packed rows; trireme.export.residual says what they are made of.

A row is a pair `[CLS] query [SEP] passage [SEP]`, its passage and the last [SEP] in segment 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.packed.config import ResidualConfig
from trireme.encode.packed.cpu_kernels import PackedRows, VnniEncoder
from trireme.errors import ArtifactError
from trireme.types import FloatArray

WEIGHTS = ("idf", "stem", "inner", "weight", "centre", "side", "head.weight", "head.bias")
SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class _Pair:
    """Where a pair's parts are among all tokens: the query's pieces, and the passage's."""

    start: int
    query: slice
    passage: slice


class ResidualRanker:
    """share * (evidence of terms + evidence of the network). Holds weights only; thread-safe."""

    def __init__(
        self, encoder: VnniEncoder, config: ResidualConfig, weights: Mapping[str, npt.NDArray[Any]]
    ) -> None:
        """`weights`: those of WEIGHTS as `residual.NAME`. Raises ArtifactError for a missing one."""
        missing = [name for name in WEIGHTS if f"residual.{name}" not in weights]
        if missing:
            raise ArtifactError(f"the weights hold no 'residual.{missing[0]}'; build the model again")
        self._encoder, self._config = encoder, config
        taken = {name: weights[f"residual.{name}"] for name in WEIGHTS}
        self._stem = taken.pop("stem").copy()
        floats = {name: np.array(array, np.float32) for name, array in taken.items()}
        self._inner, self._side = floats["inner"], floats["side"]
        # An inner piece counts for less.
        self._worth = floats["idf"] * (1.0 - (1.0 - config.inner_weight) * self._inner) + 1e-3
        self._weight, self._centre = floats["weight"], floats["centre"]
        self._head, self._head_bias = floats["head.weight"].reshape(-1), float(floats["head.bias"].item())

    def adjust(self, rows: PackedRows) -> FloatArray:
        """What each pair's cosine is adjusted by, float32 [rows]. The caller has checked ids and lengths."""
        config, encoder = self._config, self._encoder
        apart, pairs = _separate(rows)
        hidden = encoder.embed(apart)
        encoder.run(hidden, apart, 0, config.apart)
        terms = np.array([self._term_evidence(rows.ids, hidden, pair) for pair in pairs], np.float32)
        for pair in pairs:
            hidden[pair.passage] += self._side
        encoder.run(hidden, rows, config.apart, encoder.layers)
        raw = np.array([self._read(hidden, pair) for pair in pairs], np.float32)
        neural = config.strength * config.bound * np.tanh(raw / config.bound)
        adjustments: FloatArray = _shares(config, pairs) * (terms + neural)
        return adjustments

    def _read(self, hidden: FloatArray, pair: _Pair) -> float:
        passage = hidden[pair.passage]
        mean = passage.sum(0) / max(len(passage), 1)
        return float(self._head @ np.concatenate([hidden[pair.start], mean])) + self._head_bias

    def _term_evidence(self, ids: npt.NDArray[np.int32], states: FloatArray, pair: _Pair) -> float:
        """How well the passage covers the query's weight: in pieces, in pairs of neighbours, and in states."""
        query, passage = ids[pair.query], ids[pair.passage]
        if not len(query):
            return float(-(self._centre * self._weight).sum())
        worth = self._worth[query]
        worth = worth / max(float(worth.sum()), SMALLEST)
        if len(passage):
            same = self._stem[query][:, None] == self._stem[passage]
            before = np.zeros_like(same)
            before[1:, 1:] = same[:-1, :-1]
            both = same & before
            # An inner piece matches where the piece before it does too.
            count = np.where(self._inner[query][:, None] > 0, both, same).sum(1)
            near, late = both.any(1), _best_cosines(states[pair.query], states[pair.passage])
        else:
            count, near = np.zeros(len(query)), np.zeros(len(query), bool)
            late = np.full(len(query), -1.0, np.float32)
        config = self._config
        length = config.length_weight * len(passage) / config.mean_length
        damp = config.saturation * (1.0 - config.length_weight + length)
        words = count * (1.0 + config.saturation) / (count + damp)
        found = np.array([worth @ words, worth @ near, worth @ late])
        return float(((found - self._centre) * self._weight).sum())


def _separate(rows: PackedRows) -> tuple[PackedRows, list[_Pair]]:
    """Query and passage of each row as rows of their own, and where they are.

    The [SEP] between them becomes the passage's [CLS]; all segments are 0.
    """
    ids = rows.ids.copy()
    starts, pairs = [], []
    for start, end in zip(rows.offsets[:-1].tolist(), rows.offsets[1:].tolist(), strict=True):
        middle = start + int(np.count_nonzero(rows.types[start:end] == 0)) - 1
        ids[middle] = ids[start]
        # A row that was cut within its query has no [SEP] to spare.
        starts += [start, middle] if middle > start else [start]
        pairs.append(_Pair(start, slice(start + 1, max(middle, start + 1)), slice(middle + 1, end - 1)))
    offsets = np.array([*starts, rows.offsets[-1]], np.int32)
    longest = int(np.diff(offsets).max())
    return PackedRows(ids, np.zeros_like(ids), offsets, longest), pairs


def _best_cosines(query: FloatArray, passage: FloatArray) -> FloatArray:
    """For each state of the query the best cosine among the passage's (ColBERT's late interaction)."""
    best: FloatArray = (_unit(query) @ _unit(passage).T).max(1)
    return best


def _unit(states: FloatArray) -> FloatArray:
    unit: FloatArray = states / np.maximum(np.linalg.norm(states, axis=1, keepdims=True), 1e-12)
    return unit


def _shares(config: ResidualConfig, pairs: list[_Pair]) -> FloatArray:
    """How much of the evidence counts, [rows]: less for long queries and for passages of few pieces."""
    query = np.array([pair.query.stop - pair.query.start for pair in pairs], np.float32)
    passage = np.array([pair.passage.stop - pair.passage.start for pair in pairs], np.float32)
    room = np.minimum(passage / config.short_passage, 1.0)
    shares: FloatArray = room * np.minimum(config.long_query / (query + 1.0), 1.0)
    return shares
