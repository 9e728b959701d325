"""BM25 over stemmed word pieces with the statistics of the corpus itself: a baseline only."""

from __future__ import annotations

import numpy as np

K1, B = 0.9, 0.4


class Bm25:
    """Postings of the passages of one domain."""

    def __init__(self, tokens: np.ndarray, length: np.ndarray, stem: np.ndarray, idf: np.ndarray) -> None:
        self.stem, self.size = stem, len(length)
        rows = np.repeat(np.arange(len(length)), length)
        flat = tokens[np.arange(tokens.shape[1])[None, :] < length[:, None]]
        rows, flat = rows[idf[flat] > 0], stem[flat[idf[flat] > 0]].astype(np.int64)
        key, self.count = np.unique(flat * self.size + rows, return_counts=True)
        self.term, self.row = key // self.size, key % self.size
        self.damp = K1 * (1 - B + B * length / max(length.mean(), 1.0))

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Word-piece ids of a query -> scores of all passages."""
        out = np.zeros(self.size)
        for term in np.unique(self.stem[query]):
            a, b = np.searchsorted(self.term, [term, term + 1])
            row, count = self.row[a:b], self.count[a:b]
            weight = np.log(1 + (self.size - (b - a) + 0.5) / (b - a + 0.5))
            out[row] += weight * count * (1 + K1) / (count + self.damp[row])
        return out
