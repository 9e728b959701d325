"""Fits the steps of a cascade on labelled answers, chooses their thresholds together, and writes a file for each.

One JSON object a line: step (a label), versions (of each model that answered, its version), right (true or false),
evidence (as trireme.cascade.evidence has it), decide_after (the number of first tokens that the evidence is of;
without it, of whole answers) and, with several steps, id (of the question). Steps are asked in
the order in which they are given here; what none of them keeps goes to the big model.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from trireme.cascade.calibration import Calibration, write_calibration
from trireme.cascade.fit import Fitted, fit
from trireme.cascade.labelled import Labelled, read_labelled
from trireme.cascade.threshold import (
    Big,
    Choice,
    Interval,
    Outcome,
    StepAnswers,
    choose_thresholds,
    place_thresholds,
)
from trireme.errors import InvalidInputError, TriremeError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, or 1 where the floor does not hold at any threshold and nothing was written."""
    options = parse_arguments(arguments)
    steps = [(label, read_cost(cost), Path(out)) for label, cost, out in options.step]
    answers = list(itertools.chain.from_iterable(map(read_labelled, options.answers)))
    chosen = select(answers, [label for label, _, _ in steps], options.where)
    fitted = [fit(examples, options.seed) for examples in chosen]
    big = Big(options.big_quality, options.big_cost)
    played = [
        StepAnswers(one.chances, one.right, cost) for one, (_, cost, _) in zip(fitted, steps, strict=True)
    ]
    choice = choose_thresholds(played, big, options.floor, samples=options.samples, seed=options.seed)
    print(format_report(fitted, choice, big))
    if choice.sure is None:
        print(f"Nothing is written: no threshold keeps {options.floor:.0%} of the big model's quality.")
        return 1
    placed = place_thresholds([one.calibration for one in fitted], choice.sure, options.floor)
    for calibration, (_, _, out) in zip(placed, steps, strict=True):
        write_calibration(out, calibration)
        print(f"Written: {out}")
    return 0


def select(answers: Iterable[Labelled], labels: Sequence[str], where: Sequence[str]) -> list[list[Labelled]]:
    """For each step its answers; of several steps, those of the questions that every step answered.

    Raises InvalidInputError for a step without answers, and for ids that are missing or there twice.
    """
    wanted = dict(pair.split("=", 1) for pair in where)
    of_step: dict[str, list[Labelled]] = {label: [] for label in labels}
    others = set()
    for one in answers:
        if all(str(one.more.get(key)) == value for key, value in wanted.items()):
            others.add(one.step)
            if one.step in of_step:
                of_step[one.step].append(one)
    for label, found in of_step.items():
        if not found:
            known = ", ".join(map(repr, sorted(others))) or "none"
            raise InvalidInputError(f"there is no answer of step {label!r}; steps that have some: {known}")
    if len(labels) == 1:
        return list(of_step.values())
    by_id = {label: index_by_id(label, found) for label, found in of_step.items()}
    common = set.intersection(*(set(found) for found in by_id.values()))
    return [[found[id_] for id_ in sorted(common)] for found in by_id.values()]


def index_by_id(label: str, answers: Sequence[Labelled]) -> dict[str, Labelled]:
    """By the question's id. Raises InvalidInputError."""
    found: dict[str, Labelled] = {}
    for one in answers:
        key = one.more.get("id")
        if not isinstance(key, str) or key in found:
            what = "is there twice" if key in found else "must be a text: steps are joined by it"
            raise InvalidInputError(f"id {key!r} of step {label!r} {what}")
        found[key] = one
    return found


def format_report(fitted: Sequence[Fitted], choice: Choice, big: Big) -> str:
    """What was fitted and chosen, in plain sentences."""
    lines = []
    for one in fitted:
        seen, made = one.figures, one.calibration
        lines += [
            f"{made.step}: {seen.examples} answers, {seen.right:.1%} right, judged by {describe_length(made)}",
            "  features: "
            + ", ".join(
                f"{name} {weight:+.2f}" for name, weight in zip(made.features, made.weights, strict=True)
            ),
            f"  on answers that were not fitted on: AUC {seen.auc:.3f},"
            f" ECE {seen.ece_before:.3f} before the isotonic map, {seen.ece_after:.3f} after it",
        ]
    floor = f"{choice.floor:.0%} of the big model's quality of {big.quality:.1%}"
    lines += describe(choice.sure, fitted, f"At least {floor}, at the interval's lower end:")
    if choice.likely != choice.sure:
        lines += describe(choice.likely, fitted, f"At least {floor}, by the mean alone (not written):")
    return "\n".join(lines)


def describe(outcome: Outcome | None, fitted: Sequence[Fitted], title: str) -> list[str]:
    """The lines of one outcome."""
    if outcome is None:
        return [title, "  no threshold does"]
    lines = [title]
    for one, threshold, kept in zip(fitted, outcome.thresholds, outcome.steps, strict=True):
        lines.append(
            f"  {one.calibration.step}: keep from a chance of {threshold:.4f} on; kept {show(kept.share)},"
            f" of its wrong answers {kept.wrong:.1%}"
        )
    lines += [
        f"  quality {show(outcome.quality)}, calls of the big model {show(outcome.escalated)},"
        f" cost of a question {outcome.cost.mean:.3f}"
    ]
    return lines


def describe_length(made: Calibration) -> str:
    """By how much of an answer it judges, as gateway.toml must say."""
    if made.decide_after == "answer":
        return "the whole answer"
    return f"the first {made.decide_after} tokens (decide_after = {made.decide_after})"


def show(interval: Interval) -> str:
    """A share with its interval."""
    return f"{interval.mean:.1%} ({interval.low:.1%} to {interval.high:.1%})"


def read_cost(text: str) -> float:
    """A cost. Raises InvalidInputError."""
    try:
        cost = float(text)
    except ValueError:
        cost = math.nan
    if not 0 <= cost < math.inf:
        raise InvalidInputError(f"the cost of a step must be a number from 0 on, got {text!r}")
    return cost


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("answers", nargs="+", type=Path, help="files of labelled answers")
    step = (
        "a label in the answers, the cost of an answer in calls of the big model, the file to write; in order"
    )
    parser.add_argument(
        "--step", nargs=3, action="append", required=True, metavar=("LABEL", "COST", "FILE"), help=step
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        type=pair,
        metavar="KEY=VALUE",
        help="only such lines: split=train",
    )
    parser.add_argument("--floor", type=share, default=0.95, help="of the big model's quality; default: 0.95")
    parser.add_argument(
        "--big-quality", type=share, required=True, help="the big model's share of right answers, 0 to 1"
    )
    parser.add_argument(
        "--big-cost", type=float, default=1.0, help="of its call; default: 1, the unit of all costs"
    )
    parser.add_argument("--samples", type=int, default=1000, help="of the bootstrap; default: 1000")
    parser.add_argument("--seed", type=int, default=1, help="of folds and bootstrap; default: 1")
    return parser.parse_args(arguments)


def share(text: str) -> float:
    """A number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return number


def pair(text: str) -> str:
    """KEY=VALUE."""
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"must be KEY=VALUE, got {text}")
    return text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
