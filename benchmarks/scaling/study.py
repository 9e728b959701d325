"""The loads of the page, the policies on them, and what they come to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common.report import Circumstances, show_progress_note
from benchmarks.scaling.fit import Fit, Goal, Search, make_step_load
from benchmarks.scaling.fleet import Served, Timing
from benchmarks.scaling.load import (
    AZURE,
    MOONCAKE,
    Load,
    make_day,
    read_azure,
    read_mooncake,
    split,
    take_volume,
    vary,
)
from benchmarks.scaling.outcome import Outcome, Ratio, compare, replay
from benchmarks.scaling.policies import (
    AWS,
    CHOICES,
    LEAST,
    MOST,
    PUBLISHED,
    WINDOW_S,
    Knobs,
    Policy,
    View,
    aws,
    fix,
    ours,
)
from benchmarks.scaling.service import Service

SEED = 1
STEP_SEEDS = (21, 22, 23)
WARM_UPS = (10.0, 60.0, 300.0)
# Requests a second at the top of the synthetic days.
DAY_TOP = 8.0
DAYS = (1, 2, 3)
COPIES = ((AZURE, 1.0), (AZURE, 4.0), (MOONCAKE, 0.5), (MOONCAKE, 1.0), (MOONCAKE, 2.0))
# Of Mooncake's trace: how the recipe fares as the same users become more.
VOLUMES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5)
# Where the recipe has no late answer at all, so few count as none: of some thousand requests one is chance.
FEW_LATE = 0.001
# A fit may spend so much of what the AWS recipe spends: what is fitted to the last second is over it elsewhere.
BUDGET = 0.95
STATIC_LATE = 0.01
DEFAULT, SPARE, FITTED, ALL = (
    "ours, as shipped",
    "ours, one spare",
    "ours, fitted",
    "ours, one setting for all",
)
AWS_FITTED = "AWS recipe, targets fitted"
STATIC = "static, same money"
SERIES_S = 600.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A load, and what each policy came to on it."""

    load: str
    initial: int
    work_per_s: float
    outcomes: tuple[Outcome, ...]
    frontier: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One of ours beside the AWS recipe on one load. share: of late answers."""

    load: str
    policy: str
    late: Ratio
    paid: Ratio
    share: float

    @property
    def is_reached(self) -> bool:
        """Half of the late answers at most, or FEW_LATE where the recipe has none, and no more replica-seconds."""
        is_early = self.share <= FEW_LATE if self.late.mean is None else self.late.mean <= 0.5
        return is_early and (self.paid.mean or 0.0) <= 1.0


@dataclass(frozen=True, slots=True)
class StepRow:
    """A policy on loads that step up and down, the worst of several seeds. turns: within one step."""

    policy: str
    warm_up_s: float
    turns: int
    late: float
    replica_s: float


@dataclass(frozen=True, slots=True)
class WarmRow:
    """A policy on a day whose replicas take so long to warm up."""

    policy: str
    warm_up_s: float
    late: float
    replica_s: float


@dataclass(frozen=True, slots=True)
class Series:
    """A day by SERIES_S: work that arrives a second, and the mean of the wanted replicas by policy."""

    load: str
    work: tuple[float, ...]
    replicas: dict[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """So much of a load, judged on its second part: how late, and replica-seconds.

    latency: the recipe's p95 of whole answers in seconds, its median over the looks. replicas: its mean.
    fixed: replica-seconds of the smallest fixed fleet with at most STATIC_LATE late answers.
    """

    volume: float
    recipe_late: float
    recipe_s: float
    replicas: float
    latency: float
    fixed: float
    late: float
    paid: float

    @property
    def is_carried(self) -> bool:
        """Whether a fixed fleet serves the load in time for what the recipe spends."""
        return self.fixed <= self.recipe_s


@dataclass(frozen=True, slots=True)
class Report:
    """benchmarks/results/scaling.json. price: US dollars of a replica's hour."""

    service: Service
    timing: Timing
    price: float
    fits: tuple[Fit, ...]
    targets: dict[str, str]
    judged: tuple[Judged, ...]
    comparisons: tuple[Comparison, ...]
    steps: tuple[StepRow, ...]
    warm: tuple[WarmRow, ...]
    series: tuple[Series, ...]
    volumes: tuple[VolumeRow, ...]
    left_out: tuple[str, ...]
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class Bench:
    """What all replays of a study share."""

    service: Service
    timing: Timing
    price: float

    def run(self, policy: Policy, load: Load) -> tuple[Outcome, Served]:
        """One replay."""
        return replay(policy, self.service, load, self.timing, self.price)


