"""The port that the search measures through, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from trireme.tune.setting import Setting


@dataclass(frozen=True, slots=True)
class Point:
    """What clients saw of one setting with `concurrency` requests in flight; latencies in milliseconds."""

    concurrency: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Measurer(Protocol):
    """Measures served settings."""

    def measure(self, setting: Setting, concurrency: int, window_s: float, round_number: int) -> Point:
        """One run of some windows of `window_s` seconds. Blocks.

        `round_number` counts the rounds of the finals, and is 0 or below in the search: the same arguments
        may be answered from an earlier run. Raises UnavailableError for a setting that cannot be served or
        measured.
        """
