"""The arithmetic of Kubernetes' horizontal pod autoscaler, as pure functions.

Source: kubernetes pkg/controller/podautoscaler (replica_calculator.go, horizontal.go), as in 1.23 and later.
Metric values and targets are integers of thousandths, as the API's quantities are. Times are seconds of any clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Literal

from trireme.errors import InvalidInputError

# The controller's, where a behavior names none.
TOLERANCE = 0.1
SYNC_S = 15.0
MOST_PERIOD_S = 1800.0


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How far the replicas may change within a period, from what they were at its beginning.

    Raises InvalidInputError for what the API refuses.
    """

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float

    def __post_init__(self) -> None:
        if self.value <= 0 or not 0 < self.period_s <= MOST_PERIOD_S:
            raise InvalidInputError(f"a policy needs a value above 0 and a period of 1 to 1800 s: {self}")


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction of a behavior. select: which policy holds of several, the one that allows most or least."""

    policies: tuple[RatePolicy, ...]
    window_s: float = 0.0
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True)
class Behavior:
    """What `behavior` of an autoscaling/v2 object says, its defaults filled in."""

    up: Rules = Rules((RatePolicy("Percent", 100, 15), RatePolicy("Pods", 4, 15)))
    down: Rules = Rules((RatePolicy("Percent", 100, 15),), window_s=300.0)


@dataclass(frozen=True, slots=True)
class Limits:
    """An autoscaler: least and most replicas, and its behavior."""

    least: int
    most: int
    behavior: Behavior = field(default_factory=Behavior)


@dataclass(frozen=True, slots=True)
class Pods:
    """The pods of a Deployment: all of its status, and those of them that are ready."""

    current: int
    ready: int


@dataclass(frozen=True, slots=True)
class External:
    """An External or Object metric, in thousandths. value: None where it cannot be read."""

    value: int | None
    target: int
    kind: Literal["Value", "AverageValue"] = "AverageValue"


@dataclass(frozen=True, slots=True)
class PerPod:
    """A Pods metric, in thousandths by pod. unready pods' values do not count; missing pods have none.

    Of a CPU metric `unready` are pods within their initialization; of other metrics pods that are pending.
    """

    values: Mapping[str, int]
    target: int
    unready: Set[str] = frozenset()
    missing: Set[str] = frozenset()


Metric = External | PerPod


@dataclass(frozen=True, slots=True)
class History:
    """What the controller keeps between two looks, each with its time: recommendations, changes up and down."""

    recommendations: tuple[tuple[float, int], ...] = ()
    ups: tuple[tuple[float, int], ...] = ()
    downs: tuple[tuple[float, int], ...] = ()


def to_thousandths(value: float) -> int:
    """As KEDA makes a quantity of a number: what is below a thousandth is cut."""
    return int(value * 1000)


def is_within(ratio: float, behavior: Behavior) -> bool:
    """Whether a metric is so near its target that nothing changes."""
    tolerance = behavior.up.tolerance if ratio > 1 else behavior.down.tolerance
    return abs(1.0 - ratio) <= tolerance


def propose_external(metric: External, pods: Pods, behavior: Behavior) -> int | None:
    """What one External metric asks for; None where it cannot be read.

    AverageValue divides by all pods, ready or not, and then not by them at all: ceil(total / target).
    Value multiplies the ready ones.
    """
    if metric.value is None:
        return None
    if metric.kind == "AverageValue":
        if pods.current and is_within(metric.value / (metric.target * pods.current), behavior):
            return pods.current
        return math.ceil(metric.value / metric.target)
    ratio = metric.value / metric.target
    if not pods.current:
        return math.ceil(ratio)
    return pods.current if is_within(ratio, behavior) else math.ceil(ratio * pods.ready)


def _ratio(values: Mapping[str, int], target: int) -> float:
    # The mean is a whole number of thousandths.
    return (sum(values.values()) // len(values)) / target


def propose_per_pod(metric: PerPod, pods: Pods, behavior: Behavior) -> int | None:
    """What a Pods metric asks for; None where no ready pod has a value.

    Pods without a value count as at the target on the way down and as idle on the way up, unready ones as idle on
    the way up. Where that turns the direction round, nothing changes.
    """
    values = {name: one for name, one in metric.values.items() if name not in metric.unready | metric.missing}
    if not values:
        return None
    ratio = _ratio(values, metric.target)
    grows_with_unready = bool(metric.unready) and ratio > 1
    if not grows_with_unready and not metric.missing:
        return pods.current if is_within(ratio, behavior) else math.ceil(ratio * len(values))
    values |= dict.fromkeys(metric.missing, metric.target if ratio < 1 else 0)
    if grows_with_unready:
        values |= dict.fromkeys(metric.unready, 0)
    after = _ratio(values, metric.target)
    if is_within(after, behavior) or (ratio < 1 < after) or (after < 1 < ratio):
        return pods.current
    wanted = math.ceil(after * len(values))
    turns = wanted > pods.current if after < 1 else wanted < pods.current
    return pods.current if turns else wanted


def propose(metrics: Sequence[Metric], pods: Pods, behavior: Behavior) -> int | None:
    """The largest of what the metrics ask for; None where nothing may change.

    While a metric cannot be read, the others may only raise the replicas.
    """
    asked = [
        propose_external(one, pods, behavior)
        if isinstance(one, External)
        else propose_per_pod(one, pods, behavior)
        for one in metrics
    ]
    known = [one for one in asked if one is not None]
    if not known or (len(known) < len(asked) and max(known) < pods.current):
        return None
    return max(known)


def _changed(events: Sequence[tuple[float, int]], since: float) -> int:
    return sum(count for at, count in events if at > since)


def stabilize(wanted: int, current: int, behavior: Behavior, history: History, now: float) -> int:
    """The present replicas, moved no further than to what all of a window's recommendations agree on."""
    lower = min([n for at, n in history.recommendations if at > now - behavior.up.window_s] + [wanted])
    upper = max([n for at, n in history.recommendations if at > now - behavior.down.window_s] + [wanted])
    return min(max(current, lower), upper)


