"""The benchmark's figures as tables, plots and the page docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Circumstances, format_circumstances, format_table
from server_load import StepLoad

from trireme.triton.perf_analyzer import PerfFigures

THROUGHPUT_PLOT = "performance-throughput.png"
LATENCY_PLOT = "performance-latency.png"
CLIENT_HEADER = ("model", "in flight", "batching", "requests/s", "p50 ms", "p95 ms", "p99 ms", "requests")
STEP_HEADER = ("request to", "in flight", "step", "requests/run", "queue ms", "compute ms", "padding")
CORES_HEADER = ("model", "in flight", "batching", "client cores", "server cores", "busy cores, all processes")
INK, GRID, SERIES = "#222222", "#dddddd", {True: "#0b6e99", False: "#c2571a"}
NOTABLE_PADDING = 0.1
NAMES = {True: "on", False: "off"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """One perf_analyzer run and its cost. Cores are seconds of processor time per second of the run."""

    dynamic_batching: bool
    client: PerfFigures
    steps: tuple[StepLoad, ...]
    server_cores: float
    busy_cores: float


@dataclass(frozen=True, slots=True)
class TokenizerTime:
    """Seconds to tokenize, and to tokenize and embed, `texts` texts of `tokens` tokens without a server."""

    texts: int
    tokens: int
    tokenize_s: float
    embed_s: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything one run of the benchmark found. `passages` is the size of the searched collection."""

    passages: int
    points: tuple[Measurement, ...]
    tokenizer: TokenizerTime
    circumstances: Circumstances


def format_client_table(points: Iterable[Measurement]) -> str:
    """What the client saw. An asterisk marks rows with too few answers for three windows."""
    return format_table(
        CLIENT_HEADER,
        [
            (
                point.client.model,
                str(point.client.concurrency),
                NAMES[point.dynamic_batching],
                f"{point.client.requests_per_s:.1f}",
                *(f"{ms:.1f}" for ms in (point.client.p50_ms, point.client.p95_ms, point.client.p99_ms)),
                f"{point.client.requests}{'' if point.client.windows > 1 else ' *'}",
            )
            for point in points
        ],
    )


def format_step_table(points: Iterable[Measurement]) -> str:
    """Where a request's time goes in the server, step by step."""
    return format_table(
        STEP_HEADER,
        [
            (
                point.client.model,
                str(point.client.concurrency),
                step.model,
                f"{step.requests_per_execution:.1f}",
                f"{step.queue_ms:.1f}",
                f"{step.compute_ms:.1f}",
                f"{step.pad_share:.0%}" if step.tokens else "",
            )
            for point in points
            for step in point.steps
            # The ensemble's own counters repeat the sum of its steps.
            if step.model != "search"
        ],
    )


def format_cores_table(points: Iterable[Measurement]) -> str:
    """Who used the processor."""
    return format_table(
        CORES_HEADER,
        [
            (
                point.client.model,
                str(point.client.concurrency),
                NAMES[point.dynamic_batching],
                f"{point.client.client_cores:.2f}",
                f"{point.server_cores:.2f}",
                f"{point.busy_cores:.2f}",
            )
            for point in points
        ],
    )


def find_limits(report: BenchReport) -> list[str]:
    """Sentences on what is in the way of more, each with the figures it rests on."""
    cores, timed = report.circumstances.cores, report.tokenizer
    alone = timed.texts / timed.embed_s
    found = [
        f"The encoder alone, in one process without a server, embeds {alone:.0f} texts/s of "
        f"{timed.tokens / timed.texts:.0f} tokens; tokenizing is {timed.tokenize_s / timed.embed_s:.1%} of that."
    ]
    for model, points in _group(report.points).items():
        batched = [point for point in points if point.dynamic_batching]
        most = max(batched, key=lambda point: point.client.concurrency)
        others = most.busy_cores - most.server_cores - most.client.client_cores
        found.append(
            f"`{model}`, {most.client.concurrency} in flight: the machine keeps {most.busy_cores:.2f} of "
            f"{cores} cores busy: the server {most.server_cores:.2f}, the client "
            f"{most.client.client_cores:.2f}, all else (the database among it) {max(others, 0.0):.2f}."
        )
        found += _compare_batching(model, points, most.client.concurrency)
        found += [_describe_slowest_step(model, most)] if most.steps else []
        found += _describe_padding(model, batched)
        if model == "embedding":
            share = most.client.requests_per_s / alone
            found.append(f"`embedding` through the server reaches {share:.0%} of the encoder alone.")
    return found


def _compare_batching(model: str, points: Sequence[Measurement], concurrency: int) -> list[str]:
    rates = {
        p.dynamic_batching: p.client.requests_per_s for p in points if p.client.concurrency == concurrency
    }
    if len(rates) < 2 or not rates[False]:
        return []
    return [
        f"`{model}`, {concurrency} in flight: dynamic batching changes requests/s by "
        f"{rates[True] / rates[False] - 1:+.0%}."
    ]


