"""Figures of held-out pairs: hits at a share of false hits, with Clopper-Pearson intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
# Held-out sets: their source, the kinds of pairs of one meaning, and those of another; "" takes all of the source.
SETS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "squad rules": ("squad", ("!slip",), ("!slip_other",)),
    "squad rules, real negatives": ("squad", ("!slip",), ("paragraph", "unanswerable")),
    "squad slips": ("squad", ("slip",), ("slip_other", "paragraph", "unanswerable")),
    "manual paraphrases": ("manual", ("paraphrase",), ()),
    "manual paraphrases, near sentences": ("manual", ("paraphrase",), ("near",)),
    "intents": ("intent", (), ()),
    "medquad": ("medquad", (), ()),
    "wikipedia rules": ("wiki", (), ()),
    "wikinews rules": ("news", (), ()),
    "written statements": ("written", (), ()),
    "judged general": ("judged_general", (), ()),
    "judged order": ("judged_word", (), ()),
    "judged support": ("judged_support", (), ()),
    "judged news": ("judged_news", (), ()),
}


def _picked(kind: str, wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return True
    if wanted[0].startswith("!"):
        return kind not in {w[1:] for w in wanted}
    return kind in wanted


def members(arrays: Arrays, rows: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Places in `rows` of a set's pairs of one meaning, and of its others."""
    source, same, other = SETS[name]
    kinds = [str(k).split(".") for k in arrays["kinds"]]
    kind, label = arrays["kind"][rows], arrays["label"][rows]
    ok_same = np.array([s == source and _picked(k, same) for s, k in kinds])
    ok_other = np.array([s == source and _picked(k, other) for s, k in kinds])
    return np.flatnonzero((label == 1) & ok_same[kind]), np.flatnonzero((label == 0) & ok_other[kind])


def hits_at(same: np.ndarray, other: np.ndarray, share: float) -> tuple[float, float]:
    """(hit rate, threshold) where at most `share` of the others reach the threshold."""
    allowed = int(share * len(other))
    threshold = float(np.sort(other)[::-1][allowed])
    return float((same > threshold).mean()), threshold


def interval(hits: int, count: int) -> tuple[float, float]:
    """Clopper-Pearson limits of hits / count at 95 %."""
    from scipy.stats import beta

    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return low, high


def auc(same: np.ndarray, other: np.ndarray) -> float:
    """The share of (same, other) that are in order."""
    order = np.argsort(np.argsort(np.concatenate([same, other])))
    n = len(same)
    return float((order[:n].sum() - n * (n - 1) / 2) / (n * len(other)))


def figures(arrays: Arrays, found: Arrays, share: float = 0.01) -> dict[str, dict[str, Any]]:
    """Of every set: counts, and hits of cosine and score at `share` of false hits (judged sets: at 4 %)."""
    out = {}
    for name in SETS:
        same, other = members(arrays, found["row"], name)
        if not len(same) or not len(other):
            continue
        at = 0.04 if name.startswith("judged") else share
        row: dict[str, Any] = {"same": len(same), "other": len(other), "false_hits": at}
        both = (found["score"] + found["turned"]) / 2
        for key, values in (("cosine", found["cosine"]), ("score", found["score"]), ("both_orders", both)):
            rate, threshold = hits_at(values[same], values[other], at)
            row[key] = {"hits": rate, "threshold": threshold, "auc": auc(values[same], values[other])}
        out[name] = row
    return out


def show(table: dict[str, dict[str, Any]]) -> str:
    """The table as text."""
    lines = []
    for name, row in table.items():
        cells = [
            f"{k} {row[k]['hits']:.3f} (auc {row[k]['auc']:.3f}, t {row[k]['threshold']:.2f})"
            for k in ("cosine", "score", "both_orders")
        ]
        lines.append(f"{name:36s} {row['same']:6d} {row['other']:6d}  " + "  ".join(cells))
    return "\n".join(lines)
