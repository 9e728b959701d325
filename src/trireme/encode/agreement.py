"""How near what an engine makes is to what the original makes: vectors by cosine, scores by order and size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trireme.types import FloatArray


def compare_vectors(original: FloatArray, exported: FloatArray) -> dict[str, float]:
    """Smallest and mean cosine of the rows of two [N, D] arrays."""
    cosines = (_unit(original) * _unit(exported)).sum(1)
    return {"cosine_min": float(cosines.min()), "cosine_mean": float(cosines.mean())}


def compare_scores(original: Sequence[FloatArray], exported: Sequence[FloatArray]) -> dict[str, float]:
    """Mean rank correlation over groups of scores, and the largest difference over the original's spread.

    Each element is the scores [n] of one query's passages, n >= 2.
    """
    correlations = [rank_correlation(a, b) for a, b in zip(original, exported, strict=True)]
    before, after = np.concatenate(original), np.concatenate(exported)
    spread = max(float(before.max() - before.min()), 1e-9)
    return {
        "rank_correlation": float(np.mean(correlations)),
        "score_difference": float(np.abs(before - after).max()) / spread,
    }


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's rank correlation of two [n] arrays; equal values share their mean rank."""
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else 1.0


def _unit(rows: FloatArray) -> FloatArray:
    scaled: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return scaled


def _ranks(values: FloatArray) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank = last - (counts - 1) / 2
    return np.asarray(mean_rank[inverse], np.float64)
