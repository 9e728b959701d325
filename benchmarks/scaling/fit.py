"""Picks knobs on one part of a load; they are judged on another."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeVar

from benchmarks.scaling.fleet import Timing
from benchmarks.scaling.load import Load
from benchmarks.scaling.outcome import replay
from benchmarks.scaling.policies import CHOICES, TARGET_CHOICES, Knobs, Policy, Targets, aws, ours
from benchmarks.scaling.service import Service

# Direction changes within a load step that a policy may make.
MOST_TURNS = 2
# A load to count them on: requests a second, as shares of what one replica serves.
STEPS = ((0.0, 1.0), (600.0, 5.0), (2400.0, 1.0))
STEPS_S = 4200.0
ROUNDS = 2
# A knob leaves its shipped value for so much fewer late answers, or replica-seconds: less is chance.
GAIN = 0.05
# Each buys earlier answers for replica-seconds: a spare replica at a higher utilization may cost no more.
TOGETHER = ("utilization", "spare")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tried:
    """A policy over all loads of a fit. late: the mean share; turns: the most within a step of the step load.

    replica_s: in all; of loads of different users, each load's as a share of what the AWS recipe spends on it.
    """

    late: float
    replica_s: float
    turns: int


@dataclass(frozen=True, slots=True)
class Goal:
    """Of a fit; one of both, the other None.

    budget_s: replica-seconds that may be spent, for the fewest late answers. most_late: the share of late answers
    that may be, for the fewest replica-seconds.
    """

    budget_s: float | None = None
    most_late: float | None = None

    def is_better(self, other: Tried, best: Tried) -> bool:
        """Whether `other` breaks the rules less, or as little and is better by more than GAIN."""
        broken, before = self._broken(other), self._broken(best)
        if broken != before:
            return broken < before
        if self.budget_s is not None:
            return other.late < best.late * (1 - GAIN)
        return other.replica_s < best.replica_s * (1 - GAIN)

    def _broken(self, tried: Tried) -> tuple[float, float]:
        turns = max(0, tried.turns - MOST_TURNS)
        if self.budget_s is not None:
            return turns, max(0.0, tried.replica_s - self.budget_s)
        return turns, max(0.0, tried.late - (self.most_late or 0.0))


@dataclass(frozen=True, slots=True)
class Fit:
    """What was picked, and what it came to on the loads of the fit. policies: that were replayed for it."""

    load: str
    knobs: Knobs
    tried: Tried
    budget_s: float | None
    policies: int


def replicas_rate(service: Service, load: Load) -> float:
    """Requests a second of such a load that one replica serves."""
    work = sum(service.work_of(one.inputs, one.outputs) for one in load.requests)
    return len(load.requests) / work


def make_step_load(service: Service, load: Load, seed: int) -> Load:
    """STEPS at Poisson instants, with lengths drawn from `load`, so that noise is as in life."""
    rng = random.Random(f"steps {seed}")  # noqa: S311
    one = replicas_rate(service, load)
    bounds = [*(begins for begins, _ in STEPS), STEPS_S]
    found = []
    for (begins, share), ends in zip(STEPS, bounds[1:], strict=True):
        at = begins + rng.expovariate(share * one)
        while at < ends:
            found.append(replace(rng.choice(load.requests), at=at))
            at += rng.expovariate(share * one)
    return Load(f"steps, {load.name}", tuple(found), STEPS_S, tuple(begins for begins, _ in STEPS[1:]))


def descend(
    first: T,
    choices: Mapping[str, tuple[Any, ...]],
    is_better: Callable[[T, T], bool],
    together: Sequence[str] = (),
) -> T:
    """The best of a dataclass's values, one field after the other, until none is better or after ROUNDS.

    together: fields that are tried in all their pairings, first: one pays for the other, so that neither alone is
    better.
    """
    best = first
    alone = [(name,) for name in choices if name not in together]
    for _ in range(ROUNDS):
        before = best
        for names in (tuple(together), *alone):
            for values in product(*(choices[name] for name in names)):
                other: T = replace(best, **dict(zip(names, values, strict=True)))  # type: ignore[type-var]
                if other != best and is_better(other, best):
                    best = other
        if best == before:
            break
    return best


class Search:
    """Replays with a memory. Mutable."""

    def __init__(
        self, service: Service, loads: Sequence[Load], timing: Timing, seed: int, paid: Sequence[float] = ()
    ) -> None:
        """loads: of the same users, such as vary makes them; of different ones with `paid`, by which the
        replica-seconds of each are divided."""
        self._service, self._loads, self._timing = service, loads, timing
        self._paid = tuple(paid) or (1.0,) * len(loads)
        self._steps = make_step_load(service, loads[0], seed)
        self._known: dict[Any, Tried] = {}

    def try_one(self, policy: Policy, key: Any) -> Tried:
        """What a policy comes to. key: that tells it from others."""
        if key not in self._known:
            found = [replay(policy, self._service, load, self._timing, 0.0)[0] for load in self._loads]
            steps, _ = replay(policy, self._service, self._steps, self._timing, 0.0)
            late = sum(one.late for one in found) / len(found)
            paid = sum(one.replica_s / whole for one, whole in zip(found, self._paid, strict=True))
            self._known[key] = Tried(late, paid, steps.most_changes or 0)
        return self._known[key]

    def fit(self, goal: Goal) -> Fit:
        """Knobs of ours."""
        before = len(self._known)

        def is_better(other: Knobs, best: Knobs) -> bool:
            return goal.is_better(self.try_one(ours(other), other), self.try_one(ours(best), best))

        knobs = descend(Knobs(), CHOICES, is_better, TOGETHER)
        tried = self.try_one(ours(knobs), knobs)
        count = len(self._known) - before
        return Fit(self._loads[0].name, knobs, tried, goal.budget_s, count)

    def fit_targets(self, goal: Goal) -> Targets:
        """Targets of the AWS recipe, by the same search and the same goal."""

        def is_better(other: Targets, best: Targets) -> bool:
            return goal.is_better(self.try_one(aws(other), other), self.try_one(aws(best), best))

        return descend(Targets(), TARGET_CHOICES, is_better)
