"""When requests are sent, and what came of them as percentiles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from trireme.tune.perf_analyzer import compute_percentile

PERCENTS = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from the scheduled moment."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    most_ms: float


def make_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Moments of random arrivals (Poisson) in seconds from the start, ascending, all before `seconds`."""
    draw = random.Random(f"{seed} {rate:g}")  # noqa: S311 - a sample, no secret
    moments, at = [], draw.expovariate(rate)
    while at < seconds:
        moments.append(at)
        at += draw.expovariate(rate)
    return moments


def summarize(times_ms: Sequence[float]) -> Times:
    """Percentiles of at least one time."""
    return Times(*(compute_percentile(times_ms, percent) for percent in PERCENTS), max(times_ms))
