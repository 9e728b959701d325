"""Rows in, one output per row out: micro-batches by token budget, run, put back in order."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain

import numpy as np

from trireme.encode.batching import RunCost, plan_micro_batches
from trireme.encode.session import Session, TokenBatch
from trireme.encode.tokenizer import Row
from trireme.types import BatchStats, FloatArray

# What a server's start may take longer, so that the first requests do not.
WARM_UP_SECONDS = 2.0
# Rows have at least one token between two special ones.
MIN_TOKENS = 3


def run_rows(session: Session, rows: Sequence[Row], max_batch_tokens: int) -> tuple[FloatArray, BatchStats]:
    """Outputs [len(rows), ...] in the rows' order, and what they cost."""
    lengths = [len(row.ids) for row in rows]
    batches = plan_micro_batches(lengths, max_batch_tokens, session.cost)
    outputs: list[FloatArray] = []
    padded = 0
    for batch in batches:
        padded += sum(pad_tokens([lengths[i] for i in batch], session.cost))
        outputs.append(session.run(make_batch([rows[i] for i in batch])))
    joined = np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)
    ordered = np.empty_like(joined)
    ordered[[i for batch in batches for i in batch]] = joined
    return ordered, BatchStats(sum(lengths), padded, len(batches))


def pad_tokens(lengths: Sequence[int], cost: RunCost) -> list[int]:
    """Padding of each row of a micro-batch whose rows have `lengths` tokens."""
    width = cost.width(max(lengths))
    return [width - length if cost.pads else 0 for length in lengths]


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
            # Sessions take their streams in turn, and each makes kernels of its own.
            for _ in range(session.streams):
                session.run(TokenBatch(ids, ids, lengths))
                calls += 1
    return calls


def make_batch(rows: Sequence[Row]) -> TokenBatch:
    """The rows as a session takes them."""
    return TokenBatch(
        ids=np.fromiter(chain.from_iterable(row.ids for row in rows), np.int64),
        type_ids=np.fromiter(chain.from_iterable(row.type_ids for row in rows), np.int64),
        lengths=np.array([len(row.ids) for row in rows], np.int64),
    )
