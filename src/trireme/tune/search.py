"""Finds the setting with the most requests per second within a limit of p95.

A coordinate search on short windows: one step along one key at a time from the best setting so far, on in a
direction while it helps, until no step helps or the time is up. A setting that is clearly worse than the best
after its first windows is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

from trireme.errors import UnavailableError
from trireme.tune.measure import Measurer, Point
from trireme.tune.setting import Setting, Space, Step

# In the search a gain below this is none, and below the best by so much a setting is dropped.
LEAST_GAIN, CLEARLY_WORSE = 0.02, 0.10
# A gain below this over two steps up, which are about twice the requests in flight, is the end of the way up.
SATURATED = 0.03
# A direction is followed over so many steps that do not help, unless one is clearly worse.
PATIENCE = 1
# After so many settings the best is measured again: a machine that slowed down makes all others look worse.
CHECK_EVERY = 5
# A machine that changes more often than this is not waited for.
MOST_CHANGES = 3
# Of the time, so much at least is left to the search, whatever the finals need.
SEARCH_SHARE = 0.4

WITHIN, ABOVE, DROPPED, FAILED = "within limit", "above limit", "dropped", "failed"
# Measured before the machine changed its speed.
STALE = "stale"


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """`concurrencies`: requests in flight to try, rising. `rounds`: of the finals, two at least.

    `seconds`: for search and finals together.
    """

    slo_p95_ms: float
    concurrencies: tuple[int, ...]
    short_s: float = 1.0
    long_s: float = 2.0
    rounds: int = 4
    finalists: int = 3
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting: its points by rising concurrency, and how it ended (WITHIN, ABOVE, DROPPED, FAILED, STALE)."""

    setting: Setting
    points: tuple[Point, ...]
    end: str
    reason: str = ""

    def find_best(self, slo_p95_ms: float) -> Point | None:
        """The point with the most requests per second within the limit."""
        within = [point for point in self.points if point.p95_ms <= slo_p95_ms]
        return max(within, key=lambda point: point.requests_per_s, default=None)

    def find_nearest(self) -> Point | None:
        """The point with the lowest p95."""
        return min(self.points, key=lambda point: point.p95_ms, default=None)


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found, in the order it was tried: the present setting first. `best` is one of them.

    `is_complete` is False where the time was up before no step helped any more. `seconds_left` are the plan's.
    """

    trials: tuple[Trial, ...]
    best: Trial
    is_complete: bool
    seconds_left: float
    pace: StepPace


@dataclass(frozen=True, slots=True)
class StepPace:
    """How long things took in the search: a short run, and what starting another setting's server added to it."""

    run_s: float
    start_s: float

    def foresee_finals(self, plan: SearchPlan, finalists: int) -> float:
        """Seconds for the finals with the present setting and so many others, most at two concurrencies."""
        once_s = self.start_s + 2 * self.run_s * plan.long_s / plan.short_s
        return plan.rounds * (finalists + 1) * once_s


class Watch(Protocol):
    """Hears what the search does."""

    def measuring(self, setting: Setting, concurrency: int, stage: str) -> None:
        """A run begins; `stage` is "search" or names a round of the finals."""

    def tried(self, trial: Trial, best: Trial) -> None:
        """A setting has ended."""


