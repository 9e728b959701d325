"""The figures of cascades on SQuAD: fitted on three of the held-out articles, judged by the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.cascade.collect import step_of
from benchmarks.common.report import Circumstances
from trireme.cascade.calibration import Calibration
from trireme.cascade.features import FIRST_TOKENS
from trireme.cascade.fit import Fitted, compute_auc, compute_ece, fit
from trireme.cascade.labelled import Labelled
from trireme.cascade.threshold import (
    KEEP_ALL,
    Big,
    Interval,
    Outcome,
    StepAnswers,
    choose_thresholds,
    judge,
    place_thresholds,
    trace,
)
from trireme.errors import InvalidInputError

FLOOR, MOST_CALLS = 0.95, 0.5
EXTRACTIVE, GENERATIVE, FIRST = (
    step_of("extractive"),
    step_of("generative"),
    step_of("generative", FIRST_TOKENS),
)
# What is made of the steps that the answers have.
CASCADES = ((EXTRACTIVE,), (GENERATIVE,), (FIRST,), (EXTRACTIVE, GENERATIVE))
# Floors of a curve, as shares of the big model's quality.
FLOORS = tuple(round(0.3 + 0.02 * n, 2) for n in range(36))


@dataclass(frozen=True, slots=True)
class Step:
    """A step on articles to judge by. right, by kind of question: its share of right answers where it answers all.

    refused: of its answers, those that say that they do not know. auc, ece: of its chances. fitted_auc, ece_before,
    ece_after: on the articles to fit on, answers that were not fitted on. seconds: median to the decision.
    long: share of answers that were longer than the first tokens.
    """

    name: str
    fitted_on: int
    judged_by: int
    features: tuple[str, ...]
    fitted_auc: float
    ece_before: float
    ece_after: float
    auc: float
    ece: float
    right: Interval
    right_answerable: float
    right_unanswerable: float
    refused: float
    seconds: float
    long: float


@dataclass(frozen=True, slots=True)
class Point:
    """Thresholds on articles to judge by: calls of the big model and right answers, as shares of the questions."""

    escalated: float
    quality: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """Steps with thresholds that were chosen on the articles to fit on, and what these do on the others.

    sure: the floor held at the interval's lower end there; likely: by the mean. random: the quality when as many
    questions are escalated by chance, after the last step. hindsight: of the least calls that thresholds chosen on
    the articles to judge by themselves would need, and needed: with a perfect judge of the small answers. at_half,
    random_half: the quality at half of the calls, on the curve and by chance.
    """

    steps: tuple[str, ...]
    sure: Outcome
    likely: Outcome
    random: float
    random_likely: float
    hindsight: float
    needed: float
    at_half: float
    random_half: float
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class CascadeReport:
    """All figures of a run. answerable: share of the questions judged by. big: a stand-in, see the page."""

    questions: int
    answerable: float
    big_quality: float
    costs: dict[str, float]
    steps: tuple[Step, ...]
    cascades: tuple[Cascade, ...]
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class _Judged:
    """A fitted step: its answers to the questions to fit on and to judge by, in the order of their ids."""

    fitted: Fitted
    train: StepAnswers
    dev: StepAnswers
    answers: tuple[Labelled, ...]


def make_report(
    answers: Sequence[Labelled], big: Big, costs: Mapping[str, float], seen: Circumstances
) -> tuple[CascadeReport, list[tuple[str, Calibration]]]:
    """The figures, and the calibration of each step where it stands alone. Raises InvalidInputError."""
    names = list(dict.fromkeys(one.step for one in answers))
    judged = {name: _judge_step(name, answers, costs.get(name, 0.0)) for name in names}
    cascades = [
        measure_cascade(steps, [judged[name] for name in steps], big)
        for steps in CASCADES
        if set(steps) <= judged.keys()
    ]
    if not cascades:
        raise InvalidInputError(
            f"the answers are of none of the steps that are known here: {', '.join(names)}"
        )
    some = next(iter(judged.values()))
    kept = [
        (
            cascade.steps[0],
            place_thresholds([judged[cascade.steps[0]].fitted.calibration], cascade.sure, FLOOR)[0],
        )
        for cascade in cascades
        if len(cascade.steps) == 1
    ]
    report = CascadeReport(
        questions=len(some.answers),
        answerable=statistics.fmean(bool(one.more["answerable"]) for one in some.answers),
        big_quality=big.quality,
        costs=dict(costs),
        steps=tuple(measure_step(name, one) for name, one in judged.items()),
        cascades=tuple(cascades),
        circumstances=seen,
    )
    return report, kept


def measure_step(name: str, one: _Judged) -> Step:
    """A step on its own. Pure."""
    alone = judge([one.dev], Big(1.0), (KEEP_ALL,))
    right = {
        kind: [answer.right for answer in one.answers if answer.more["answerable"] is kind]
        for kind in (True, False)
    }
    return Step(
        name=name,
        fitted_on=one.fitted.figures.examples,
        judged_by=len(one.answers),
        features=one.fitted.calibration.features,
        fitted_auc=one.fitted.figures.auc,
        ece_before=one.fitted.figures.ece_before,
        ece_after=one.fitted.figures.ece_after,
        auc=compute_auc(one.dev.chances, one.dev.right),
        ece=compute_ece(one.dev.chances, one.dev.right),
        right=alone.quality,
        right_answerable=statistics.fmean(right[True]),
        right_unanswerable=statistics.fmean(right[False]),
        refused=statistics.fmean(answer.evidence.is_refusal for answer in one.answers),
        seconds=statistics.median(answer.more["seconds"] for answer in one.answers),
        long=statistics.fmean(answer.evidence.tokens > FIRST_TOKENS for answer in one.answers),
    )


def measure_cascade(names: Sequence[str], judged: Sequence[_Judged], big: Big) -> Cascade:
    """Steps in a row with thresholds from the articles to fit on. Blocks for seconds."""
    train, dev = [one.train for one in judged], [one.dev for one in judged]
    choice = choose_thresholds(train, big, FLOOR)
    if choice.sure is None or choice.likely is None:
        raise InvalidInputError(f"no threshold keeps {FLOOR:.0%} of the big model's quality")
    sure, likely = (judge(dev, big, one.thresholds) for one in (choice.sure, choice.likely))
    points = {
        (at.escalated.mean, at.quality.mean)
        for thresholds in dict.fromkeys(trace(train, big, FLOORS))
        for at in [judge(dev, big, thresholds, samples=2)]
    }
    hindsight = choose_thresholds(dev, big, FLOOR, samples=2).likely
    perfect = [StepAnswers(one.right.astype(np.float64), one.right, one.cost) for one in dev]
    best = choose_thresholds(perfect, big, FLOOR, samples=2).likely
    curve = tuple(Point(*point) for point in sorted(points | {(1.0, big.quality)}))
    last = float(dev[-1].right.mean())
    return Cascade(
        steps=tuple(names),
        sure=sure,
        likely=likely,
        random=mix(last, big.quality, sure.escalated.mean),
        random_likely=mix(last, big.quality, likely.escalated.mean),
        hindsight=hindsight.escalated.mean if hindsight else 1.0,
        needed=best.escalated.mean if best else 1.0,
        at_half=float(np.interp(MOST_CALLS, [at.escalated for at in curve], [at.quality for at in curve])),
        random_half=mix(last, big.quality, MOST_CALLS),
        curve=curve,
    )


def mix(small: float, big: float, escalated: float) -> float:
    """The quality when questions are escalated by chance."""
    return small + (big - small) * escalated


def _judge_step(name: str, answers: Sequence[Labelled], cost: float) -> _Judged:
    of_split = {
        split: sorted(
            (one for one in answers if one.step == name and one.more["split"] == split),
            key=lambda one: str(one.more["id"]),
        )
        for split in ("train", "dev")
    }
    fitted = fit(of_split["train"])
    if not of_split["dev"]:
        raise InvalidInputError(
            f"there is no answer of step {name!r} to a question of the articles to judge by"
        )
    chances = np.array([fitted.calibration.chance(one.evidence) for one in of_split["dev"]])
    right = np.array([one.right for one in of_split["dev"]])
    return _Judged(
        fitted,
        StepAnswers(fitted.chances, fitted.right, cost),
        StepAnswers(chances, right, cost),
        tuple(of_split["dev"]),
    )
