"""Rows in, one output per row out: micro-batches by token budget, run, put back in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain

import numpy as np

from trireme.encode.batching import plan_micro_batches
from trireme.encode.session import Session, TokenBatch
from trireme.encode.tokenizer import Row
from trireme.types import BatchStats, FloatArray

# What a server's start may take longer, so that the first requests do not.
WARM_UP_SECONDS = 1.0
# Rows have at least one token between two special ones.
MIN_TOKENS = 3


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


def warm_up(session: Session, max_length: int, seconds: float = WARM_UP_SECONDS) -> int:
    """Runs rows of every width once, alone and then by two and four, for about `seconds`; returns the calls.

    Only for sessions whose first call of a shape costs time. Blocks.
    """
    if not session.cost.few_shapes:
        return 0
    widths = sorted({session.cost.width(length) for length in range(MIN_TOKENS, max_length + 1)})
    deadline = time.monotonic() + seconds
    calls = 0
    for rows in (1, 2, 4):
        for width in widths:
            if time.monotonic() > deadline:
                return calls
            ids = np.zeros(rows * min(width, max_length), np.int64)
            lengths = np.full(rows, len(ids) // rows, np.int64)
            prior = np.zeros(rows, np.float32) if "prior" in session.input_names else None
            session.run(TokenBatch(ids, ids, lengths, prior))
            calls += 1
    return calls


def _join(rows: Sequence[Row], indices: Sequence[int], prior: FloatArray | None) -> TokenBatch:
    return TokenBatch(
        ids=np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64),
        type_ids=np.fromiter(chain.from_iterable(row.type_ids for row in rows), np.int64),
        lengths=np.array([len(row.ids) for row in rows], np.int64),
        prior=None if prior is None else prior[list(indices)],
    )
