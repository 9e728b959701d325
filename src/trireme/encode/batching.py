"""Token-budget micro-batches: which rows run together so that one long row does not pad the others."""

from __future__ import annotations

from collections.abc import Sequence


def plan_micro_batches(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    """Row indices grouped into micro-batches, longest first; every row is in exactly one.

    lengths: tokens of each row. A micro-batch costs rows x longest row, padding included, and stays within
    `max_batch_tokens`; a single row above the budget gets a micro-batch of its own. Pure.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    for row in order:
        # Longest first, so a batch's first row is its width.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= max_batch_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
