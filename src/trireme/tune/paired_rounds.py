"""The best settings of a search against the present one: repeated, interleaved, and judged by their noise.

Every finalist is measured once in each round, one after the other, so that a machine that slows down slows
all of them. With the search's short windows before it this is successive halving (arXiv:1502.07943) with two
rungs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median, stdev
from typing import TypeAlias

from trireme.errors import UnavailableError
from trireme.tune.measure import Measurer, Point
from trireme.tune.search import STALE, Found, SearchPlan, Trial, Watch, find_level
from trireme.tune.setting import Setting

# Fewer rounds say nothing of their noise: they are measured whatever the time.
LEAST_ROUNDS = 2
# Smallest gain worth a change, however little the rounds vary.
LEAST_NOISE = 0.02
# Student's t, one-sided, 95 %, for 1, 2, 3 ... degrees of freedom.
ONE_IN_TWENTY = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83)

# Setting -> index into the plan's concurrencies -> its point of each round.
Measured: TypeAlias = dict[Setting, dict[int, list[Point]]]


@dataclass(frozen=True, slots=True)
class Final:
    """One finalist: medians over the rounds at its best concurrency, and each round's requests per second."""

    setting: Setting
    point: Point
    rounds: tuple[float, ...]
    is_within: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the finals say. `winner` is `present` where nobody is better by more than the noise.

    It is None where nobody stays within the limit; `nearest` has the lowest p95. `gain` and `noise` are those
    of the best finalist against the present setting, as shares.
    """

    finals: tuple[Final, ...]
    present: Final
    winner: Final | None
    nearest: Final
    gain: float
    noise: float


def run_finals(
    found: Found,
    plan: SearchPlan,
    measurer: Measurer,
    watch: Watch,
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Measures and judges. Blocks for about `found.seconds_left`, or for LEAST_ROUNDS if those take longer.

    Raises UnavailableError when the present setting cannot be measured.
    """
    deadline = clock() + found.seconds_left
    trials = choose_finalists(found, plan)
    points = choose_loads(trials, plan)
    for number in range(1, plan.rounds + 1):
        began = clock()
        _measure_round(trials, points, number, plan, (measurer, watch))
        now = clock()
        if number >= LEAST_ROUNDS and now + (now - began) > deadline:
            break
    present, *others = [
        _sum_up(setting, list(measured.values()), plan) for setting, measured in points.items()
    ]
    return judge(present, others)


def choose_finalists(found: Found, plan: SearchPlan) -> list[Trial]:
    """The present setting, then the best of the others: as many as there is time for, one at least."""
    count = plan.finalists
    while count > 1 and found.pace.foresee_finals(plan, count) > found.seconds_left:
        count -= 1

    def rank(trial: Trial) -> tuple[bool, bool, float]:
        point, near = trial.find_best(plan.slo_p95_ms), trial.find_nearest()
        figure = point.requests_per_s if point else -near.p95_ms if near else 0.0
        return trial is found.best, point is not None, figure

    present, *others = found.trials
    measured = [trial for trial in others if trial.points and trial.end != STALE]
    return [present, *sorted(measured, key=rank, reverse=True)[:count]]


def judge(present: Final, others: Sequence[Final]) -> Outcome:
    """Who wins. Pure."""
    rivals = sorted(
        (final for final in others if final.is_within), key=lambda final: -final.point.requests_per_s
    )
    compared = [(rival, *compare_rounds(rival, present)) for rival in rivals]
    better = [entry for entry in compared if not present.is_within or entry[1] > entry[2]]
    winner, gain, noise = (better or compared or [(present, 0.0, LEAST_NOISE)])[0]
    if not better:
        winner = present
    finals = (present, *others)
    return Outcome(
        finals=finals,
        present=present,
        winner=winner if winner.is_within else None,
        nearest=min(finals, key=lambda final: final.point.p95_ms),
        gain=gain,
        noise=noise,
    )


def compare_rounds(rival: Final, present: Final) -> tuple[float, float]:
    """(gain, noise) in requests per second, as shares.

    The gain is the median of the rounds' ratios. The noise is what chance alone exceeds in one of twenty
    comparisons of equal settings: Student's t over the rounds' ratios, and at least LEAST_NOISE.
    """
    ratios = [new / old for new, old in zip(rival.rounds, present.rounds, strict=True)]
    freedom = len(ratios) - 1
    t = ONE_IN_TWENTY[min(freedom, len(ONE_IN_TWENTY)) - 1]
    return median(ratios) - 1, max(LEAST_NOISE, t * stdev(ratios) / math.sqrt(len(ratios)))


def choose_loads(trials: Sequence[Trial], plan: SearchPlan) -> Measured:
    """Where each finalist is measured, with nothing measured yet.

    At its own best concurrency, at the one below, and at its rivals' where that is one step away. One below,
    since the search's short run may have been within the limit by luck. The present setting, which comes first,
    at all of them: a rival's gain must not be that of more requests in flight.
    """
    own = [find_level(trial, plan) for trial in trials]
    loads: Measured = {}
    for trial, level in zip(trials, own, strict=True):
        shared = (each for each in own if trial is trials[0] or abs(each - level) <= 1)
        loads[trial.setting] = {each: [] for each in sorted({max(level - 1, 0), *shared})}
    return loads


def _measure_round(
    trials: Sequence[Trial],
    points: Measured,
    number: int,
    plan: SearchPlan,
    parts: tuple[Measurer, Watch],
) -> None:
    """Adds a round to `points`, and takes out of it who fails."""
    for trial in trials:
        if trial.setting not in points:
            continue
        try:
            _measure_one(trial.setting, points[trial.setting], number, plan, parts)
        except UnavailableError:
            # One that fails now and then is no better setting.
            if trial is trials[0]:
                raise
            del points[trial.setting]


def _measure_one(
    setting: Setting,
    points: dict[int, list[Point]],
    number: int,
    plan: SearchPlan,
    parts: tuple[Measurer, Watch],
) -> None:
    """One round of a finalist; where none is within the limit, lower concurrencies with all rounds so far."""
    measurer, watch = parts
    pending = sorted(points, reverse=True)
    while pending:
        level = pending.pop(0)
        concurrency = plan.concurrencies[level]
        for each in range(len(points.setdefault(level, [])) + 1, number + 1):
            watch.measuring(setting, concurrency, f"round {number} of {plan.rounds}")
            points[level].append(measurer.measure(setting, concurrency, plan.long_s, each))
        is_within = any(found[-1].p95_ms <= plan.slo_p95_ms for found in points.values() if found)
        if not pending and not is_within and min(points) > 0:
            pending.append(min(points) - 1)


def _sum_up(setting: Setting, measured: Sequence[Sequence[Point]], plan: SearchPlan) -> Final:
    """The concurrency with the most requests per second within the limit, else with the lowest p95."""
    medians = [(take_medians(points), points) for points in measured]
    within = [pair for pair in medians if pair[0].p95_ms <= plan.slo_p95_ms]
    point, points = (
        max(within, key=lambda pair: pair[0].requests_per_s)
        if within
        else min(medians, key=lambda pair: pair[0].p95_ms)
    )
    return Final(setting, point, tuple(each.requests_per_s for each in points), bool(within))


def take_medians(points: Sequence[Point]) -> Point:
    """The median of each figure of points at one concurrency."""
    return Point(
        concurrency=points[0].concurrency,
        requests_per_s=median(point.requests_per_s for point in points),
        p50_ms=median(point.p50_ms for point in points),
        p95_ms=median(point.p95_ms for point in points),
        p99_ms=median(point.p99_ms for point in points),
    )
