"""Rows in, one output per row out: micro-batches by token budget, padded, run, put back in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trireme.encode.batching import plan_micro_batches
from trireme.encode.session import Feeds, Session
from trireme.encode.tokenizer import Row
from trireme.types import BatchStats, FloatArray


def run_rows(
    session: Session, rows: Sequence[Row], max_batch_tokens: int, prior: FloatArray | None = None
) -> tuple[FloatArray, BatchStats]:
    """Outputs [len(rows), ...] in the rows' order, and what they cost. `prior`: float32 [len(rows)]."""
    lengths = [len(row.ids) for row in rows]
    batches = plan_micro_batches(lengths, max_batch_tokens)
    outputs: list[FloatArray] = []
    padded = 0
    for batch in batches:
        width = lengths[batch[0]]
        padded += width * len(batch)
        outputs.append(session.run(_feeds(session, [rows[i] for i in batch], width, batch, prior)))
    joined = np.concatenate(outputs) if outputs else np.zeros((0,), np.float32)
    ordered = np.empty_like(joined)
    ordered[[i for batch in batches for i in batch]] = joined
    tokens = sum(lengths)
    return ordered, BatchStats(tokens, padded - tokens, len(batches))


def _feeds(
    session: Session, rows: Sequence[Row], width: int, indices: Sequence[int], prior: FloatArray | None
) -> Feeds:
    shape = (len(rows), width)
    ids, mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for i, row in enumerate(rows):
        n = len(row.ids)
        ids[i, :n], mask[i, :n], types[i, :n] = row.ids, 1, row.type_ids
    feeds: dict[str, npt.NDArray[Any]] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    if prior is not None:
        feeds["prior"] = prior[list(indices)]
    return {name: feeds[name] for name in session.input_names}
