"""Token-budget micro-batches: which rows run together so that one long row does not pad the others."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

# A width is rounded up to a multiple of the step of the largest limit below it.
WIDTH_STEPS = ((0, 2), (32, 4), (128, 8), (256, 16))
# Powers of two: rows x width then takes few values too, and kernels of linear layers are made per such value.
ROW_COUNTS = tuple(1 << i for i in range(12))


@dataclass(frozen=True, slots=True)
class RunCost:
    """What a run of a session costs, in tokens: `call_tokens` each call, and what its rows hold.

    pads: every row costs as much as the longest of its call. few_shapes: each new shape of a call costs
    time, so widths are rounded up, to `max_width` at most, and only some numbers of rows run together.
    keeps_attention: memory holds each token's attention to each of its row at once: rows x width².
    """

    call_tokens: int = 4
    pads: bool = True
    few_shapes: bool = False
    max_width: int = 0
    keeps_attention: bool = False

    def attention(self, rows: int, width: int) -> int:
        """Pairs of tokens that a run holds in memory; 0 where it holds them in parts."""
        return rows * width**2 if self.keeps_attention else 0

    def width(self, longest: int) -> int:
        """Tokens of a padded row, where the longest has `longest`."""
        if not self.few_shapes:
            return longest
        step = next(step for limit, step in reversed(WIDTH_STEPS) if longest > limit or not limit)
        rounded = -(-longest // step) * step
        return max(longest, min(rounded, self.max_width)) if self.max_width else rounded


def plan_micro_batches(
    lengths: Sequence[int],
    max_batch_tokens: int,
    cost: RunCost | None = None,
    max_attention: float = math.inf,
) -> list[list[int]]:
    """Row indices grouped into micro-batches; every row is in exactly one. Pure.

    lengths: tokens of each row. Where a session pads, rows are sorted, longest first, a micro-batch costs
    rows x width plus the call, and of all ways to cut the sorted rows this is the cheapest, found by
    dynamic programming. Where it does not, rows keep their order. A micro-batch stays within
    `max_batch_tokens` and, by pairs of tokens, `max_attention`; a single row above either gets one of its own.
    """
    cost = cost or RunCost()
    if not cost.pads:
        return _fill(lengths, max_batch_tokens)
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = [cost.width(lengths[row]) for row in order]
    # cheapest[end]: cost of the first `end` rows; first[end]: where their last micro-batch begins.
    cheapest, first = [0], [0]
    for end in range(1, len(order) + 1):
        best, best_start = cheapest[end - 1] + widths[end - 1] + cost.call_tokens, end - 1
        for rows in _row_counts(end, cost.few_shapes):
            tokens = widths[end - rows] * rows
            # Going further back only makes the micro-batch wider and longer.
            attention = cost.attention(rows, widths[end - rows])
            if tokens > max_batch_tokens or attention > max_attention:
                break
            total = cheapest[end - rows] + tokens + cost.call_tokens
            if total <= best:
                best, best_start = total, end - rows
        cheapest.append(best)
        first.append(best_start)
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[first[end] : end])
        end = first[end]
    return batches[::-1]


def _row_counts(most: int, few_shapes: bool) -> Sequence[int]:
    if few_shapes:
        return ROW_COUNTS[1 : bisect_right(ROW_COUNTS, most)]
    return range(2, most + 1)


def _fill(lengths: Sequence[int], max_batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    filled = 0
    for row, length in enumerate(lengths):
        if not batches or filled + length > max_batch_tokens:
            batches.append([])
            filled = 0
        batches[-1].append(row)
        filled += length
    return batches
