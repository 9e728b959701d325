"""Exact ranking of vectors, in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trireme.quality import RECALL_DEPTH
from trireme.types import FloatArray

# One more than the metrics see: the query itself may be among the passages.
DEPTH = RECALL_DEPTH + 1


def leave_out_blank(texts: Mapping[str, str]) -> dict[str, str]:
    """The texts that an encoder accepts."""
    return {key: text for key, text in texts.items() if text.strip()}


def rank_by_cosine(
    query_vectors: FloatArray,
    passage_vectors: FloatArray,
    passage_ids: Sequence[str],
    depth: int = DEPTH,
    block: int = 256,
) -> list[list[str]]:
    """Ids of the `depth` nearest passages of each query, best first; vectors [n, dimensions], unit length.

    block: queries that are compared at a time.
    """
    rankings: list[list[str]] = []
    for start in range(0, len(query_vectors), block):
        scores = query_vectors[start : start + block] @ passage_vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        rankings += [[passage_ids[position] for position in row] for row in order]
    return rankings