def limit_up(current: int, rules: Rules, history: History, now: float) -> int:
    """The most replicas that the policies allow now."""
    if rules.select == "Disabled":
        return current
    allowed = []
    for policy in rules.policies:
        since = now - policy.period_s
        start = current - _changed(history.ups, since) + _changed(history.downs, since)
        grown = start * (1 + policy.value / 100)
        allowed.append(start + policy.value if policy.kind == "Pods" else math.ceil(grown))
    return max(current, max(allowed) if rules.select == "Max" else min(allowed))


def limit_down(current: int, rules: Rules, history: History, now: float) -> int:
    """The fewest replicas that the policies allow now. What a percentage leaves is cut to a whole number."""
    if rules.select == "Disabled":
        return current
    allowed = []
    for policy in rules.policies:
        since = now - policy.period_s
        start = current - _changed(history.ups, since) + _changed(history.downs, since)
        left = int(start * (1 - policy.value / 100))
        allowed.append(start - policy.value if policy.kind == "Pods" else left)
    return min(current, min(allowed) if rules.select == "Max" else max(allowed))


def recommend(
    limits: Limits, history: History, now: float, pods: Pods, metrics: Sequence[Metric]
) -> tuple[int, History]:
    """One look of the controller: the replicas from now on, and what it keeps for the next. A pure function."""
    current, behavior = pods.current, limits.behavior
    if current == 0 and limits.least > 0:
        return 0, history  # Scaled to 0 by hand: the autoscaler is off.
    if not history.recommendations:
        history = History(((now, current),), history.ups, history.downs)
    if not limits.least <= current <= limits.most:
        wanted = min(max(current, limits.least), limits.most)
        return wanted, _note_change(history, now, wanted - current)
    asked = propose(metrics, pods, behavior)
    if asked is None:
        return current, history
    wanted = stabilize(asked, current, behavior, history, now)
    if wanted > current:
        wanted = min(wanted, limits.most, limit_up(current, behavior.up, history, now))
    elif wanted < current:
        wanted = max(wanted, limits.least, limit_down(current, behavior.down, history, now))
    kept = now - max(behavior.up.window_s, behavior.down.window_s)
    recent = tuple(one for one in history.recommendations if one[0] > kept)
    history = History((*recent, (now, asked)), history.ups, history.downs)
    return wanted, _note_change(history, now, wanted - current)


def _note_change(history: History, now: float, change: int) -> History:
    if not change:
        return history
    since = now - MOST_PERIOD_S
    ups = tuple(one for one in history.ups if one[0] > since)
    downs = tuple(one for one in history.downs if one[0] > since)
    if change > 0:
        return History(history.recommendations, (*ups, (now, change)), downs)
    return History(history.recommendations, ups, (*downs, (now, -change)))
