"""Figures of the reranker: nDCG@10 per set, and the table of methods."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
Method = Callable[[np.ndarray], np.ndarray]
DISCOUNT = 1.0 / np.log2(np.arange(2, 12))


def combined(weights: tuple[float, float, float], centre: np.ndarray, strength: float) -> Method:
    """Score [Q, D] from values [Q, D, 7]: prior, share, 3 features, neural evidence, BM25."""

    def method(values: np.ndarray) -> np.ndarray:
        terms = ((values[..., 2:5] - centre) * np.array(weights)).sum(-1)
        score: np.ndarray = values[..., 0] + values[..., 1] * (terms + strength * values[..., 5])
        return score

    return method


def ndcg(right: np.ndarray, total: np.ndarray, score: np.ndarray) -> np.ndarray:
    """nDCG@10 of each row; `total` is how many passages are relevant in the whole corpus."""
    order = np.argsort(-score, axis=1, kind="stable")[:, :10]
    gain = (np.take_along_axis(right, order, 1) * DISCOUNT[: order.shape[1]]).sum(1)
    ideal = np.cumsum(DISCOUNT)[np.clip(total, 1, 10) - 1]
    out: np.ndarray = gain / ideal
    return out


def hybrid(values: np.ndarray) -> np.ndarray:
    """Sum of the z-scores of cosine and BM25 (column 6) over the candidates [Q, D]."""
    both = values[..., [0, 6]]
    out: np.ndarray = ((both - both.mean(1, keepdims=True)) / (both.std(1, keepdims=True) + 1e-9)).sum(-1)
    return out


def figures(found: Arrays, methods: dict[str, Method], depth: int) -> dict[str, dict[str, float]]:
    """Mean nDCG@10 by set and method, reranking the first `depth` candidates."""
    out: dict[str, dict[str, float]] = {}
    values, right = found["values"][:, :depth].astype(np.float32), found["right"][:, :depth]
    rows = {name: ndcg(right, found["total"], method(values)) for name, method in methods.items()}
    for kind in dict.fromkeys(found["kind"].tolist()):
        here = found["kind"] == kind
        out[kind] = {name: round(float(row[here].mean()), 4) for name, row in rows.items()}
        out[kind]["bm25"] = round(float(found["bm25"][here].mean()), 4)
    return out


def show(table: dict[str, dict[str, float]]) -> str:
    """The table as text, with the mean and the worst change against the first method."""
    names = list(next(iter(table.values())))
    lines = [f"{'set':<20}" + "".join(f"{n:>12}" for n in names)]
    for kind, row in table.items():
        lines.append(f"{kind:<20}" + "".join(f"{row[n]:>12.3f}" for n in names))
    mean = {n: sum(row[n] for row in table.values()) / len(table) for n in names}
    worst = {n: min(row[n] - row[names[0]] for row in table.values()) for n in names}
    for label, row in (("mean", mean), ("worst change", worst)):
        lines.append(f"{label:<20}" + "".join(f"{row[n]:>12.3f}" for n in names))
    return "\n".join(lines)