def _describe_slowest_step(model: str, point: Measurement) -> str:
    steps = [step for step in point.steps if step.model != "search"] or list(point.steps)
    slowest = max(steps, key=lambda step: step.queue_ms + step.compute_ms)
    return (
        f"`{model}`, {point.client.concurrency} in flight: the longest step is `{slowest.model}`, "
        f"{slowest.queue_ms:.0f} ms in its queue and {slowest.compute_ms:.0f} ms at work, "
        f"{slowest.requests_per_execution:.1f} requests a run."
    )


def _describe_padding(model: str, points: Sequence[Measurement]) -> list[str]:
    """The point at which this model itself pads most; nothing where padding costs little."""
    padded = [
        (step.pad_share, point.client.concurrency)
        for point in points
        for step in point.steps
        if step.model == model and step.pad_share > NOTABLE_PADDING
    ]
    return [
        f"`{model}`, {in_flight} in flight: {share:.0%} of the tokens it runs are padding."
        for share, in_flight in sorted(padded)[-1:]
    ]


def format_document(report: BenchReport) -> str:
    """docs/performance.md."""
    batched = [point for point in report.points if point.dynamic_batching]
    return f"""# Performance

Made by `make bench` (`benchmarks/bench.py`): perf_analyzer over gRPC, client and server on one machine, the
response cache off, inputs that do not repeat. `embedding` gets one text a request, `reranker` a query with 20
passages, `search` a query against {report.passages:,} passages. Figures are medians of three windows, latencies
as the client sees them. Both servers run side by side and are measured in turn. An asterisk marks rows with too
few answers for three windows: theirs is one.

{format_circumstances(report.circumstances)}

## What a client sees

{format_client_table(report.points)}

![Requests per second by requests in flight]({THROUGHPUT_PLOT})

![Latency by requests in flight]({LATENCY_PLOT})

## Where the time goes

Means per request from Triton's counters, dynamic batching on. "requests/run" is how many requests one execution
took together; padding is the share of the tokens run that only fill up rows.

{format_step_table(batched)}

Processor time, in cores. All processes include those that have no part in the run.

{format_cores_table(report.points)}

## What is in the way of more

{chr(10).join(f"- {sentence}" for sentence in find_limits(report))}
"""


def print_measurements(report: BenchReport) -> None:
    """The client's table and the limits, on stdout."""
    print(format_client_table(report.points))
    print()
    for sentence in find_limits(report):
        print(f"- {sentence}")


def plot(report: BenchReport, folder: Path) -> None:
    """Write both plots as PNG into `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    groups = _group(report.points)
    for name, draw in ((THROUGHPUT_PLOT, _draw_throughput), (LATENCY_PLOT, _draw_latency)):
        figure, axes = pyplot.subplots(1, len(groups), figsize=(4.2 * len(groups), 3.4), squeeze=False)
        for axis, (model, points) in zip(axes[0], groups.items(), strict=True):
            draw(axis, points)
            _dress(axis, model, sorted({point.client.concurrency for point in points}))
        axes[0][0].legend(frameon=False, labelcolor=INK, fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / name, dpi=150)
        pyplot.close(figure)


def _draw_throughput(axis: Any, points: Sequence[Measurement]) -> None:
    for batching, series in _split(points).items():
        in_flight = [point.client.concurrency for point in series]
        rates = [point.client.requests_per_s for point in series]
        axis.plot(in_flight, rates, "o-", color=SERIES[batching], label=f"dynamic batching {NAMES[batching]}")
    axis.set_ylabel("requests/s", color=INK)
    axis.set_ylim(bottom=0)


def _draw_latency(axis: Any, points: Sequence[Measurement]) -> None:
    from matplotlib.ticker import LogLocator

    for batching, series in _split(points).items():
        in_flight = [point.client.concurrency for point in series]
        for quantile, style in (("p50_ms", "o-"), ("p99_ms", "o:")):
            label = f"{quantile[:3]}, dynamic batching {NAMES[batching]}"
            latencies = [getattr(point.client, quantile) for point in series]
            axis.plot(in_flight, latencies, style, color=SERIES[batching], label=label)
    axis.set_ylabel("latency, ms", color=INK)
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("")


def _dress(axis: Any, title: str, ticks: Sequence[int]) -> None:
    axis.set_title(title, color=INK, fontsize=10)
    axis.set_xlabel("requests in flight", color=INK)
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.grid(color=GRID, linewidth=0.6)
    axis.tick_params(colors=INK, labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _group(points: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    groups: dict[str, list[Measurement]] = {}
    for point in points:
        groups.setdefault(point.client.model, []).append(point)
    return groups


def _split(points: Iterable[Measurement]) -> dict[bool, list[Measurement]]:
    return {batching: [p for p in points if p.dynamic_batching == batching] for batching in (True, False)}
