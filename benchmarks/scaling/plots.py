"""The plots of docs/autoscaling.md. They need the bench extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.scaling.policies import AWS
from benchmarks.scaling.study import ALL, AWS_FITTED, DEFAULT, FITTED, SPARE, STATIC, Judged, Report

TICKS = (0.5, 0.7, 1, 1.5, 2, 4, 8)
INK, LINE = "#333a42", "#e4e7eb"
MARKS = {
    AWS.name: ("o", "#c2703d"),
    AWS_FITTED: ("s", "#c2703d"),
    "llm-d token-aware": ("o", "#7a4f9a"),
    "backlog, 2 s, default behavior": ("x", "#8a8f98"),
    "vLLM production-stack, waiting 5": ("+", "#8a8f98"),
    DEFAULT: ("o", "#2f6f8f"),
    SPARE: ("^", "#2f6f8f"),
    FITTED: ("D", "#2f6f8f"),
    ALL: ("v", "#2f6f8f"),
    STATIC: ("1", INK),
}


def draw_frontier(report: Report, path: Path) -> None:
    """Late answers by replica-seconds, as shares of the AWS recipe's, of each load; a mark for each policy."""
    pyplot = _load_pyplot()
    columns = 3
    rows = -(-len(report.judged) // columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(11, 3.3 * rows), squeeze=False, sharex=True)
    for axis in axes.flat[len(report.judged) :]:
        axis.set_visible(False)
    for axis, judged in zip(axes.flat, report.judged, strict=False):
        _draw_load(axis, judged)
    for axis in axes[:, 0]:
        axis.set_ylabel("late answers, %", color=INK, fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("replica-seconds, of the AWS recipe's", color=INK, fontsize=8)
    found = dict(
        pair for axis in axes.flat for pair in zip(*axis.get_legend_handles_labels()[::-1], strict=True)
    )
    figure.legend(
        found.values(), found.keys(), loc="lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK
    )
    figure.tight_layout(rect=(0, 0.22 / rows, 1, 1))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_load(axis: Any, judged: Judged) -> None:
    recipe = next(one.replica_s for one in judged.outcomes if one.policy == AWS.name)
    line = sorted((one.replica_s / recipe, 100 * one.late) for one in judged.frontier)
    axis.plot(*zip(*line, strict=True), color="#2f6f8f", linewidth=0.8)
    best, *others = judged.outcomes
    for one in others:
        mark, color = MARKS[one.policy]
        axis.plot(
            one.replica_s / recipe,
            100 * one.late,
            mark,
            color=color,
            label=one.policy,
            markersize=6,
            alpha=0.85,
        )
    axis.plot(best.replica_s / recipe, 100 * best.late, "*", color=INK, label="static, with foresight")
    axis.axvline(1.0, color="#c9ced6", linewidth=0.8)
    axis.set_title(judged.load, color=INK, fontsize=9)
    axis.set_xscale("log")
    axis.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
    axis.set_xticks([], minor=True)
    axis.set_yscale("symlog", linthresh=0.5)
    axis.set_yticks((0, 0.5, 1, 2, 5, 10, 20, 50), ("0", "0.5", "1", "2", "5", "10", "20", "50"))
    axis.set_yticks([], minor=True)
    axis.set_ylim(-0.05, 100)
    _dress(axis)


def draw_day(report: Report, path: Path) -> None:
    """The work of a day and the replicas of some policies."""
    pyplot = _load_pyplot()
    series = report.series[0]
    figure, axis = pyplot.subplots(figsize=(11, 3.6))
    hours = [24 * (k + 0.5) / len(series.work) for k in range(len(series.work))]
    axis.fill_between(hours, series.work, color="#d5dbe1", step="mid", label="work, seconds a second")
    for name, counts in series.replicas.items():
        _, color = MARKS[name]
        style = ":" if name == DEFAULT else "-"
        axis.plot(hours, counts, style, color=color, linewidth=1.2, label=f"replicas, {name}")
    axis.set_xlim(0, 24)
    axis.set_ylim(bottom=0)
    axis.set_xlabel(f"hour of {series.load}", color=INK, fontsize=8)
    _dress(axis)
    axis.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _dress(axis: Any) -> None:
    axis.grid(color=LINE, linewidth=0.6)
    axis.tick_params(colors=INK, labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def _load_pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    return pyplot
