"""Rows in, one output per row out: micro-batches by token budget, run, put back in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from trireme.encode.batching import plan_micro_batches
from trireme.encode.session import Session, TokenBatch
from trireme.encode.tokenizer import Row
from trireme.types import BatchStats, FloatArray


def run_rows(
    session: Session, rows: Sequence[Row], max_batch_tokens: int, prior: FloatArray | None = None
) -> tuple[FloatArray, BatchStats]:
    """Outputs [len(rows), ...] in the rows' order, and what they cost. `prior`: float32 [len(rows)]."""
    lengths = [len(row.ids) for row in rows]
    cost = session.cost
    batches = plan_micro_batches(lengths, max_batch_tokens, cost)
    outputs: list[FloatArray] = []
    padded = 0
    for batch in batches:
        if cost.pads:
            width = cost.width(max(lengths[i] for i in batch))
            padded += sum(width - lengths[i] for i in batch)
        outputs.append(session.run(_join([rows[i] for i in batch], batch, prior)))
    joined = np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)
    ordered = np.empty_like(joined)
    ordered[[i for batch in batches for i in batch]] = joined
    return ordered, BatchStats(sum(lengths), padded, len(batches))


def _join(rows: Sequence[Row], indices: Sequence[int], prior: FloatArray | None) -> TokenBatch:
    return TokenBatch(
        ids=np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64),
        type_ids=np.fromiter(chain.from_iterable(row.type_ids for row in rows), np.int64),
        lengths=np.array([len(row.ids) for row in rows], np.int64),
        prior=None if prior is None else prior[list(indices)],
    )
