"""What a run found, and the page and the plot that show it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.report import Circumstances, render
from benchmarks.gateway.arrivals import Times

DIRECT = "direct"
WHOLE, STREAMED = "whole", "streamed"
MODES = (WHOLE, STREAMED)
PLAIN = "Trireme"
# Beside it with budgets and caches, where nothing is found and where all is.
BUDGETED, HITS = "Trireme, budgets and caches", "Trireme, kept answers"
PLOT = "gateway-speed.png"
INK, GRID = "#222222", "#dddddd"
COLORS = {"Trireme": "#0b6e99", "Trireme, budgets and caches": "#5b8c3a", "LiteLLM": "#c2571a"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One way (direct, or through a gateway) at one rate in one round. Times are from when a request was due.

    failed: answers that were wrong, and timeouts; each counts as slow as a timeout. late: requests that the load
    generator itself sent over 5 ms late. cpu_ms: processor time of the gateway for each request. load: average
    over one minute when it ended.
    """

    way: str
    mode: str
    rate: float
    round: int
    requests: int
    failed: int
    late: int
    total: Times
    first: Times | None
    cpu_ms: float
    load: float
    errors: dict[str, int]


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate that was tried; added_ms: to the p99, of the first content or of the end, whichever is more."""

    rate: float
    added_ms: float
    failed: int
    held: bool


@dataclass(frozen=True, slots=True)
class HighestRate:
    """The highest rate a second that held the bound; 0 where the lowest one that was tried did not."""

    way: str
    mode: str
    rate: float
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingRates:
    """Texts a second, one figure a round, each way with the same requests in flight."""

    in_flight: int
    batch: int
    gateway: tuple[float, ...]
    grpc: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Soak:
    """Streams dropped at random moments. rss_mib: of the gateway, at even distances in time.

    clear_s: from the end or drop of the last one until the gateway counted nothing running; negative: it never did.
    upstream_running: what the fake upstream still sent then; upstream_left: answers that it was told to stop.
    """

    seconds: float
    streams: int
    dropped: int
    failed: int
    clear_s: float
    upstream_running: int
    upstream_left: int
    connections: tuple[int, ...]
    rss_mib: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What one run found. versions: of each gateway. missing: what was not measured, and why."""

    samples: tuple[Sample, ...]
    highest: tuple[HighestRate, ...]
    bound_ms: float
    delay_ms: float
    chunks: int
    gap_ms: float
    seconds: float
    rounds: int
    versions: dict[str, dict[str, str]]
    missing: dict[str, str]
    embeddings: EmbeddingRates | None
    soak: Soak | None
    circumstances: Circumstances

    def ways(self) -> list[str]:
        """Those that were measured, direct first, without kept answers: they ask nobody."""
        return list(dict.fromkeys(one.way for one in self.samples if one.way != HITS))

    def rates(self) -> list[float]:
        return sorted({one.rate for one in self.samples})


Pick = Callable[[Sample], float]


def pick_total(percentile: str) -> Pick:
    return lambda sample: float(getattr(sample.total, percentile))


def pick_first(percentile: str) -> Pick:
    return lambda sample: float(getattr(sample.first, percentile))


def find(samples: Iterable[Sample], way: str, mode: str, rate: float) -> list[Sample]:
    """The rounds of one row."""
    return [one for one in samples if (one.way, one.mode, one.rate) == (way, mode, rate)]


def compute_median(samples: Sequence[Sample], pick: Pick) -> float:
    return statistics.median(pick(one) for one in samples)


def compute_added(samples: Sequence[Sample], way: str, mode: str, rate: float, pick: Pick) -> float:
    """Median over the rounds of what a way adds to a percentile of the direct way in the same round."""
    direct = {one.round: pick(one) for one in find(samples, DIRECT, mode, rate)}
    there = [one for one in find(samples, way, mode, rate) if one.round in direct]
    return statistics.median(pick(one) - direct[one.round] for one in there)


def compute_rows(report: GatewayReport, mode: str) -> list[dict[str, Any]]:
    """Of each rate and way: percentiles, what is added to them, faults, processor time."""
    rows = []
    for rate in report.rates():
        for way in report.ways():
            found = find(report.samples, way, mode, rate)
            if not found:
                continue
            kinds = {"total": pick_total} | ({"first": pick_first} if mode == STREAMED else {})
            row: dict[str, Any] = {
                "rate": rate,
                "way": way,
                "requests": sum(one.requests for one in found),
                "failed": sum(one.failed for one in found),
                "late": sum(one.late for one in found),
                "cpu_ms": compute_median(found, lambda one: one.cpu_ms) if way != DIRECT else None,
            }
            for kind, pick in kinds.items():
                for name in ("p50_ms", "p99_ms", "p999_ms"):
                    row[f"{kind}_{name}"] = compute_median(found, pick(name))
                    added = compute_added(report.samples, way, mode, rate, pick(name))
                    row[f"{kind}_added_{name}"] = added if way != DIRECT else None
            rows.append(row)
    return rows


