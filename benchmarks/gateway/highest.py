"""The highest rate that holds a bound, found with few tries."""

from __future__ import annotations

from collections.abc import Callable

STEP = 1.1


def make_grid(lowest: float, highest: float) -> list[float]:
    """Rates in steps of 10 %, the same ones for everybody: whole numbers where they are large."""
    grid = [lowest]
    while grid[-1] * STEP <= highest:
        grid.append(grid[-1] * STEP)
    return [round(rate, 1) if rate < 20 else float(round(rate)) for rate in grid]


def find_highest(grid: list[float], holds: Callable[[float], bool], stride: int = 8) -> float:
    """The highest rate of an ascending `grid` that holds, 0 where the first does not.

    Goes up in strides until one does not hold, then halves: what holds is taken to hold below as well.
    """
    low, high = -1, 0
    while high < len(grid) and holds(grid[high]):
        low, high = high, high + stride
    high = min(high, len(grid))
    while high - low > 1:
        middle = (low + high) // 2
        if holds(grid[middle]):
            low = middle
        else:
            high = middle
    return grid[low] if low >= 0 else 0.0
