"""Which loads are measured on which contenders, and the loop that measures them in turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.common.processes import read_others_time
from benchmarks.encoders.bars import (
    CALLS_OF_32,
    MIXED,
    PASSAGES,
    POISSON,
    RERANK_20,
    RERANK_20_AT_4,
    SHORT_ALONE,
)
from benchmarks.encoders.contenders import Contender, Load, Sample, Task
from benchmarks.encoders.results import (
    INFINITY,
    ORT_IN_PROCESS,
    OUR_PAIR_RANKER,
    OUR_RERANKER,
    OURS,
    OURS_IN_PROCESS,
    OURS_ON_OPENVINO,
    PLAIN,
    ST,
    Failure,
    Point,
    hide_folders,
)
from trireme.errors import TriremeError

INFINITIES = (f"{INFINITY} torch", f"{INFINITY} optimum int8")
LIBRARIES = tuple(f"{ST} {variant}" for variant in ("torch", "torch-bf16", "onnx-int8", "openvino-int8"))
RANKERS = tuple(f"{ST} {variant} pairs" for variant in ("torch", "onnx-int8", "openvino-int8"))
RANKING = (OUR_RERANKER, OUR_PAIR_RANKER, *RANKERS)
IN_PROCESS = (OURS_IN_PROCESS, OURS_ON_OPENVINO, ORT_IN_PROCESS, *LIBRARIES)
# A run during which others used more than so many cores is made once more.
DISTURBED_CORES = 0.2
TRIES = 2
POISSON_SHARE = 0.7
POISSON_THREADS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How much: `rounds` of `seconds` each, and `budget_s` after the start no further scenario is begun.

    `indexed`: passages that `search` searches. `scenarios`: those that are run; None for all.
    """

    rounds: int
    seconds: float
    budget_s: float
    indexed: int
    searches: int
    poisson_s: float
    rates: int
    scenarios: tuple[str, ...] | None = None


