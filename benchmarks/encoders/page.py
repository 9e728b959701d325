"""The figures of docs/performance.md that a template does not compute, and its plots."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.report import format_cell, render
from benchmarks.encoders import bars, results
from benchmarks.encoders.bars import MIXED, PASSAGES, judge
from benchmarks.encoders.results import OURS, BenchReport, compare, compute_pad_share, compute_share
from benchmarks.encoders.scenarios import IN_PROCESS

PLOTS = ("performance-throughput.png", "performance-latency.png")
SHORT = "a, 32 in flight"
IN_FLIGHT = ("c, 1 in flight", "c, 8 in flight", MIXED, "c, 128 in flight")
INK, GRID, OUR_COLOR = "#222222", "#dddddd", "#0b6e99"
COLORS = ("#c2571a", "#7a4fa3", "#3f7f3f", "#8a6d1a", "#a33a55", "#4a6a8a")
# Vectors of the same texts, cut and pooled alike, are nearer to fp32's than this; int8 stays well above it.
LEAST_COSINE = 0.9


def format_bars(report: BenchReport) -> str:
    """Every bar with what was measured, and whether it is met."""
    return render("encoders/bars.md.j2", bars=judge(report))


def format_document(report: BenchReport) -> str:
    """docs/performance.md."""
    cores = [point.other_cores for point in report.points]
    differ = [name for name, agrees in report.tokens_agree.items() if not agrees]
    far = {name: cosine for name, cosine in report.cosines.items() if cosine < LEAST_COSINE}
    has_errors = any(one.error for one in report.entrants)
    return render(
        "encoders/performance.md.j2",
        report=report,
        seen=report.circumstances,
        bars=judge(report),
        names=results,
        limits=bars,
        in_process=IN_PROCESS,
        others={"median": statistics.median(cores), "most": max(cores)} if cores else None,
        throughput=compute_throughput(report),
        loads=(*IN_FLIGHT, "c, 4 batches of 32 in flight"),
        poisson=[name for name in dict.fromkeys(p.scenario for p in report.points) if "Poisson" in name],
        padding=compute_pad_share(report, MIXED),
        differ=differ,
        far=far,
        is_whole=not (has_errors or report.failures or report.left_out or differ or far),
        plots=PLOTS,
    )


def compute_throughput(report: BenchReport) -> list[dict[str, Any]]:
    """Of each contender: texts per second on a, b and c, what a text costs, shares of the machine's rate."""
    rows = []
    for name in _contenders(report, (SHORT, PASSAGES, MIXED)):
        samples = [report.median(scenario, name) for scenario in (SHORT, PASSAGES, MIXED)]
        rows.append(
            {
                "name": name,
                "rates": [format_cell(sample.texts_per_s if sample else None, ",.1f") for sample in samples],
                "times": None if name == OURS else compare(report, MIXED, OURS, name),
                "cpu_ms": samples[2].cpu_ms_per_text if samples[2] else None,
                "of_int8": compute_share(report, PASSAGES, name, "int8"),
                "of_fp32": compute_share(report, PASSAGES, name, "fp32"),
            }
        )
    return rows


def _contenders(report: BenchReport, scenarios: Sequence[str]) -> list[str]:
    there = {name for scenario in scenarios for name in report.contenders(scenario)}
    return [one.name for one in report.entrants if one.name in there]


def plot(report: BenchReport, folder: Path) -> None:
    """Write both plots as PNG into `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    for name, draw, grid in zip(PLOTS, (_draw_throughput, _draw_latency), ("x", "both"), strict=True):
        figure, axis = pyplot.subplots(figsize=(7.6, 4.0))
        draw(axis, report)
        axis.grid(color=GRID, linewidth=0.6, axis=grid)
        axis.set_axisbelow(True)
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        figure.savefig(folder / name, dpi=150)
        pyplot.close(figure)


def _draw_throughput(axis: Any, report: BenchReport) -> None:
    found = [(sample.texts_per_s, n) for n in report.contenders(MIXED) if (sample := report.median(MIXED, n))]
    found.sort()
    colors = [OUR_COLOR if name.startswith("Trireme") else "#b9b9b9" for _, name in found]
    bars = axis.barh([name for _, name in found], [rate for rate, _ in found], color=colors)
    axis.bar_label(bars, labels=[f"{rate:.0f}" for rate, _ in found], padding=3, fontsize=8, color=INK)
    axis.set_xlabel("texts per second, workload c", color=INK)


def _draw_latency(axis: Any, report: BenchReport) -> None:
    others = iter(COLORS)
    for name in _contenders(report, IN_FLIGHT):
        series = [(int(s.split()[1]), x) for s in IN_FLIGHT if (x := report.median(s, name))]
        if len(series) < 2:
            continue
        color = OUR_COLOR if name == OURS else next(others, INK)
        counts = [count for count, _ in series]
        axis.plot(counts, [s.p50_ms for _, s in series], "o-", color=color, label=f"{name}, p50")
        axis.plot(counts, [s.p99_ms for _, s in series], "o:", color=color, label=f"{name}, p99")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("requests in flight, workload c", color=INK)
    axis.set_ylabel("latency, ms", color=INK)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, labelcolor=INK, fontsize=8)