class Search:
    """One search. Not reusable; raises what `measurer` raises for the present setting."""

    def __init__(
        self,
        space: Space,
        plan: SearchPlan,
        measurer: Measurer,
        watch: Watch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.plan = plan
        self._space, self._measurer, self._watch, self._clock = space, measurer, watch, clock
        self._trials: dict[Setting, Trial] = {}
        self._started = clock()
        # Seconds of the runs: the first ones of a server that was started for them, and those that found it.
        self._first: list[float] = []
        self._later: list[float] = []
        self._served: Setting | None = None
        self._is_complete = True
        self._unchecked = 0
        self._stale: list[Trial] = []
        self._checks, self._epoch = 0, 0

    def run(self) -> Found:
        """Blocks until no step helps, or until the plan's seconds are needed for the finals."""
        best = self._try(self._space.start, None, 0)
        if not best.points:
            raise UnavailableError(f"the present setting cannot be measured: {best.reason}")
        helps = True
        while helps and not self._is_time_up():
            helps, epoch = False, self._epoch
            for step in self._space.steps:
                before = best.setting
                best = self._follow(best, step)
                if best.setting == before:
                    best = self._follow(best, step.back)
                helps = helps or best.setting != before
            if not helps and self._unchecked and not self._is_time_up():
                best = self._check(best)
            helps = helps or self._epoch != epoch
        passed = self._clock() - self._started
        return Found(
            trials=(*self._trials.values(), *self._stale),
            best=best,
            is_complete=self._is_complete and not helps,
            seconds_left=self.plan.seconds - passed,
            pace=self._read_pace(),
        )

    def _follow(self, best: Trial, step: Step) -> Trial:
        """The best setting in a direction, or `best` itself."""
        setting, patience = self._space.move(best.setting, step), PATIENCE
        while setting is not None and not self._is_time_up():
            if self._unchecked >= CHECK_EVERY:
                best = self._check(best)
            trial = self._trials.get(setting) or self._try(setting, best, find_level(best, self.plan))
            if self._is_better(trial, best):
                best, patience = trial, PATIENCE
            elif trial.end in (DROPPED, FAILED) or not patience:
                break
            else:
                patience -= 1
            setting = self._space.move(setting, step)
        else:
            self._is_complete = self._is_complete and setting is None
        return best

    def _try(self, setting: Setting, best: Trial | None, level: int) -> Trial:
        """Measures a setting around the concurrency at which the best was best, up or down from there."""
        found = None if best is None else best.find_best(self.plan.slo_p95_ms)
        to_beat = 0.0 if found is None else found.requests_per_s * (1 - CLEARLY_WORSE)
        points: dict[int, Point] = {}
        end, reason = "", ""
        try:
            direction = 0
            while True:
                if level not in points:
                    points[level] = self._measure(setting, level)
                direction, end = self._choose_way(points, level, direction, to_beat)
                if not direction:
                    break
                if best is None and not level:
                    # With nothing to go by: a leap, and from there up or down.
                    level, direction = self._guess_level(points[0]), 0
                else:
                    level += direction
        except UnavailableError as error:
            end, reason = FAILED, str(error)
        ordered = tuple(points[index] for index in sorted(points))
        trial = Trial(setting, ordered, end, reason)
        self._trials[setting] = trial
        if best is not None:
            self._unchecked += 1
        self._watch.tried(trial, trial if best is None or self._is_better(trial, best) else best)
        return trial

    def _choose_way(self, points: dict[int, Point], level: int, came: int, to_beat: float) -> tuple[int, str]:
        """Where to go from `level` (1 up, -1 down, 0 nowhere), and how the setting ends if nowhere."""
        point = points[level]
        is_slower = point.requests_per_s < to_beat
        if point.p95_ms > self.plan.slo_p95_ms:
            # Fewer in flight are answered sooner, but never more of them in a second.
            if is_slower or came > 0:
                return 0, DROPPED if is_slower else WITHIN
            return (-1 if level else 0), ABOVE
        below = points.get(level - 2)
        is_flat = below is not None and point.requests_per_s < below.requests_per_s * (1 + SATURATED)
        is_last = came < 0 or is_flat or level + 1 == len(self.plan.concurrencies)
        # More in flight may make up for it, once.
        if is_slower and (came > 0 or is_last):
            return 0, DROPPED
        return (0 if is_last else 1), WITHIN

    def _guess_level(self, alone: Point) -> int:
        """From one request in flight, the load at which requests that wait for each other meet the limit."""
        guess = self.plan.slo_p95_ms / alone.p95_ms
        return max(1, sum(concurrency <= guess for concurrency in self.plan.concurrencies) - 1)

    def _check(self, best: Trial) -> Trial:
        """The best with a fresh figure. Where it differs clearly, all others may be tried again."""
        level = find_level(best, self.plan)
        concurrency = self.plan.concurrencies[level]
        self._checks += 1
        fresh = self._measure(best.setting, level, self._checks)
        old = next(point for point in best.points if point.concurrency == concurrency)
        change = abs(fresh.requests_per_s / old.requests_per_s - 1)
        if change > CLEARLY_WORSE and self._epoch < MOST_CHANGES:
            self._epoch += 1
            for setting in [each for each in self._trials if each not in (best.setting, self._space.start)]:
                self._stale.append(replace(self._trials.pop(setting), end=STALE))
            self._unchecked = 0
            return self._try(best.setting, None, level)
        self._unchecked = 0
        points = tuple(fresh if point is old else point for point in best.points)
        checked = self._trials[best.setting] = replace(best, points=points)
        return checked

    def _measure(self, setting: Setting, level: int, check: int = 0) -> Point:
        """One short run. Numbers below zero keep runs apart that an earlier one must not answer for."""
        concurrency = self.plan.concurrencies[level]
        self._watch.measuring(setting, concurrency, "search")
        number = -(1000 * self._epoch + check)
        began, taken = self._clock(), self._later if setting == self._served else self._first
        self._served = setting
        try:
            return self._measurer.measure(setting, concurrency, self.plan.short_s, number)
        finally:
            taken.append(self._clock() - began)

    def _read_pace(self) -> StepPace:
        """From the runs so far."""
        first = median(self._first)
        run_s = min(first, median(self._later)) if self._later else first
        return StepPace(run_s, first - run_s)

    def _is_better(self, trial: Trial, best: Trial) -> bool:
        new, old = trial.find_best(self.plan.slo_p95_ms), best.find_best(self.plan.slo_p95_ms)
        if new is None or old is None:
            near, nearest = trial.find_nearest(), best.find_nearest()
            if new is not None or near is None or nearest is None:
                return new is not None
            return old is None and near.p95_ms < nearest.p95_ms * (1 - LEAST_GAIN)
        return new.requests_per_s > old.requests_per_s * (1 + LEAST_GAIN)

    def _is_time_up(self) -> bool:
        """Whether the finals need what is left."""
        passed = self._clock() - self._started
        finals_s = self._read_pace().foresee_finals(self.plan, self.plan.finalists)
        return passed > max(self.plan.seconds - finals_s, self.plan.seconds * SEARCH_SHARE)


def find_level(trial: Trial, plan: SearchPlan) -> int:
    """Which of the plan's concurrencies the trial was best at, or nearest to the limit."""
    point = trial.find_best(plan.slo_p95_ms) or trial.find_nearest()
    return plan.concurrencies.index(point.concurrency) if point else 0
