"""What KEDA makes of a query's result before the autoscaler of Kubernetes sees it, as pure functions.

Source: kedacore/keda 2.20 (pkg/scalers/prometheus_scaler.go, pkg/fallback, pkg/scaling/executor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.scaling.hpa import External, to_thousandths
from trireme.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Fallback:
    """Replicas that are asked for when a trigger has failed more than `failures` times in a row."""

    failures: int
    replicas: int
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = (
        "static"
    )


@dataclass(frozen=True, slots=True)
class Trigger:
    """A Prometheus trigger. ignores_nulls: KEDA's default, by which a lost metric counts as 0.

    Raises InvalidInputError for a fallback of a Value trigger, which is not modelled.
    """

    target: float
    kind: Literal["Value", "AverageValue"] = "AverageValue"
    ignores_nulls: bool = True
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        if self.fallback is not None and self.kind == "Value":
            raise InvalidInputError("a fallback needs a trigger of kind AverageValue")


def read_series(series: Sequence[float] | None, ignores_nulls: bool) -> float | None:
    """The value of a query's result; None where KEDA sees a failure.

    series: the values of the result, None where Prometheus did not answer. Of several series it takes none.
    """
    if series is None or len(series) > 1:
        return None
    if not series or not math.isfinite(series[0]):
        return 0.0 if ignores_nulls else None
    return series[0]


def pick_fallback(fallback: Fallback, current: int) -> int:
    """The replicas that a fallback asks for."""
    picked = {
        "static": fallback.replicas,
        "currentReplicas": current,
        "currentReplicasIfHigher": max(current, fallback.replicas),
        "currentReplicasIfLower": min(current, fallback.replicas),
    }
    return picked[fallback.behavior]


def read_trigger(
    trigger: Trigger, series: Sequence[float] | None, failures: int, current: int
) -> tuple[External, int]:
    """The metric as the autoscaler gets it, and how often the trigger has failed in a row by now."""
    target = to_thousandths(trigger.target)
    value = read_series(series, trigger.ignores_nulls)
    if value is not None:
        return External(to_thousandths(value), target, trigger.kind), 0
    failures += 1
    if trigger.fallback is None or failures <= trigger.fallback.failures:
        return External(None, target, trigger.kind), failures
    asked = trigger.target * pick_fallback(trigger.fallback, current)
    return External(to_thousandths(asked), target, trigger.kind), failures


def scale_from_or_to_zero(
    current: int, values: Sequence[float], activation: float, *, idle_s: float, cooldown_s: float, least: int
) -> int:
    """What KEDA itself does, every polling interval: from 0, and to 0 where the least is 0. Else `current`.

    activation: which a trigger must exceed to count as active. idle_s: seconds since one was.
    """
    if any(value > activation for value in values):
        return max(1, least) if current == 0 else current
    return 0 if least == 0 and current > 0 and idle_s >= cooldown_s else current
