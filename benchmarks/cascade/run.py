"""Cost against quality of cascades on SQuAD, from answers that benchmarks.cascade.collect has labelled.

Thresholds are fitted on three of the held-out articles and judged by the other three. Writes docs/cascade.md and
its plot; with --data it collects first what the file of answers does not have, without --answers it writes the page
from the last results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cascade.collect import add_options, collect
from benchmarks.cascade.figures import (
    EXTRACTIVE,
    FIRST,
    FLOOR,
    GENERATIVE,
    MOST_CALLS,
    CascadeReport,
    make_report,
    mix,
)
from benchmarks.common.report import DOCS, RESULTS, read_circumstances, read_record, render, write_json
from benchmarks.common.script import make_parser, run_script
from trireme.cascade.calibration import write_calibration
from trireme.cascade.features import FIRST_TOKENS
from trireme.cascade.labelled import read_labelled
from trireme.cascade.threshold import Big
from trireme.errors import InvalidInputError

RECORD, PAGE, PLOT = "cascade.json", "cascade.md", "cascade.png"
INK = "#333a42"
COLORS = ("#2f6f8f", "#c2703d", "#5b8c5a", "#7a4f9a")


def format_page(report: CascadeReport) -> str:
    """The page in Markdown."""
    return render(
        "cascade/cascade.md.j2",
        report=report,
        seen=report.circumstances,
        floor=FLOOR,
        most=MOST_CALLS,
        goal=FLOOR * report.big_quality,
        first=FIRST_TOKENS,
        names={"extractive": EXTRACTIVE, "generative": GENERATIVE, "first": FIRST},
        plot=PLOT,
    )


def plot(report: CascadeReport, folder: Path) -> None:
    """Quality by the share of calls of the big model, as PNG in `folder`. Needs the bench extra."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7.6, 4.8))
    alone = {one.name: one.right.mean for one in report.steps}
    for color, cascade in zip(COLORS, report.cascades, strict=False):
        name = ", then ".join(cascade.steps)
        small = alone[cascade.steps[-1]]
        calls = [at.escalated for at in cascade.curve]
        axis.plot(
            calls, [at.quality for at in cascade.curve], color=color, label=f"{name}, then the big model"
        )
        axis.plot(
            [0, 1], [small, mix(small, report.big_quality, 1.0)], color=color, linestyle=":", linewidth=1
        )
        axis.plot(0, small, marker="o", color=color)
        axis.plot(cascade.sure.escalated.mean, cascade.sure.quality.mean, marker="D", color=color)
    axis.plot(1, report.big_quality, marker="s", color=INK, label="always the big model")
    _dress(axis, report)
    figure.tight_layout()
    figure.savefig(folder / PLOT, dpi=150)
    pyplot.close(figure)


def _dress(axis: Any, report: CascadeReport) -> None:
    goal = FLOOR * report.big_quality
    axis.axhline(goal, color="#c9ced6", linewidth=0.8)
    axis.axvline(MOST_CALLS, color="#c9ced6", linewidth=0.8)
    axis.set_xlabel("calls of the big model, share of the questions", color=INK)
    axis.set_ylabel("right answers, share of the questions", color=INK)
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(0, 1)
    axis.grid(color="#e4e7eb", linewidth=0.6)
    axis.tick_params(colors=INK, labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower right")


def read_costs(pairs: Sequence[Sequence[str]]) -> dict[str, float]:
    """Costs by step. Raises InvalidInputError."""
    try:
        return {step: float(cost) for step, cost in pairs}
    except ValueError as error:
        raise InvalidInputError(f"a cost must be a number: {error}") from None


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Computes the figures where there are answers, and writes results, page, plot and calibrations."""
    seen = read_circumstances("benchmarks.cascade.run", words, options.seed)
    if options.data is not None:
        if options.answers is None:
            raise InvalidInputError("--data needs --answers, the file that the labelled answers go to")
        collect(argparse.Namespace(**{**vars(options), "out": options.answers}))
    if options.answers is not None:
        answers = list(read_labelled(options.answers))
        costs = {EXTRACTIVE: 0.01, GENERATIVE: 0.05, FIRST: 0.05} | read_costs(options.cost)
        report, calibrations = make_report(answers, Big(1 - options.big_error), costs, seen)
        write_json(RESULTS / RECORD, report)
        if options.calibrations is not None:
            options.calibrations.mkdir(parents=True, exist_ok=True)
            for step, calibration in calibrations:
                name = step.replace(",", "").replace(" ", "-")
                write_calibration(options.calibrations / f"{name}.json", calibration)
    report = read_record(RESULTS / RECORD, CascadeReport)
    plot(report, DOCS)
    page = format_page(report)
    (DOCS / PAGE).write_text(page, encoding="utf-8")
    print(page)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--answers", type=Path, help="what benchmarks.cascade.collect wrote")
    parser.add_argument(
        "--data", type=Path, help="the folder that holds qa/ and retrieval/squad: collect first"
    )
    add_options(parser)
    parser.add_argument(
        "--big-error",
        type=float,
        default=0.05,
        help="wrong answers of the stand-in for the big model (default 0.05)",
    )
    parser.add_argument(
        "--cost",
        nargs=2,
        action="append",
        default=[],
        metavar=("STEP", "COST"),
        help="of a step's answer, in calls of the big model",
    )
    parser.add_argument("--calibrations", type=Path, help="a folder to write each step's calibration to")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
