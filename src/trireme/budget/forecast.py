"""When a budget will be used up if its window goes on as it began. A straight line, and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from trireme.budget.caps import Cap
from trireme.budget.periods import window_end
from trireme.budget.port import Counter

# Of a window that must be over before its rate says anything.
LEAST_SHARE = Fraction(1, 20)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the unit of a budget that is used up first, or fullest. unit: tokens or nanos.

    used: share of the budget that is spent now. at_end: spent by the window's end at the rate since its start; None
    in its first LEAST_SHARE. exhausted_at: milliseconds (Unix) at which nothing is left; None: not in this window.
    ends_at: of the window.
    """

    unit: str
    used: Fraction
    at_end: int | None
    exhausted_at: int | None
    ends_at: int


def forecast(cap: Cap, counter: Counter, now: int) -> Forecast:
    """now: milliseconds (Unix), of the window of `counter`. Raises ValueError for a cap without limits."""
    units = (("tokens", cap.tokens, counter.spent_tokens), ("nanos", cap.nanos, counter.spent_nanos))
    found = [
        _forecast(unit, most, spent, start=counter.start, end=window_end(cap.window, counter.start), now=now)
        for unit, most, spent in units
        if most is not None
    ]
    if not found:
        raise ValueError("a budget without limits ends never")
    return min(found, key=lambda one: (one.exhausted_at or one.ends_at, -one.used))


def _forecast(unit: str, most: int, spent: int, *, start: int, end: int, now: int) -> Forecast:
    now = min(max(now, start), end)
    used = Fraction(spent, most) if most else Fraction(1)
    passed = now - start
    at_end = _at_end(spent, passed, end - start)
    if spent >= most:
        return Forecast(unit, used, at_end, now, end)
    if at_end is None or at_end <= most:
        return Forecast(unit, used, at_end, None, end)
    return Forecast(unit, used, at_end, start + -(-most * passed // spent), end)


def _at_end(spent: int, passed: int, whole: int) -> int | None:
    return None if passed < whole * LEAST_SHARE else round(Fraction(spent * whole, passed))
