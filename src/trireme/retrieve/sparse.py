"""Sparse weights as stores take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trireme.errors import InvalidInputError
from trireme.types import SparseVector

# What pgvector's sparsevec may say of itself; stored ones all say it, so that vocabularies of any size compare.
SPARSE_DIMENSIONS = 1_000_000_000
# pgvector's HNSW takes no more; of a vector that has more, these many of the heaviest weights count.
MOST_WEIGHTS = 1000
# Models make weights of less than 100. The product of any two vectors within it is finite in single precision.
HEAVIEST = 1e9


def check_sparse(what: str, vector: SparseVector) -> None:
    """Raises InvalidInputError unless `vector` is what SparseVector says; `what` names it in the error."""
    indices, weights = vector.indices, vector.weights
    if indices.ndim != 1 or indices.shape != weights.shape:
        raise InvalidInputError(
            f"the sparse weights of {what} need one weight for each index, got {weights.shape} for {indices.shape}"
        )
    if not indices.size:
        return
    if not np.issubdtype(indices.dtype, np.integer) or not (np.diff(indices) > 0).all():
        raise InvalidInputError(f"the sparse indices of {what} must be whole numbers, ascending, none twice")
    if indices[0] < 0 or indices[-1] >= SPARSE_DIMENSIONS:
        raise InvalidInputError(f"the sparse indices of {what} must be from 0 to {SPARSE_DIMENSIONS - 1}")
    if not ((weights > 0) & (weights <= HEAVIEST)).all():
        raise InvalidInputError(f"the sparse weights of {what} must be above 0 and at most {HEAVIEST:.0f}")


def check_sparse_rows(sparse: Sequence[SparseVector] | None, names: Sequence[str], dimensions: int) -> None:
    """Raises InvalidInputError unless there is one vector for each name, or none at all beside dense vectors."""
    if sparse is None:
        if names and not dimensions:
            raise InvalidInputError("an embedder of 0 dimensions needs sparse weights for each passage")
        return
    if len(sparse) != len(names):
        raise InvalidInputError(f"there must be {len(names)} sparse vectors, got {len(sparse)}")
    for name, vector in zip(names, sparse, strict=True):
        check_sparse(name, vector)


def keep_heaviest(vector: SparseVector) -> SparseVector:
    """`vector`, or its MOST_WEIGHTS heaviest weights, of equal ones those of the smaller indices."""
    if vector.indices.size <= MOST_WEIGHTS:
        return vector
    kept = np.sort(np.lexsort((vector.indices, -vector.weights))[:MOST_WEIGHTS])
    return SparseVector(vector.indices[kept], vector.weights[kept])