FULL = Plan(rounds=3, seconds=4.0, budget_s=1350.0, indexed=10_000, searches=60, poisson_s=12.0, rates=3)
# Its sizes make it short: servers alone take a minute to start on a slow machine.
SMOKE = Plan(
    rounds=1,
    seconds=0.4,
    budget_s=300.0,
    indexed=40,
    searches=3,
    poisson_s=1.0,
    rates=1,
    scenarios=(MIXED, SHORT_ALONE, RERANK_20),
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load on some contenders. `call`: texts of one call in process; a server gets `load` instead."""

    name: str
    task: str
    load: Load
    contenders: tuple[str, ...]
    call: int = 1
    seconds: float = 0.0


def list_scenarios(plan: Plan) -> list[Scenario]:
    """The closed loops, what matters most first."""
    # Where no bar compares them, the slower rivals would take the time of others.
    servers, faster = (OURS, INFINITIES[1]), tuple(name for name in IN_PROCESS if not name.endswith("bf16"))
    found = [
        Scenario(MIXED, "c", Load(32), (OURS, PLAIN, *INFINITIES, *IN_PROCESS), call=256),
        Scenario(CALLS_OF_32, "c", Load(32), (OURS, OURS_IN_PROCESS), call=32),
        Scenario(RERANK_20, "rerank 20", Load(1), (OUR_PAIR_RANKER, OUR_RERANKER, *INFINITIES, *RANKERS)),
        Scenario(PASSAGES, "b", Load(32), (OURS, *INFINITIES, *faster), call=128),
        Scenario(
            RERANK_20_AT_4, "rerank 20", Load(4), (OUR_PAIR_RANKER, OUR_RERANKER, *INFINITIES), seconds=5.0
        ),
        Scenario(SHORT_ALONE, "a", Load(1), (OURS, OURS_IN_PROCESS), call=1, seconds=3.0),
        *(Scenario(f"c, {count} in flight", "c", Load(count), servers) for count in (1, 8)),
        Scenario("c, 128 in flight", "c", Load(128), (OURS,)),
        Scenario("c, 4 batches of 32 in flight", "c", Load(4, 32), (OURS,)),
        Scenario(
            "rerank 100, 1 in flight", "rerank 100", Load(1), (OUR_PAIR_RANKER, OUR_RERANKER, RANKERS[-1])
        ),
        Scenario("a, 32 in flight", "a", Load(32), (OURS, INFINITIES[1], *faster), call=1024, seconds=3.0),
    ]
    return [
        one if one.seconds and plan.scenarios is None else replace(one, seconds=plan.seconds)
        for one in found
        if plan.scenarios is None or one.name in plan.scenarios
    ]


def list_poisson(plan: Plan, points: Sequence[Point]) -> list[Scenario]:
    """Arrivals at random times at a share of the most that the closed loops of single texts reached."""
    found = []
    for task in ("c", "a") if plan.scenarios is None else ("c",):
        rates = [
            p.sample.texts_per_s
            for p in points
            if (p.task, p.contender, p.load.batch) == (task, OURS, 1) and not p.load.rate
        ]
        if rates:
            name = POISSON.replace("c,", f"{task},", 1)
            load = Load(POISSON_THREADS, 1, POISSON_SHARE * max(rates))
            found.append(Scenario(name, task, load, (OURS,), seconds=plan.poisson_s))
    return found


class Runner:
    """Measures scenarios on the contenders that are there, in turn, and remembers who broke off where."""

    def __init__(
        self,
        contenders: Mapping[str, Contender],
        tasks: Mapping[str, Task],
        plan: Plan,
        notice: Callable[[str], None],
        began: float | None = None,
    ) -> None:
        """began: time.monotonic() from which the plan's budget counts; None means now."""
        self._contenders, self._tasks, self._plan, self._notice = contenders, tasks, plan, notice
        self._deadline = (time.monotonic() if began is None else began) + plan.budget_s
        self.points: list[Point] = []
        self.failures: list[Failure] = []
        self.left_out: list[str] = []

    def run(self, scenarios: Iterable[Scenario]) -> None:
        """Blocks. A contender that fails is left out of the rest of its scenario; the others go on."""
        for scenario in scenarios:
            if scenario.task not in self._tasks:
                continue
            if self.is_late():
                self.left_out.append(scenario.name)
                self._notice(f"{scenario.name}: left out, the time is up")
                continue
            there = [name for name in scenario.contenders if name in self._contenders]
            for round_number in range(self._plan.rounds):
                # Another one begins in each round: none is always the first after a pause.
                turn = round_number % max(len(there), 1)
                for name in [*there[turn:], *there[:turn]]:
                    if not self._measure(scenario, name, round_number):
                        there.remove(name)
            self._notice(self._describe(scenario.name))

    def is_late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self._deadline

    def _measure(self, scenario: Scenario, name: str, round_number: int) -> bool:
        contender, task = self._contenders[name], self._tasks[scenario.task]
        load = Load(1, scenario.call) if is_in_process(name) else scenario.load
        contender.pause(False)
        try:
            sample, others = self._measure_alone(contender, task, load, scenario.seconds)
        except (TriremeError, OSError, ValueError) as error:
            self.failures.append(Failure(name, scenario.name, hide_folders(str(error))[:400]))
            self._notice(f"{scenario.name}: {name} failed: {error}")
            return False
        finally:
            contender.pause(True)
        self.points.append(Point(scenario.name, task.name, name, load, round_number, sample, others))
        return True

    def _measure_alone(
        self, contender: Contender, task: Task, load: Load, seconds: float
    ) -> tuple[Sample, float]:
        """A sample and the cores that others used meanwhile; of two tries where the first was disturbed."""
        tries = []
        while not tries or (len(tries) < TRIES and tries[-1][1] > DISTURBED_CORES):
            before, started = read_others_time(os.getpid()), time.monotonic()
            sample = contender.measure(task, load, seconds)
            passed = time.monotonic() - started
            tries.append((sample, max(read_others_time(os.getpid()) - before, 0.0) / passed))
        return min(tries, key=lambda one: one[1])

    def _describe(self, scenario: str) -> str:
        """Contender, texts per second of each round."""
        found: dict[str, str] = {}
        for point in self.points:
            if point.scenario == scenario:
                found[point.contender] = f"{found.get(point.contender, '')} {point.sample.texts_per_s:.1f}"
        return f"{scenario}: " + ", ".join(f"{name}{rates}" for name, rates in found.items())


def is_in_process(name: str) -> bool:
    """Libraries take calls, servers take requests."""
    return name in IN_PROCESS or name in RANKERS
