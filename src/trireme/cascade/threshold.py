"""The thresholds of the least cost at which a cascade keeps a share of the big model's quality.

The constrained choice of UCCI (arXiv 2605.18796): least cost under a floor, with a bootstrap over questions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trireme.cascade.calibration import Calibration
from trireme.errors import InvalidInputError

Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SAMPLES = 1000
# Thresholds that are tried in all, of all steps together.
MOST_TRIED = 2500
# Keeps every answer, and none: no chance is 1.
KEEP_ALL, KEEP_NONE = 0.0, 1.0
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class StepAnswers:
    """One step's answers to the same questions as every other step's, in the same order.

    chances, right: [questions]. cost: of one answer, in units of the big model's call.
    """

    chances: Numbers
    right: Flags
    cost: float


@dataclass(frozen=True, slots=True)
class Big:
    """The model that has the last word. quality: its share of right answers. cost: of a call."""

    quality: float
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over questions with its 95 % interval (bootstrap percentiles)."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Kept:
    """Of one step: of the answers that it was asked for, those kept; wrong: of its wrong ones, those kept."""

    share: Interval
    wrong: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What thresholds do. quality: right answers of all questions; escalated: asked of the big model; cost: of a
    question. steps: one for each."""

    thresholds: tuple[float, ...]
    quality: Interval
    escalated: Interval
    cost: Interval
    steps: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """sure: the least cost at which the quality's lower end reaches the floor; None where none does. likely: the
    same by the quality itself, without its interval."""

    floor: float
    sure: Outcome | None
    likely: Outcome | None


def choose_thresholds(
    steps: Sequence[StepAnswers], big: Big, floor: float, *, samples: int = SAMPLES, seed: int = 1
) -> Choice:
    """For each step its threshold, chosen together; steps are asked in their order, then the big model.

    floor: the least quality as a share of the big model's. Keeping nothing is always among what is tried, so that
    a floor up to 1 holds at some cost. Pure; blocks for seconds. Raises InvalidInputError.
    """
    check_steps(steps, big, floor)
    tried, quality, cost = _try_all(steps, big)
    lows = _resample(quality, samples, seed)[0]
    # A mean of equal numbers may fall short of them by rounding.
    least = floor * big.quality - _ROUNDING

    def judged(reached: Numbers) -> Outcome | None:
        best = _find_cheapest(quality.mean(axis=0), cost, reached >= least)
        return None if best is None else judge(steps, big, tried[best], samples=samples, seed=seed)

    return Choice(floor, judged(lows), judged(quality.mean(axis=0)))


def trace(steps: Sequence[StepAnswers], big: Big, floors: Sequence[float]) -> list[tuple[float, ...]]:
    """For each floor the thresholds of the least cost that reach it by the mean: a curve. Pure; blocks."""
    check_steps(steps, big, max(floors))
    tried, quality, cost = _try_all(steps, big)
    means = quality.mean(axis=0)
    best = [_find_cheapest(means, cost, means >= floor * big.quality - _ROUNDING) for floor in floors]
    return [tried[place] for place in best if place is not None]


def judge(
    steps: Sequence[StepAnswers],
    big: Big,
    thresholds: Sequence[float],
    *,
    samples: int = SAMPLES,
    seed: int = 1,
) -> Outcome:
    """What given thresholds do on given answers. Pure."""
    quality, cost, kept_at = _play(steps, big, thresholds)
    columns = [quality, cost, (kept_at == len(steps)).astype(np.float64)]
    intervals = [_interval(column, samples, seed) for column in columns]
    kept = []
    for place, step in enumerate(steps):
        asked, held = kept_at >= place, kept_at == place
        wrong = asked & ~step.right
        share = _interval(held[asked].astype(np.float64), samples, seed)
        kept.append(Kept(share, float(held[wrong].mean()) if wrong.any() else 0.0))
    return Outcome(tuple(thresholds), intervals[0], intervals[2], intervals[1], tuple(kept))


