"""Tables of cost, releases and forecasts, in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trireme.budget.caps import EACH
from trireme.budget.dollars import write_dollars
from trireme.budget.forecast import forecast
from trireme.budget.periods import write_time
from trireme.budget.standing import place_of
from trireme.commands.tables import plain
from trireme.cost.machines import HOUR
from trireme.cost.port import CostGroup
from trireme.cost.releases import quality_of
from trireme.cost.report import CostLine, per_success

if TYPE_CHECKING:
    from rich.table import Table

    from trireme.budget.caps import Cap
    from trireme.budget.port import Counter
    from trireme.budget.standing import Place
    from trireme.cost.releases import ReleaseInfo
    from trireme.cost.report import CostReport


def forecast_table(caps: Sequence[Cap], counters: Mapping[Place, Counter], now: int) -> Table:
    """How each cap burns down: of those whose counters are known. now: milliseconds (Unix)."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tenant", "user", "window", "unit", "used", "at its end", "used up"):
        table.add_column(column, justify="right" if column in ("used", "at its end") else "left")
    for cap in caps:
        if (counter := counters.get(place_of(cap))) is None:
            continue
        found = forecast(cap, counter, now)
        is_money = found.unit == "nanos"
        amount = "" if found.at_end is None else f"{found.at_end:,}"
        if is_money and found.at_end is not None:
            amount = write_dollars(found.at_end)
        unsure = "too early to say" if found.at_end is None else "lasts"
        until = unsure if found.exhausted_at is None else write_time(found.exhausted_at // 1000 * 1000)
        whose = (escape(_whose(cap.tenant, "the gateway")), escape(_whose(cap.user, "")))
        unit = "dollars" if is_money else "tokens"
        table.add_row(*whose, cap.window, unit, f"{float(found.used):.1%}", amount, until)
    return table


def cost_table(report: CostReport) -> Table:
    """Groups with what they used; with machines also what of them was idle, and a line of all."""
    from rich.markup import escape
    from rich.table import Table

    has_idle = report.total.idle_nanos is not None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(report.by, overflow="fold")
    paid = ["idle", "paid"] if has_idle else []
    for column in ("requests", "succeeded", "failed", "tokens", "used", *paid, "each success", "saved"):
        table.add_column(column, justify="right")
    for line in (*report.lines, report.total):
        group, is_total = line.group, line is report.total
        tokens = group.input_tokens + group.output_tokens
        counts = (group.requests, group.succeeded, group.failed, tokens)
        money = [write_dollars(line.usage_nanos)]
        if has_idle and line.idle_nanos is not None:
            money += [write_dollars(line.idle_nanos), write_dollars(line.allocation_nanos)]
        elif has_idle:
            money += ["", ""]
        each = per_success(line.allocation_nanos, group)
        money += ["" if each is None else write_dollars(round(each)), write_dollars(group.saved_nanos)]
        name = plain(escape(group.name)) or "none"
        table.add_row(name, *(f"{one:,}" for one in counts), *money, style="bold" if is_total else "")
    return table


def machines_table(report: CostReport) -> Table:
    """Own machines by kind: hours that they were up, and what these cost."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("machines", "hours", "dollars"):
        table.add_column(column, justify="left" if column == "machines" else "right")
    for line in report.machines:
        dollars = write_dollars(line.nanos) if line.is_priced else "no price"
        table.add_row(escape(line.kind), f"{line.milliseconds / HOUR:,.2f}", dollars)
    return table


def releases_table(releases: Sequence[ReleaseInfo]) -> Table:
    """Releases with their deploys and notes, the last one first."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("release", "version", "revision", "deployed", "models", "notes"):
        table.add_column(column, justify="right" if column == "models" else "left", overflow="fold")
    for one in releases:
        last = write_time(one.deployed[-1] // 1000 * 1000)
        more = f" and {len(one.deployed) - 1} times before" if len(one.deployed) > 1 else ""
        notes = "\n".join(plain(escape(note.note)) for note in one.notes)
        row = (escape(one.name), escape(one.version), one.revision[:9], f"{last}{more}")
        table.add_row(*row, str(len(one.models)), notes)
    return table


def comparison_table(releases: Sequence[ReleaseInfo], report: CostReport) -> Table:
    """Releases side by side, a column each: what they cost, how they answered, and their models' figures."""
    from rich.markup import escape
    from rich.table import Table

    lines = {line.group.name: line for line in report.lines}
    shown = [(one, lines.get(one.name) or CostLine(CostGroup(one.name))) for one in releases]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for one, _ in shown:
        table.add_column(escape(one.name), justify="right", overflow="fold")
    for name in _COMPARED:
        table.add_row(name, *(_compared(line)[name] for _, line in shown))
    figures = [quality_of(one) for one, _ in shown]
    for name in dict.fromkeys(name for found in figures for name in found):
        values = [found.get(name) for found in figures]
        # A model that is the same in all of them tells nothing of the difference.
        if len(set(values)) > 1 or len(values) == 1:
            table.add_row(escape(name), *("" if one is None else f"{one:.4f}" for one in values))
    return table


_COMPARED = (
    "requests",
    "succeeded",
    "failed",
    "errors",
    "answer p50, ms",
    "answer p95, ms",
    "first content p50, ms",
    "tokens",
    "machine hours",
    "used, dollars",
    "idle, dollars",
    "paid, dollars",
    "each success, dollars",
    "saved, dollars",
)


def _compared(line: CostLine) -> dict[str, str]:

    group = line.group
    each = per_success(line.allocation_nanos, group)
    ended = group.succeeded + group.failed
    values = (
        f"{group.requests:,}",
        f"{group.succeeded:,}",
        f"{group.failed:,}",
        f"{group.failed / ended:.2%}" if ended else "",
        f"{group.took[0]:,}" if group.took else "",
        f"{group.took[1]:,}" if group.took else "",
        f"{group.first[0]:,}" if group.first else "",
        f"{group.input_tokens + group.output_tokens:,}",
        f"{line.machine_milliseconds / HOUR:,.2f}",
        write_dollars(line.usage_nanos),
        "" if line.idle_nanos is None else write_dollars(line.idle_nanos),
        write_dollars(line.allocation_nanos),
        "" if each is None else write_dollars(round(each)),
        write_dollars(group.saved_nanos),
    )
    return dict(zip(_COMPARED, values, strict=True))


def _whose(name: str, nobody: str) -> str:
    return "each" if name == EACH else name or nobody