def pair_loads(data: Path | None) -> Iterator[tuple[tuple[Load, ...], Load]]:
    """Loads to fit on, and the load that is judged. Without the traces the synthetic days alone."""
    for name, copies in COPIES:
        if data is not None and (data / name).is_file():
            read = read_azure if name == AZURE else read_mooncake
            first, second = split(take_volume(read(data / name), copies, SEED), 0.5)
            yield vary(first, SEED), second


def find_all(bench: Bench, loads: Sequence[Load]) -> Fit:
    """One setting for loads of different users, each counting the same."""
    paid = [bench.run(AWS, load)[0].replica_s for load in loads]
    search = Search(bench.service, loads, bench.timing, SEED, paid)
    return replace(search.fit(Goal(budget_s=BUDGET * len(loads))), load="day 1 and all first parts")


def measure_volumes(bench: Bench, load: Load, policy: Policy) -> Iterator[VolumeRow]:
    """The recipe, a fixed fleet and one of ours at each of VOLUMES."""
    for volume in VOLUMES:
        _, second = split(take_volume(load, volume, SEED), 0.5)
        recipe, served = bench.run(AWS, second)
        own, _ = bench.run(policy, second)
        views = [View(served.samples[: k + 1], bench.service) for k in range(len(served.samples))]
        judged = [view.latency(0.95, WINDOW_S) for view in views if view.last.at >= second.judged_from]
        known = [one for one in judged if math.isfinite(one)]
        yield VolumeRow(
            volume,
            recipe.late,
            recipe.replica_s,
            round(recipe.replica_s / (served.end - second.judged_from), 1),
            round(statistics.median(known), 1) if known else 0.0,
            find_static(bench, second, 3 * MOST).replica_s,
            own.late,
            own.replica_s,
        )


def find_static(bench: Bench, load: Load, most: int = MOST) -> Outcome:
    """The smallest fixed fleet with at most STATIC_LATE late answers: who knows the load beforehand."""
    low, high = LEAST, most
    found, _ = bench.run(fix(high), load)
    while low < high:
        middle = (low + high) // 2
        outcome, _ = bench.run(fix(middle), load)
        if outcome.late <= STATIC_LATE:
            high, found = middle, outcome
        else:
            low = middle + 1
    return replace(found, policy=f"static {high}, with foresight")


def fit_all(bench: Bench, loads: Sequence[Load]) -> tuple[Fit, Policy]:
    """Knobs of ours and targets of the AWS recipe, for the fewest late answers at BUDGET of what that spends."""
    search = Search(bench.service, loads, bench.timing, SEED)
    budget = BUDGET * search.try_one(AWS, "recipe").replica_s
    found = search.fit(Goal(budget_s=budget))
    return found, aws(search.fit_targets(Goal(budget_s=budget)))


def judge_load(
    bench: Bench, load: Load, policies: Sequence[Policy], fitted: Knobs
) -> tuple[Judged, list[Comparison]]:
    """Every policy on a load; those of ours beside the AWS recipe."""
    work = sum(bench.service.work_of(one.inputs, one.outputs) for one in load.requests) / load.seconds
    outcomes, initial = [], 0
    for policy in policies:
        outcome, served = bench.run(policy, load)
        outcomes.append(outcome)
        initial = served.counts[0][1]
    recipe = next(one for one in outcomes if one.policy == AWS.name)
    fleet = max(LEAST, int(recipe.replica_s / (load.seconds - load.judged_from)))
    outcomes.append(replace(bench.run(fix(fleet), load)[0], policy=STATIC))
    compared = [
        Comparison(
            load.name,
            one.policy,
            compare(one.late_blocks, recipe.late_blocks, SEED),
            compare(one.paid_blocks, recipe.paid_blocks, SEED),
            one.late,
        )
        for one in outcomes
        if one.policy in (DEFAULT, SPARE, FITTED, ALL, AWS_FITTED, STATIC)
    ]
    static = find_static(bench, load)
    frontier = []
    for share in CHOICES["utilization"]:
        frontier.append(bench.run(ours(replace(fitted, utilization=share)), load)[0])
    judged = Judged(
        load.name,
        initial,
        round(work, 3),
        tuple(_without_blocks(one) for one in (static, *outcomes)),
        tuple(_without_blocks(one) for one in frontier),
    )
    return judged, compared


def _without_blocks(outcome: Outcome) -> Outcome:
    return replace(outcome, late_blocks=(), paid_blocks=())


def list_policies(fitted: Knobs, for_all: Knobs, recipe: Policy) -> list[Policy]:
    """All that are judged."""
    found = [*PUBLISHED, replace(recipe, name=AWS_FITTED), ours(name=DEFAULT), ours(Knobs(spare=1), SPARE)]
    return [*found, ours(fitted, FITTED), ours(for_all, ALL)]


