"""What a run of the tuner found, as a table, a Markdown file and a plot, and as evidence for the manifest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.artifacts.tuning import Tried, Tuning
from trireme.tune.paired_rounds import Final, Outcome
from trireme.tune.search import ABOVE, Found, Trial
from trireme.tune.setting import Setting

if TYPE_CHECKING:
    from rich.table import Table

MARKDOWN, PLOT = "trade-off.md", "trade-off.png"
HEADER = ("setting", "in flight", "req/s", "p50 ms", "p95 ms", "p99 ms", "runs", "end")
# What fits into 80 columns.
TERMINAL = tuple(name for name in HEADER if name not in ("p50 ms", "p99 ms"))
WINS, STAYS, PRESENT, LOSES = "best", "stays", "present", "not better"
PLOT_INSTALL = "no plot: matplotlib is missing; install it with: pip install 'trireme[bench]'"


@dataclass(frozen=True, slots=True)
class TuneReport:
    """One run. `machine`, `versions`, `workload` and `date` say where, on what and when.

    `rounds` were asked for; the finals have fewer where the time was up.
    """

    target: str
    slo_p95_ms: float
    found: Found
    outcome: Outcome
    workload: str
    workload_sha256: str
    machine: str
    versions: dict[str, str]
    date: str
    command: str
    rounds: int

    @property
    def start(self) -> Setting:
        """The present setting."""
        return self.outcome.present.setting


def list_tried(report: TuneReport) -> Iterator[Tried]:
    """Finalists first, best first; then every setting of the search at its best, or nearest, concurrency."""
    outcome = report.outcome
    for final in sorted(outcome.finals, key=lambda each: (not each.is_within, -each.point.requests_per_s)):
        yield _note(final.setting, final, _judge(final, outcome))
    for trial in report.found.trials:
        point = trial.find_best(report.slo_p95_ms) or trial.find_nearest()
        if point is None:
            # The place of a log is of no use in evidence.
            reason = textwrap.shorten(trial.reason.partition(" (log:")[0], 200, placeholder=" ...")
            yield Tried(dict(trial.setting.values), 0, 0, 0.0, 0.0, 0.0, 0.0, f"{trial.end}: {reason}")
        else:
            yield _note(trial.setting, trial, trial.end, point.concurrency)


def _note(setting: Setting, measured: Final | Trial, end: str, concurrency: int = 0) -> Tried:
    if isinstance(measured, Final):
        point, rounds = measured.point, len(measured.rounds)
    else:
        point, rounds = next(each for each in measured.points if each.concurrency == concurrency), 0
    return Tried(
        setting=dict(setting.values),
        concurrency=point.concurrency,
        rounds=rounds,
        requests_per_s=round(point.requests_per_s, 2),
        p50_ms=round(point.p50_ms, 3),
        p95_ms=round(point.p95_ms, 3),
        p99_ms=round(point.p99_ms, 3),
        end=end,
    )


def _judge(final: Final, outcome: Outcome) -> str:
    if not final.is_within:
        return ABOVE
    if final is outcome.winner:
        return STAYS if final is outcome.present else WINS
    return PRESENT if final is outcome.present else LOSES


def make_tuning(report: TuneReport, model: str) -> Tuning:
    """The evidence for one model's manifest. The outcome must have a winner."""
    outcome = report.outcome
    winner = outcome.winner or outcome.present
    is_kept = winner is outcome.present
    return Tuning(
        target=report.target,
        slo_p95_ms=report.slo_p95_ms,
        date=report.date,
        workload=report.workload,
        workload_sha256=report.workload_sha256,
        machine=report.machine,
        versions=report.versions,
        before=report.start.values_of(model),
        after=winner.setting.values_of(model),
        concurrency=winner.point.concurrency,
        requests_per_s=round(winner.point.requests_per_s, 2),
        p95_ms=round(winner.point.p95_ms, 3),
        gain=0.0 if is_kept else round(outcome.gain, 4),
        noise=round(outcome.noise, 4),
        tried=tuple(list_tried(report)),
    )


