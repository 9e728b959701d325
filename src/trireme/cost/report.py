"""The report: what was used by each group, what was paid for, and what of that was idle. Pure arithmetic.

Two bases, in OpenCost's words. usage: what attempts were charged. allocation: what is paid for, so usage and idle
time of own machines. In whole nano-dollars: the sum of all lines and of idle is the bill, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction

from trireme.cost.machines import (
    HourPrices,
    Span,
    always_up,
    by_day,
    cost_of,
    cut,
    milliseconds_of,
    round_together,
)
from trireme.cost.port import CostBook, CostBy, CostGroup, CostQuery


@dataclass(frozen=True, slots=True)
class CostLine:
    """A group with its share of the machines. idle_nanos: paid for, not used; None where machines are of no group.

    Below 0 more was charged than the machines cost: rates or prices of gateway.toml are wrong.
    """

    group: CostGroup
    idle_nanos: int | None = None
    machine_milliseconds: int = 0

    @property
    def usage_nanos(self) -> int:
        """What its attempts were charged."""
        return self.group.own_nanos + self.group.provider_nanos

    @property
    def allocation_nanos(self) -> int:
        """What is paid for it."""
        return self.usage_nanos + (self.idle_nanos or 0)


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One kind of own machines: how long they were up together, what that costs. is_priced: a price is known."""

    kind: str
    milliseconds: int
    nanos: int
    is_priced: bool


@dataclass(frozen=True, slots=True)
class CostReport:
    """total: everything as one line, in which a request counts once. machines: empty where none was noted, or where
    the report is of one tenant, of whom idle machines tell nothing."""

    by: CostBy
    start: int
    end: int
    lines: tuple[CostLine, ...]
    total: CostLine
    machines: tuple[MachineLine, ...] = ()

    @property
    def bill_nanos(self) -> int:
        """What is paid: machines by the hour and providers by the token; without machines, what was charged."""
        if not self.machines:
            return self.total.usage_nanos
        return sum(line.nanos for line in self.machines) + self.total.group.provider_nanos

    @property
    def unexplained_nanos(self) -> int:
        """The bill less all lines and idle: 0, or something was counted twice or not at all."""
        used = sum(line.usage_nanos for line in self.lines)
        return self.bill_nanos - used - (self.total.idle_nanos or 0)


def read_report(
    book: CostBook, query: CostQuery, prices: HourPrices, *, now: int | None = None
) -> CostReport:
    """The report of a query. now: milliseconds (Unix), after which no machine was up yet; None: the clock's.

    Blocks. Raises UnavailableError, InvalidInputError as `CostBook.groups`.
    """
    groups = book.groups(query)
    (whole,) = book.groups(replace(query, by="all")) or [CostGroup("")]
    spans: list[Span] = []
    if not query.tenant:
        up = always_up(prices, query.start, query.end, now)
        spans = [*book.spans(query.start, query.end), *up]
    return make_report(query.by, query.start, query.end, groups, whole, spans=spans, prices=prices)


def make_report(
    by: CostBy,
    start: int,
    end: int,
    groups: Sequence[CostGroup],
    whole: CostGroup,
    *,
    spans: Iterable[Span],
    prices: HourPrices,
) -> CostReport:
    """whole: all groups as one, as `by="all"` gives it."""
    up = list(cut(spans, start, end))
    machines = _machine_lines(up, prices)
    bill = sum(line.nanos for line in machines)
    total = replace(whole, name="total")
    if not machines:
        lines = tuple(CostLine(group) for group in groups)
        return CostReport(by, start, end, lines, CostLine(total))
    shares = _shares(by, up, prices, bill)
    if shares is None:
        lines = tuple(CostLine(group) for group in groups)
    else:
        known = {group.name: group for group in groups}
        named = [*known, *(name for name in shares if name not in known)]
        lines = tuple(_line(known.get(name, CostGroup(name)), *shares.get(name, (0, 0))) for name in named)
        if by == "day":
            lines = tuple(sorted(lines, key=lambda line: line.group.name))
    return CostReport(by, start, end, lines, _line(total, bill, milliseconds_of(up)), machines)


def per_success(nanos: int, group: CostGroup) -> Fraction | None:
    """Nano-dollars for each request that succeeded; None where none did."""
    return Fraction(nanos, group.succeeded) if group.succeeded else None


def per_million_tokens(nanos: int, group: CostGroup) -> Fraction | None:
    """Nano-dollars for a million tokens, read and written together; None where there are none."""
    tokens = group.input_tokens + group.output_tokens
    return Fraction(nanos * 1_000_000, tokens) if tokens > 0 else None


def _line(group: CostGroup, paid: int, milliseconds: int) -> CostLine:
    return CostLine(group, paid - group.own_nanos, milliseconds)


def _machine_lines(spans: Sequence[Span], prices: HourPrices) -> tuple[MachineLine, ...]:
    kinds = sorted({span.kind for span in spans})
    of_kind = {kind: [span for span in spans if span.kind == kind] for kind in kinds}
    rounded = round_together([cost_of(of_kind[kind], prices) for kind in kinds])
    return tuple(
        MachineLine(kind, milliseconds_of(of_kind[kind]), nanos, kind in prices)
        for kind, nanos in zip(kinds, rounded, strict=True)
    )


def _shares(
    by: CostBy, spans: Sequence[Span], prices: HourPrices, bill: int
) -> dict[str, tuple[int, int]] | None:
    """Nano-dollars and milliseconds of machines of each group, together the bill; None: they are of no group."""
    parts: dict[str, list[Span]] = {}
    if by == "all":
        return {"": (bill, milliseconds_of(spans))}
    if by == "release":
        for span in spans:
            parts.setdefault(span.release, []).append(span)
    elif by == "day":
        for day, span in by_day(spans):
            parts.setdefault(f"{datetime.fromtimestamp(day / 1000, UTC):%Y-%m-%d}", []).append(span)
    else:
        return None
    names = sorted(parts)
    rounded = round_together([cost_of(parts[name], prices) for name in names])
    return {name: (nanos, milliseconds_of(parts[name])) for name, nanos in zip(names, rounded, strict=True)}