def compute_own(samples: Sequence[Sample], way: str, mode: str, rate: float, pick: Pick) -> float:
    """Median over the rounds of a gateway's own time: what it adds, and all of a kept answer."""
    if way == HITS:
        return compute_median(find(samples, way, mode, rate), pick)
    return compute_added(samples, way, mode, rate, pick)


def compute_budget_rows(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Of each mode, rate and way of ours: its own time to the first content (streams) or the whole answer, and
    beside the plain way's of the same rounds as difference and ratio; nothing without budgets and caches."""
    rows = []
    if BUDGETED not in {one.way for one in samples}:
        return []
    for mode in MODES:
        pick = pick_first if mode == STREAMED else pick_total
        for rate in sorted({one.rate for one in samples}):
            for way in (PLAIN, BUDGETED, HITS):
                found = find(samples, way, mode, rate)
                if not found:
                    continue
                row: dict[str, Any] = {"mode": mode, "rate": rate, "way": way}
                row["cpu_ms"] = compute_median(found, lambda one: one.cpu_ms)
                row["failed"] = sum(one.failed for one in found)
                row["requests"] = sum(one.requests for one in found)
                for name in ("p50_ms", "p99_ms"):
                    own = row[f"own_{name}"] = compute_own(samples, way, mode, rate, pick(name))
                    plain = compute_own(samples, PLAIN, mode, rate, pick(name))
                    row[f"more_{name}"] = own - plain if way != PLAIN else None
                    row[f"ratio_{name}"] = own / plain if way != PLAIN and plain > 0 else None
                rows.append(row)
    return rows


def compute_most_added(rows: Sequence[dict[str, Any]]) -> float:
    """The most that budgets and caches add to a p50 where nothing is found, ms."""
    return max(float(row["more_p50_ms"]) for row in rows if row["way"] == BUDGETED)


def compute_highest(report: GatewayReport) -> list[dict[str, Any]]:
    """Of each mode: the highest rate of each way, and ours as a multiple of the other's."""
    rows = []
    for mode in MODES:
        rates = {one.way: one.rate for one in report.highest if one.mode == mode}
        if not rates:
            continue
        ours, theirs = rates.get(PLAIN), rates.get("LiteLLM")
        lowest = min(probe.rate for one in report.highest for probe in one.probes)
        times = None if ours is None or theirs is None else ours / (theirs or lowest)
        rows.append({"mode": mode, "rates": rates, "times": times, "is_least": theirs == 0})
    return rows


def format_document(report: GatewayReport) -> str:
    """docs/gateway-speed.md."""
    embeddings = report.embeddings
    ratio = None
    if embeddings is not None:
        pairs = zip(embeddings.gateway, embeddings.grpc, strict=True)
        ratio = statistics.median(ours / theirs for ours, theirs in pairs)
    return render(
        "gateway/speed.md.j2",
        report=report,
        seen=report.circumstances,
        whole=compute_rows(report, WHOLE),
        streamed=compute_rows(report, STREAMED),
        highest=compute_highest(report),
        budgets=compute_budget_rows(report.samples),
        ratio=ratio,
        loads=[one.load for one in report.samples],
        plot=PLOT,
    )


def plot(report: GatewayReport, folder: Path) -> None:
    """What each gateway adds to p50 and p99, by the rate, as PNG in `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    for axis, mode in zip(axes, MODES, strict=True):
        _draw(axis, report, mode)
        axis.set_title(mode if mode == WHOLE else "streamed, first content", fontsize=9, color=INK)
        axis.grid(color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("added, ms", color=INK)
    axes[0].legend(frameon=False, labelcolor=INK, fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / PLOT, dpi=150)
    pyplot.close(figure)


def _draw(axis: Any, report: GatewayReport, mode: str) -> None:
    kind = "first" if mode == STREAMED else "total"
    rows = compute_rows(report, mode)
    for way in report.ways():
        series = [row for row in rows if row["way"] == way]
        if way == DIRECT or not series:
            continue
        rates = [row["rate"] for row in series]
        for percentile, style in (("p50_ms", "o-"), ("p99_ms", "o:")):
            # A logarithm has no place for a difference of nothing.
            added = [max(row[f"{kind}_added_{percentile}"], 0.01) for row in series]
            label = f"{way}, {percentile.removesuffix('_ms')}"
            axis.plot(rates, added, style, color=COLORS.get(way, INK), label=label)
    axis.set_yscale("log")
    axis.set_xscale("log")
    axis.set_xlabel("requests a second", color=INK)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
