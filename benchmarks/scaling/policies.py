"""Ways to scale: what each asks of the metrics, and the behavior that its authors publish with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from benchmarks.scaling.fleet import LATENCIES, Sample
from benchmarks.scaling.hpa import Behavior, External, History, Limits, Pods, RatePolicy, Rules, recommend
from benchmarks.scaling.keda import Trigger, read_trigger
from benchmarks.scaling.service import Service

LEAST, MOST = 1, 40
# The rate of a histogram or a counter, where the authors name no window.
WINDOW_S = 60.0


class View:
    """The metrics as a query sees them: the last sample, and rates over those within a window."""

    def __init__(self, samples: Sequence[Sample], service: Service) -> None:
        self._samples = samples
        self.service = service

    @property
    def last(self) -> Sample:
        return self._samples[-1]

    def first(self, window_s: float) -> Sample:
        """The oldest sample within a window that ends with the last one, as a range selector takes it."""
        k = len(self._samples) - 1
        begins = self._samples[k].at - window_s
        while k > 0 and self._samples[k - 1].at > begins:
            k -= 1
        return self._samples[k]

    def offered_rate(self, window_s: float) -> float:
        """Seconds of work that arrive in a second."""
        first, last = self.first(window_s), self.last
        return (last.offered - first.offered) / (last.at - first.at) if last.at > first.at else 0.0

    def latency(self, quantile: float, window_s: float) -> float:
        """histogram_quantile over the answers of a window: straight lines within buckets; NaN without an answer."""
        first = self.first(window_s)
        counts = [b - a for a, b in zip(first.latencies, self.last.latencies, strict=True)]
        rank, seen = quantile * sum(counts), 0
        if not sum(counts):
            return math.nan
        for k, count in enumerate(counts):
            if count and seen + count >= rank:
                if k == len(LATENCIES):
                    return float(LATENCIES[-1])
                low = LATENCIES[k - 1] if k else 0.0
                return low + (LATENCIES[k] - low) * (rank - seen) / count
            seen += count
        return float(LATENCIES[-1])


Query = Callable[[View], float]


@dataclass(frozen=True, slots=True)
class Asked:
    """A trigger and the query that feeds it."""

    query: Query
    trigger: Trigger


@dataclass(frozen=True, slots=True)
class Policy:
    """A ScaledObject. fixed: replicas of a fleet that is not scaled, 0 for one that is."""

    name: str
    asked: tuple[Asked, ...] = ()
    behavior: Behavior = field(default_factory=Behavior)
    least: int = LEAST
    most: int = MOST
    fixed: int = 0


@dataclass(frozen=True, slots=True)
class Knobs:
    """Of our signal, offered work / utilization + backlog / drain_s + spare, and of its behavior.

    window_s: of the rate. down_window_s: the stabilization of scale-in, whose policy is the default.
    """

    utilization: float = 0.8
    drain_s: float = 120.0
    spare: int = 0
    window_s: float = 60.0
    down_window_s: float = 300.0


# What is tried of each knob.
CHOICES: dict[str, tuple[float, ...]] = {
    "utilization": (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
    "drain_s": (30.0, 60.0, 120.0, 300.0),
    "spare": (0, 1, 2),
    "window_s": (60.0, 120.0),
    "down_window_s": (120.0, 300.0, 600.0),
}


def fix(replicas: int) -> Policy:
    """A fleet that is not scaled."""
    return Policy(f"static {replicas}", fixed=replicas)


def ours(knobs: Knobs = Knobs(), name: str = "") -> Policy:
    """Offered work and backlog, from one recording rule, as AverageValue with target 1."""

    def wanted(view: View) -> float:
        rate = view.offered_rate(knobs.window_s)
        return rate / knobs.utilization + view.last.backlog / knobs.drain_s + knobs.spare

    base = Behavior()
    down = replace(base.down, window_s=knobs.down_window_s)
    found = name or describe(knobs)
    trigger = Trigger(1.0, ignores_nulls=False)
    return Policy(found, (Asked(wanted, trigger),), Behavior(base.up, down))


def describe(knobs: Knobs) -> str:
    """The knobs in words."""
    said = f"work/{knobs.utilization:g} + backlog/{knobs.drain_s:g} s"
    said += f" + {knobs.spare:g}" if knobs.spare else ""
    said += f", rate over {knobs.window_s:g} s" if knobs.window_s != Knobs().window_s else ""
    return said + (f", in after {knobs.down_window_s:g} s" if knobs.down_window_s != 300 else "")


def _pods(value: int, period_s: float, window_s: float = 0.0) -> Rules:
    return Rules((RatePolicy("Pods", value, period_s),), window_s=window_s)


def _ask(query: Query, target: float, kind: Literal["Value", "AverageValue"] = "AverageValue") -> Asked:
    return Asked(query, Trigger(target, kind))


def _prefill_seconds(view: View) -> float:
    return view.last.input_waiting / view.service.input_per_s


BACKLOG = Policy("backlog, 2 s, default behavior", (_ask(lambda view: view.last.backlog, 2.0),))


@dataclass(frozen=True, slots=True)
class Targets:
    """Of the AWS recipe: requests that wait, and the 95th percentile of whole answers, in seconds."""

    waiting: float = 25.0
    seconds: float = 5.0


TARGET_CHOICES: dict[str, tuple[float, ...]] = {
    "waiting": (2.0, 5.0, 10.0, 25.0),
    "seconds": (2.5, 5.0, 10.0, 20.0, 40.0),
}


def aws(targets: Targets = Targets(), name: str = "") -> Policy:
    """The recipe of AWS's guide for EKS: two triggers and its behavior; other `targets` where they are fitted."""
    return Policy(
        name or f"AWS recipe, {targets.waiting:g} waiting, {targets.seconds:g} s",
        (
            _ask(lambda view: float(view.last.waiting), targets.waiting),
            _ask(lambda view: view.latency(0.95, WINDOW_S), targets.seconds),
        ),
        Behavior(_pods(2, 60, 30), _pods(1, 120, 300)),
    )


AWS = aws(name="AWS recipe")
LLM_D = Policy(
    "llm-d token-aware",
    (_ask(_prefill_seconds, 1.5), _ask(lambda view: view.last.kv, 0.8)),
    Behavior(_pods(1, 180), _pods(1, 300, 300)),
)
VLLM_STACK = Policy(
    "vLLM production-stack, waiting 5", (_ask(lambda view: float(view.last.waiting), 5.0),), Behavior()
)
PUBLISHED = (BACKLOG, AWS, LLM_D, VLLM_STACK)


class Controller:
    """A policy at work: KEDA's metrics server and the autoscaler, asked every 15 s. Mutable; used once."""

    def __init__(self, policy: Policy, service: Service) -> None:
        self._policy, self._service = policy, service
        self._limits = Limits(policy.least, policy.most, policy.behavior)
        self._history = History()
        self._failures = [0] * len(policy.asked)

    def look(self, now: float, samples: Sequence[Sample], replicas: int, ready: int) -> int:
        """The replicas from now on. Without a sample every trigger fails, and nothing changes."""
        if self._policy.fixed:
            return self._policy.fixed
        metrics: list[External] = []
        for k, asked in enumerate(self._policy.asked):
            series = [asked.query(View(samples, self._service))] if samples else None
            metric, self._failures[k] = read_trigger(asked.trigger, series, self._failures[k], replicas)
            metrics.append(metric)
        wanted, self._history = recommend(self._limits, self._history, now, Pods(replicas, ready), metrics)
        return wanted
