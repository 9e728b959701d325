"""Ten seconds of figures: counts, and how long things took as counts of ranges of milliseconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trireme.budget.dollars import NANOS

# Seconds that a slot takes, and slots that are kept: an hour.
INTERVAL = 10
SLOTS = 360
# A range ends where the next begins, this factor above: a percentile is right to half of it.
_RATIO = 1.05
_LOG = math.log(_RATIO)
_LEAST_MS = 0.1

# Counts that a slot adds up, by the names of the series.
COUNTS = (
    "requests",
    "succeeded",
    "refused",
    "failed",
    "gone",
    "input_tokens",
    "output_tokens",
    "cache_hits",
    "cache_lookups",
    "hits_exact",
    "hits_semantic",
    "hits_flight",
    "hits_prefix_tokens",
)
MONEY = ("dollars", "saved_dollars")
TIMES = ("first_ms_p50", "first_ms_p95", "total_ms_p50", "total_ms_p95", "wait_ms_p95")
# What a ring has one number of for each slot; NaN where nobody knows one.
SERIES = (*COUNTS, *MONEY, *TIMES)


@dataclass(slots=True)
class Slot:
    """What happened in it. nanos, saved_nanos: billionths of a US dollar. first, total, waited: calls by range of
    milliseconds. tally: of ("error", class), ("hit", tier) and ("lookup", tier)."""

    requests: int = 0
    succeeded: int = 0
    refused: int = 0
    failed: int = 0
    gone: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_hits: int = 0
    cache_lookups: int = 0
    hits_exact: int = 0
    hits_semantic: int = 0
    hits_flight: int = 0
    hits_prefix_tokens: int = 0
    nanos: int = 0
    saved_nanos: int = 0
    first: Counter[int] = field(default_factory=Counter)
    total: Counter[int] = field(default_factory=Counter)
    waited: Counter[int] = field(default_factory=Counter)
    tally: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened."""
        return not (
            self.requests or self.input_tokens or self.output_tokens or self.nanos or self.saved_nanos
        )


def range_of(milliseconds: float) -> int:
    """The range that a time falls in."""
    return math.ceil(math.log(max(milliseconds, _LEAST_MS)) / _LOG)


def percentile(ranges: Mapping[int, int], share: float) -> float:
    """Milliseconds within which this share of the calls ended; NaN of none."""
    rank = math.ceil(share * sum(ranges.values()))
    for place in sorted(ranges):
        rank -= ranges[place]
        if rank <= 0:
            return round(math.exp(_LOG * (place - 0.5)), 1)
    return math.nan


def merge(slots: Iterable[Slot]) -> Slot:
    """All of them as one, without what was tallied."""
    whole = Slot()
    for one in slots:
        for name in (*COUNTS, "nanos", "saved_nanos"):
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
        whole.first.update(one.first)
        whole.total.update(one.total)
        whole.waited.update(one.waited)
    return whole


def times_of(slot: Slot) -> dict[str, float]:
    """The values of TIMES; NaN where nothing was timed."""
    return {
        "first_ms_p50": percentile(slot.first, 0.5),
        "first_ms_p95": percentile(slot.first, 0.95),
        "total_ms_p50": percentile(slot.total, 0.5),
        "total_ms_p95": percentile(slot.total, 0.95),
        "wait_ms_p95": percentile(slot.waited, 0.95),
    }


def values_of(slot: Slot) -> tuple[float, ...]:
    """The values of SERIES."""
    counts = (float(getattr(slot, name)) for name in COUNTS)
    return (*counts, slot.nanos / NANOS, slot.saved_nanos / NANOS, *times_of(slot).values())


# Of a slot in which nothing happened.
QUIET = values_of(Slot())
# Of one of which nothing is known.
UNKNOWN = (math.nan,) * len(SERIES)