def measure_steps(bench: Bench, load: Load, policies: Sequence[Policy]) -> Iterator[StepRow]:
    """The most direction changes within a step, by policy and warm-up."""
    for warm_up in (*WARM_UPS[:2], bench.service.warm_up_s, *WARM_UPS[2:]):
        own = replace(bench, service=replace(bench.service, warm_up_s=warm_up))
        steps = [make_step_load(bench.service, load, seed) for seed in STEP_SEEDS]
        for policy in policies:
            found = [own.run(policy, one)[0] for one in steps]
            late = sum(one.late for one in found) / len(found)
            paid = sum(one.replica_s for one in found) / len(found)
            yield StepRow(policy.name, warm_up, max(one.most_changes or 0 for one in found), late, paid)


def measure_warm_ups(bench: Bench, load: Load, policies: Sequence[Policy]) -> Iterator[WarmRow]:
    """What a faster or slower start does."""
    for warm_up in (*WARM_UPS[:2], bench.service.warm_up_s, *WARM_UPS[2:]):
        own = replace(bench, service=replace(bench.service, warm_up_s=warm_up))
        for policy in policies:
            one, _ = own.run(policy, load)
            yield WarmRow(policy.name, warm_up, one.late, one.replica_s)


def draw_series(bench: Bench, load: Load, policies: Sequence[Policy]) -> Series:
    """For the plot of a day."""
    count = int(load.seconds / SERIES_S)
    work = [0.0] * count
    for one in load.requests:
        work[min(int(one.at / SERIES_S), count - 1)] += (
            bench.service.work_of(one.inputs, one.outputs) / SERIES_S
        )
    replicas = {policy.name: _mean_counts(bench.run(policy, load)[1], count) for policy in policies}
    return Series(load.name, tuple(round(one, 2) for one in work), replicas)


def _mean_counts(served: Served, count: int) -> tuple[float, ...]:
    means = []
    for block in range(count):
        begins, ends = block * SERIES_S, (block + 1) * SERIES_S
        alive = sum(max(0.0, min(dead, ends) - max(born, begins)) for born, dead in served.lives)
        means.append(round(alive / SERIES_S, 2))
    return tuple(means)


def judge_traces(
    bench: Bench, pairs: Sequence[tuple[tuple[Load, ...], Load]], for_all: Knobs
) -> Iterator[tuple[Fit, Policy, Judged, list[Comparison]]]:
    """Each trace: fitted on its first half, judged on its second; also with one setting for all."""
    for fitted_on, load in pairs:
        show_progress_note(f"Fitting on {fitted_on[0].name}, judging on {load.name}")
        fit, recipe = fit_all(bench, fitted_on)
        yield fit, recipe, *judge_load(bench, load, list_policies(fit.knobs, for_all, recipe), fit.knobs)


def make_report(bench: Bench, data: Path | None, seen: Circumstances) -> Report:
    """Everything on the page. Blocks for minutes."""
    show_progress_note("Fitting on day 1")
    first, *others = (make_day(DAY_TOP, seed) for seed in DAYS)
    by_day, recipe = fit_all(bench, [first])
    pairs = list(pair_loads(data))
    show_progress_note("One setting for all")
    for_all = find_all(bench, [first, *(fitted_on[0] for fitted_on, _ in pairs)])
    fits, targets = [by_day, for_all], {by_day.load: recipe.name}
    judged: list[Judged] = []
    comparisons: list[Comparison] = []
    for fit, fitted_recipe, one, compared in judge_traces(bench, pairs, for_all.knobs):
        fits.append(fit)
        targets[fit.load] = fitted_recipe.name
        judged.append(one)
        comparisons += compared
    policies = list_policies(by_day.knobs, for_all.knobs, recipe)
    for day in others:
        show_progress_note(f"Judging on {day.name}")
        one, compared = judge_load(bench, day, policies, by_day.knobs)
        judged.append(one)
        comparisons += compared
    show_progress_note("Steps, warm-ups and a day's replicas")
    shown = [AWS, ours(name=DEFAULT), ours(by_day.knobs, FITTED), ours(for_all.knobs, ALL)]
    trace = None if data is None else data / MOONCAKE
    rows: list[VolumeRow] = []
    if trace is not None and trace.is_file():
        rows += measure_volumes(bench, read_mooncake(trace), ours(for_all.knobs, ALL))
    return Report(
        service=bench.service,
        timing=bench.timing,
        price=bench.price,
        fits=tuple(fits),
        targets=targets,
        judged=tuple(judged),
        comparisons=tuple(comparisons),
        steps=tuple(measure_steps(bench, first, [*PUBLISHED, *shown[1:]])),
        warm=tuple(measure_warm_ups(bench, others[0], shown)),
        series=(draw_series(bench, others[0], shown),),
        volumes=tuple(rows),
        left_out=tuple(name for name in dict(COPIES) if data is None or not (data / name).is_file()),
        circumstances=seen,
    )
