"""One row of the tables of metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UNITS = (
    "seconds",
    "unix seconds",
    "microseconds",
    "milliseconds",
    "bytes",
    "mebibytes",
    "tokens",
    "work per second",
    "dollars",
    "nanodollars",
    "ratio",
    "percent",
    "count",
    "yes or no",
    "information",
)
# Prometheus's convention: a name ends with its unit, a counter's before _total.
_OF_NAMES = ("seconds", "bytes", "tokens", "dollars", "nanos")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `buckets` are a histogram's, in its unit.

    unit: of UNITS; without one it is what the name ends with, else "count". "yes or no": 1 or 0. "information":
    always 1, the labels say it. when: in which case alone it is exported; "" for always. A metric with the label
    `tenant` has at most MOST_VALUES of them, the rest is "other".
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    unit: str = ""
    when: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            ending = self.name.removesuffix("_total").rpartition("_")[2]
            found = {"nanos": "nanodollars"}.get(ending, ending) if ending in _OF_NAMES else "count"
            object.__setattr__(self, "unit", found)
        if self.unit not in UNITS:
            raise ValueError(f"unit {self.unit!r} of {self.name} is none of {', '.join(UNITS)}")