def describe_outcome(report: TuneReport) -> str:
    """One or two sentences: what is best, and why it is written or not."""
    outcome, limit = report.outcome, f"{report.slo_p95_ms:g} ms"
    if outcome.winner is None:
        near = outcome.nearest
        return (
            f"Nothing meets a p95 of {limit}. The nearest is {near.point.p95_ms:.1f} ms with"
            f" {near.point.concurrency} in flight ({near.setting.describe(report.start)})."
        )
    winner = outcome.winner.point
    rate, load = f"{winner.requests_per_s:.1f} requests/s", f"{winner.concurrency} in flight"
    figures = f"{rate} at p95 {winner.p95_ms:.1f} ms, {load}"
    if outcome.winner is not outcome.present:
        before = outcome.present.point
        change = f"{outcome.gain:+.1%}, noise {outcome.noise:.1%}"
        if not outcome.present.is_within:
            change = f"the present setting is above the limit with {before.p95_ms:.1f} ms"
        return f"Best: {outcome.winner.setting.describe(report.start)}: {figures} ({change})."
    if len(outcome.finals) == 1:
        return f"The present setting is the only one: {figures}."
    stays = (
        f"The present setting stays: {figures}. The best other one gives {outcome.gain:+.1%}, and the rounds"
        f" differ by {outcome.noise:.1%} by themselves."
    )
    measured = len(outcome.present.rounds)
    if measured < report.rounds:
        stays += (
            f" The time was up after {measured} of {report.rounds} rounds; more --minutes tell smaller gains"
            " from noise."
        )
    return stays


def make_table(report: TuneReport, limit: int = 12) -> Table:
    """The finalists and the best of the search, for the terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in TERMINAL:
        is_text = name in (HEADER[0], HEADER[-1])
        wraps = name == HEADER[0]
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not wraps, overflow="fold")
    tried = list(list_tried(report))
    finals = len(report.outcome.finals)
    rest = sorted(tried[finals:], key=lambda each: -each.requests_per_s)
    for each in [*tried[:finals], *rest[: max(limit - finals, 0)]]:
        cells = dict(zip(HEADER, _cells(each, report.start), strict=True))
        table.add_row(*(cells[name].partition(":")[0] for name in TERMINAL))
    return table


def format_markdown(report: TuneReport, has_plot: bool) -> str:
    """The whole run as Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    complete = "until no step helped any more" if report.found.is_complete else "until the time was up"
    return "\n".join(
        [
            f"# {report.target}: most requests per second within a p95 of {report.slo_p95_ms:g} ms",
            "",
            describe_outcome(report),
            "",
            *([f"![requests per second against p95]({PLOT})", ""] if has_plot else []),
            f"- Machine: {report.machine}",
            f"- Versions: {versions}",
            f"- Workload: {report.workload}, sha256 {report.workload_sha256[:12]}",
            f"- {report.date}: `{report.command}`",
            f"- {len(report.found.trials)} settings, searched {complete}",
            f"- Present setting: {report.start.describe()}",
            "",
            "Finalists (medians over their rounds), then every setting of the search (one short run each):",
            "",
            *_format_rows([list(HEADER), *(_cells(each, report.start) for each in list_tried(report))]),
            "",
        ]
    )


def _format_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(HEADER) - 2), "---"]
    return ["| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]]]


def _cells(each: Tried, start: Setting) -> list[str]:
    words = Setting(tuple(each.setting.items())).describe(start)
    if not each.concurrency:
        return [words, *[""] * 6, each.end]
    return [
        words,
        str(each.concurrency),
        f"{each.requests_per_s:.1f}",
        f"{each.p50_ms:.1f}",
        f"{each.p95_ms:.1f}",
        f"{each.p99_ms:.1f}",
        str(each.rounds or 1),
        each.end,
    ]


def write_report(report: TuneReport, folder: Path) -> str | None:
    """Writes Markdown and plot into `folder`. Returns what is to be said where there is no plot."""
    notice = plot(report, folder / PLOT)
    (folder / MARKDOWN).write_text(format_markdown(report, notice is None), encoding="utf-8")
    return notice


def plot(report: TuneReport, path: Path) -> str | None:
    """Requests per second against p95 of everything measured. Returns a sentence without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return PLOT_INSTALL
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for trial in report.found.trials:
        x = [point.p95_ms for point in trial.points]
        y = [point.requests_per_s for point in trial.points]
        axes.plot(x, y, "o-", color="0.7", markersize=3, linewidth=0.8, zorder=1)
    marks = [(report.outcome.present, "present setting", "tab:blue", "s")]
    winner = report.outcome.winner
    if winner is not None and winner is not report.outcome.present:
        marks.append((winner, "best", "tab:green", "*"))
    for final, name, colour, marker in marks:
        point = final.point
        label = f"{name}: {point.requests_per_s:.0f}/s, p95 {point.p95_ms:.1f} ms"
        axes.scatter(
            [point.p95_ms], [point.requests_per_s], s=90, c=colour, marker=marker, label=label, zorder=3
        )
    axes.axvline(report.slo_p95_ms, color="tab:red", linestyle="--", label=f"limit {report.slo_p95_ms:g} ms")
    axes.set(
        title=f"{report.target}: every setting tried, by requests in flight",
        xlabel="p95 in ms",
        ylabel="requests per second",
        ylim=(0, None),
        xscale="log",
    )
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.legend()
    figure.savefig(path, dpi=120)
    return None
