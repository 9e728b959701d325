"""Random rows for packed encoders, and the same rows through the module they were exported from."""

import numpy as np
import torch

from trireme.encode.batching import RunCost
from trireme.encode.session import TokenBatch, pad_rows

# Pooling modes and their names in sentence-transformers' files.
POOLING_KEYS = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def draw_rows(lengths, has_segments, seed=3):
    """A TokenBatch of rows of `lengths` tokens."""
    rng = np.random.default_rng(seed)
    # Ids below 4 are special ones; a padding token inside a row would shift RoBERTa's positions.
    ids = rng.integers(4, 40, int(lengths.sum()))
    types = rng.integers(0, 2, len(ids)) if has_segments else np.zeros(len(ids), np.int64)
    return TokenBatch(ids, types, lengths)


def take_row(batch, row):
    """One row as a batch of its own."""
    start = int(batch.lengths[:row].sum())
    part = slice(start, start + int(batch.lengths[row]))
    return TokenBatch(batch.ids[part], batch.type_ids[part], batch.lengths[row : row + 1])


def run_original(graph, batch):
    """What the module of `graph` gives for the rows, padded, in fp32."""
    feeds = pad_rows(batch, RunCost())
    with torch.inference_mode():
        return graph.module(*(torch.from_numpy(feeds[name]) for name in graph.input_names)).numpy()
