import math

import pytest

from benchmarks.scaling.hpa import External
from benchmarks.scaling.keda import Fallback, Trigger, read_trigger, scale_from_or_to_zero
from trireme.errors import InvalidInputError

LOST = ([], [math.nan], [math.inf])


@pytest.mark.parametrize("series", LOST)
def test_a_lost_metric_counts_as_zero_unless_nulls_are_minded(series):
    assert read_trigger(Trigger(2.0), series, 3, 5) == (External(0, 2000), 0)
    assert read_trigger(Trigger(2.0, ignores_nulls=False), series, 3, 5) == (External(None, 2000), 4)


def test_of_two_series_none_is_taken_and_no_answer_is_a_failure():
    for series in ([1.0, 2.0], None):
        assert read_trigger(Trigger(2.0), series, 0, 5) == (External(None, 2000), 1)


def test_a_value_ends_the_failures():
    assert read_trigger(Trigger(2.0, "Value"), [3.25], 7, 5) == (External(3250, 2000, "Value"), 0)


@pytest.mark.parametrize(
    ("behavior", "current", "replicas"),
    [
        ("static", 9, 6),
        ("currentReplicas", 9, 9),
        ("currentReplicasIfHigher", 9, 9),
        ("currentReplicasIfHigher", 4, 6),
        ("currentReplicasIfLower", 9, 6),
        ("currentReplicasIfLower", 4, 4),
    ],
)
def test_a_fallback_asks_for_its_replicas_once_failures_are_more_than_its_threshold(
    behavior, current, replicas
):
    trigger = Trigger(1.5, fallback=Fallback(3, 6, behavior))
    assert read_trigger(trigger, None, 2, current) == (External(None, 1500), 3)
    # target x replicas: the autoscaler divides by the target again.
    assert read_trigger(trigger, None, 3, current) == (External(1500 * replicas, 1500), 4)


def test_a_fallback_of_a_value_trigger_is_refused():
    with pytest.raises(InvalidInputError, match="AverageValue"):
        Trigger(2.0, "Value", fallback=Fallback(3, 6))


@pytest.mark.parametrize(
    ("current", "values", "idle_s", "least", "after"),
    [
        (0, [0.0, 5.1], 0, 0, 1),
        (0, [5.0], 0, 0, 0),  # It must exceed the activation.
        (0, [9.0], 0, 2, 2),
        (3, [0.0], 299, 0, 3),
        (3, [0.0], 300, 0, 0),
        (3, [0.0], 900, 1, 3),  # With a least of 1 it is the autoscaler's alone.
        (3, [9.0], 900, 0, 3),
    ],
)
def test_from_and_to_zero_keda_scales_itself(current, values, idle_s, least, after):
    found = scale_from_or_to_zero(current, values, 5.0, idle_s=idle_s, cooldown_s=300, least=least)
    assert found == after
