"""What own machines cost: dated prices by the hour, times the seconds that each was up. Exact, in fractions."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

HOUR = 3_600_000
DAY = 24 * HOUR
# A machine says that it is up so often, and one that was silent for longer than the gap was down meanwhile.
BEAT_SECONDS = 60.0
GAP_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Span:
    """A machine was up from start to before end, milliseconds (Unix). kind: what it is priced by. release: it ran.

    Spans of one machine never overlap.
    """

    machine: str
    kind: str
    release: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class HourPrice:
    """Nano-dollars for an hour of a kind of machine, from `since` (milliseconds, Unix) until the next price.

    always: so many of the kind are paid for all the time, whatever is noted of any.
    """

    since: int
    nanos: int
    always: int = 0


# Of each kind, by rising `since`. Before the first one a machine costs nothing.
HourPrices = Mapping[str, Sequence[HourPrice]]


def price_at(dated: Sequence[HourPrice], at: int) -> HourPrice | None:
    """The price of a kind at `at` (milliseconds, Unix); None before its first one."""
    place = bisect_right(dated, at, key=lambda price: price.since)
    return dated[place - 1] if place else None


def always_up(prices: HourPrices, start: int, end: int, now: int | None = None) -> list[Span]:
    """Spans of the machines that are paid for all the time, which tell of no release.

    now: milliseconds (Unix), None: the clock's. What is to come was not paid for yet.
    """
    end = min(end, int(time.time() * 1000) if now is None else now)
    spans = []
    for kind, dated in prices.items():
        for place, price in enumerate(dated):
            until = dated[place + 1].since if place + 1 < len(dated) else end
            first, last = max(start, price.since), min(end, until)
            if first < last:
                names = (f"{kind}-{number}" for number in range(1, price.always + 1))
                spans += [Span(name, kind, "", first, last) for name in names]
    return spans


def cut(spans: Iterable[Span], start: int, end: int) -> Iterator[Span]:
    """What of the spans lies from start to before end."""
    for span in spans:
        first, last = max(span.start, start), min(span.end, end)
        if first < last:
            yield replace(span, start=first, end=last)


def by_day(spans: Iterable[Span]) -> Iterator[tuple[int, Span]]:
    """The spans in pieces, each with the first millisecond of its day of UTC."""
    for span in spans:
        day = span.start - span.start % DAY
        while day < span.end:
            yield from ((day, piece) for piece in cut((span,), day, day + DAY))
            day += DAY


def cost_of(spans: Iterable[Span], prices: HourPrices) -> Fraction:
    """Nano-dollars of all the spans, each second at the price of then."""
    # One division, at the end: the sum of products is whole.
    return Fraction(sum(_priced(span, prices.get(span.kind, ())) for span in spans), HOUR)


def milliseconds_of(spans: Iterable[Span]) -> int:
    """How long all of them were up, together."""
    return sum(span.end - span.start for span in spans)


def round_together(parts: Sequence[Fraction]) -> list[int]:
    """Whole numbers, each less than 1 beside its part, whose sum is the rounded sum of all parts.

    Parts that are rounded one by one miss the bill by a nano-dollar each.
    """
    rounded, exact, before = [], Fraction(0), 0
    for part in parts:
        exact += part
        now = round(exact)
        rounded.append(now - before)
        before = now
    return rounded


def _priced(span: Span, dated: Sequence[HourPrice]) -> int:
    """Milliseconds times nano-dollars an hour."""
    total = 0
    place = bisect_right(dated, span.start, key=lambda price: price.since) - 1
    at = span.start
    while at < span.end:
        until = dated[place + 1].since if place + 1 < len(dated) else span.end
        last = min(span.end, until)
        if place >= 0:
            total += (last - at) * dated[place].nanos
        at, place = last, place + 1
    return total