def place_thresholds(
    calibrations: Sequence[Calibration], outcome: Outcome, floor: float
) -> list[Calibration]:
    """The calibrations of the steps with their thresholds and what these keep. Pure."""
    return [
        replace(
            one,
            threshold=threshold,
            floor=floor,
            kept_share=kept.share.mean,
            kept_low=kept.share.low,
            kept_high=kept.share.high,
            wrong_kept=kept.wrong,
        )
        for one, threshold, kept in zip(calibrations, outcome.thresholds, outcome.steps, strict=True)
    ]


def find_candidates(chances: Numbers, steps: int = 1) -> list[float]:
    """Thresholds to try: KEEP_ALL, the chances themselves, thinned where they are many, and KEEP_NONE."""
    most = max(int(MOST_TRIED ** (1 / steps)) - 2, 1)
    found = np.unique(chances)
    if len(found) > most:
        found = np.unique(np.quantile(chances, np.linspace(0, 1, most), method="higher"))
    return [KEEP_ALL, *map(float, found), KEEP_NONE]


def check_steps(steps: Sequence[StepAnswers], big: Big, floor: float) -> None:
    """Raises InvalidInputError naming what does not fit."""
    if not steps or not len(steps[0].chances):
        raise InvalidInputError("a cascade needs a step with answers")
    sizes = {len(one.chances) for one in steps} | {len(one.right) for one in steps}
    if len(sizes) > 1:
        raise InvalidInputError(
            f"the steps have answers to {min(sizes)} and {max(sizes)} questions; give the same"
        )
    if not 0 < big.quality <= 1:
        raise InvalidInputError(f"the big model's quality must be above 0 and at most 1, got {big.quality}")
    if not 0 <= floor <= 1:
        raise InvalidInputError(f"floor must be from 0 to 1, got {floor}")
    if min(big.cost, *(one.cost for one in steps)) < 0:
        raise InvalidInputError("a cost must not be below 0")


def _try_all(steps: Sequence[StepAnswers], big: Big) -> tuple[list[tuple[float, ...]], Numbers, Numbers]:
    """All thresholds together, the quality [questions, tried] and the mean cost [tried] that they give."""
    tried = list(itertools.product(*(find_candidates(one.chances, len(steps)) for one in steps)))
    played = [_play(steps, big, thresholds)[:2] for thresholds in tried]
    quality = np.stack([quality for quality, _ in played], axis=1)
    return tried, quality, np.array([cost.mean() for _, cost in played])


def _find_cheapest(quality: Numbers, cost: Numbers, allowed: Flags) -> int | None:
    """The place of the least cost, of equal costs that of the better quality."""
    order = np.lexsort((-quality, cost))
    return next((int(place) for place in order if allowed[place]), None)


def _play(
    steps: Sequence[StepAnswers], big: Big, thresholds: Sequence[float]
) -> tuple[Numbers, Numbers, npt.NDArray[np.int64]]:
    """Of each question: quality, cost, and the step that kept its answer (their number: the big model)."""
    count = len(steps[0].chances)
    quality, cost = np.full(count, big.quality), np.zeros(count)
    kept_at = np.full(count, len(steps))
    waits = np.ones(count, bool)
    for place, (step, threshold) in enumerate(zip(steps, thresholds, strict=True)):
        cost[waits] += step.cost
        keeps = waits & (step.chances >= threshold)
        quality[keeps], kept_at[keeps] = step.right[keeps], place
        waits &= ~keeps
    cost[waits] += big.cost
    return quality, cost, kept_at


def _interval(values: Numbers, samples: int, seed: int) -> Interval:
    if not len(values):
        return Interval(0.0, 0.0, 0.0)
    lows, highs = _resample(values[:, None], samples, seed)
    mean = float(values.mean())
    # Of equal numbers the three differ in their last digits.
    return Interval(mean, min(float(lows[0]), mean), max(float(highs[0]), mean))


def _resample(columns: Numbers, samples: int, seed: int) -> tuple[Numbers, Numbers]:
    """The 2.5th and 97.5th percentile of each column's mean over questions drawn anew; columns [questions, n]."""
    count = len(columns)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    means = (draws.astype(np.float64) @ columns) / count
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return low, high
