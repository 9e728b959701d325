"""The arithmetic of the autoscaler: cases computed by hand, and replays of Kubernetes' own code."""

import json
from pathlib import Path

import pytest

from benchmarks.scaling.hpa import (
    Behavior,
    External,
    History,
    Limits,
    PerPod,
    Pods,
    RatePolicy,
    Rules,
    propose,
    propose_external,
    propose_per_pod,
    recommend,
    stabilize,
    to_thousandths,
)
from trireme.errors import InvalidInputError

GOLDEN = Path(__file__).parents[5] / "shared" / "facts" / "hpa" / "golden_traces.json"
PLAIN = Behavior()


def average(value, target=2):
    return External(to_thousandths(value), to_thousandths(target))


def value(value, target=2):
    return External(to_thousandths(value), to_thousandths(target), "Value")


@pytest.mark.parametrize(
    ("total", "current", "asked"),
    [
        (10, 3, 5),  # 10 / (2 x 3) = 1.67, so ceil(10 / 2)
        (6.5, 3, 3),  # 1.083 is within a tenth of the target
        (6.7, 3, 4),  # 1.117 is not
        (5.5, 3, 3),  # 0.917
        (5.3, 3, 3),  # 0.883, and ceil(2.65) is 3 again
        (0, 3, 0),
        (7, 0, 4),
    ],
)
def test_an_average_value_divides_the_total_by_its_target(total, current, asked):
    # How many are ready is all the same.
    for ready in (0, 1, current):
        assert propose_external(average(total), Pods(current, ready), PLAIN) == asked


@pytest.mark.parametrize(
    ("metric", "current", "ready", "asked"),
    [
        (3, 4, 4, 6),  # 1.5 x 4
        (3, 4, 2, 3),  # 1.5 x the two that are ready: fewer than there are
        (2.15, 4, 4, 4),  # 1.075
        (0, 4, 4, 0),
        (3, 0, 0, 2),  # ceil(1.5)
    ],
)
def test_a_value_multiplies_the_ready_pods(metric, current, ready, asked):
    assert propose_external(value(metric), Pods(current, ready), PLAIN) == asked


def test_each_direction_may_have_a_tolerance_of_its_own():
    behavior = Behavior(
        up=Rules(PLAIN.up.policies, tolerance=0.0), down=Rules(PLAIN.down.policies, tolerance=0.5)
    )
    assert propose_external(value(2.02), Pods(10, 10), behavior) == 11
    assert propose_external(value(1.1), Pods(10, 10), behavior) == 10


def test_what_is_below_a_thousandth_is_cut():
    assert to_thousandths(1.9999) == 1999
    assert propose_external(average(4.0009, 4), Pods(0, 0), PLAIN) == 1


@pytest.mark.parametrize(
    ("metric", "current", "asked"),
    [
        # 2 and 2 of a target of 1: twice as many as have values.
        (PerPod({"a": 2000, "b": 2000}, 1000), 2, 4),
        # The unready third counts as idle on the way up: (2 + 2 + 0) / 3 = 1.333, ceil(1.333 x 3).
        (PerPod({"a": 2000, "b": 2000, "c": 9000}, 1000, unready={"c"}), 3, 4),
        # On the way down it is left out: 0.2 x 2 ready ones.
        (PerPod({"a": 200, "b": 200, "c": 9000}, 1000, unready={"c"}), 3, 1),
        # A missing third counts as at its target on the way down: (0.2 + 0.2 + 1) / 3 = 0.466, ceil(1.398).
        (PerPod({"a": 200, "b": 200}, 1000, missing={"c"}), 3, 2),
        # And as idle on the way up: (3 + 0) / 2 = 1.5, ceil(3).
        (PerPod({"a": 3000}, 1000, missing={"b"}), 2, 3),
        # 1.2 becomes 0.6: the direction turns round, so nothing changes.
        (PerPod({"a": 1200}, 1000, missing={"b"}), 2, 2),
        # 0.5 becomes 0.95: within the tolerance.
        (PerPod({"a": 500}, 1000, missing=set("bcdefghij")), 10, 10),
        # 1.5 of 2 with values says 3, fewer than the 5 that there are: not on the way up.
        (PerPod({"a": 3000, "b": 1500}, 1000, unready={"c"}), 5, 5),
        (PerPod({"a": 1050, "b": 1050}, 1000), 2, 2),
    ],
)
def test_pods_that_are_not_ready_or_missing_damp_a_pods_metric(metric, current, asked):
    assert propose_per_pod(metric, Pods(current, current), PLAIN) == asked


def test_without_any_value_a_pods_metric_is_unknown():
    assert propose_per_pod(PerPod({"a": 5}, 1, unready={"a"}), Pods(1, 0), PLAIN) is None


def test_of_several_metrics_the_largest_wins_and_a_lost_one_lets_replicas_only_grow():
    pods = Pods(4, 4)
    assert propose([average(2), average(12)], pods, PLAIN) == 6
    lost = External(None, 2000)
    assert propose([lost, average(12)], pods, PLAIN) == 6
    assert propose([lost, average(2)], pods, PLAIN) is None
    assert propose([lost], pods, PLAIN) is None


def look(limits, history, now, current, total):
    return recommend(limits, history, now, Pods(current, current), [average(total)])


def test_scale_in_waits_until_the_whole_window_agrees():
    limits, history, current = Limits(1, 20), History(), 10
    seen = []
    for now in range(0, 345, 15):
        current, history = look(limits, history, now, current, 20 if now == 0 else 4)
        seen.append((now, current))
    # What was asked at 0 counts until it is 300 s old.
    assert seen[19:21] == [(285, 10), (300, 2)]


def test_scale_out_may_wait_too_and_takes_the_least_of_its_window():
    behavior = Behavior(up=Rules(PLAIN.up.policies, window_s=60))
    history = History(((0.0, 5), (30.0, 8)))
    assert stabilize(9, 4, behavior, history, 45.0) == 5
    assert stabilize(9, 4, behavior, history, 60.0) == 8
    # Within the two bounds nothing moves.
    assert stabilize(9, 7, behavior, history, 45.0) == 7


@pytest.mark.parametrize(
    ("policies", "select", "current", "most"),
    [
        (PLAIN.up.policies, "Max", 1, 5),  # 4 pods are more than 100 %
        (PLAIN.up.policies, "Max", 12, 24),
        (PLAIN.up.policies, "Min", 12, 16),
        (PLAIN.up.policies, "Disabled", 12, 12),
        ((RatePolicy("Percent", 10, 15),), "Max", 5, 6),  # 5.5, rounded up
    ],
)
def test_policies_bound_what_is_added(policies, select, current, most):
    limits = Limits(1, 100, Behavior(up=Rules(policies, select=select)))
    assert look(limits, History(), 0.0, current, 400)[0] == most


@pytest.mark.parametrize(
    ("policies", "select", "current", "fewest"),
    [
        ((RatePolicy("Percent", 100, 15),), "Max", 9, 1),
        ((RatePolicy("Percent", 50, 15),), "Max", 7, 3),  # 3.5 stay, cut to 3
        ((RatePolicy("Percent", 10, 15), RatePolicy("Pods", 2, 15)), "Max", 9, 7),
        ((RatePolicy("Percent", 10, 15), RatePolicy("Pods", 2, 15)), "Min", 9, 8),
        ((RatePolicy("Pods", 2, 15),), "Disabled", 9, 9),
    ],
)
def test_policies_bound_what_is_removed(policies, select, current, fewest):
    limits = Limits(1, 100, Behavior(down=Rules(policies, select=select)))
    assert look(limits, History(), 0.0, current, 0)[0] == fewest


def test_a_policy_counts_the_changes_of_its_period():
    limits = Limits(1, 100, Behavior(up=Rules((RatePolicy("Pods", 2, 60),))))
    current, history, seen = 1, History(), []
    for now in range(0, 135, 15):
        current, history = look(limits, history, now, current, 400)
        seen.append(current)
    assert seen == [3, 3, 3, 3, 5, 5, 5, 5, 7]


def test_replicas_beyond_the_bounds_come_back_at_once():
    assert look(Limits(2, 6), History(), 0.0, 9, 400)[0] == 6
    assert look(Limits(2, 6), History(), 0.0, 1, 0)[0] == 2
    assert look(Limits(2, 6), History(), 0.0, 3, 400)[0] == 6


def test_a_deployment_at_zero_is_left_alone():
    assert look(Limits(1, 6), History(), 0.0, 0, 400) == (0, History())


def test_an_unknown_metric_changes_nothing_and_leaves_no_recommendation():
    history = History(((0.0, 3),))
    assert recommend(Limits(1, 9), history, 15.0, Pods(3, 3), [External(None, 1)]) == (3, history)


def test_a_policy_that_the_api_refuses_is_refused():
    for policy in (("Pods", 0, 15), ("Pods", 1, 0), ("Pods", 1, 1801)):
        with pytest.raises(InvalidInputError):
            RatePolicy(*policy)


def rules_of(found):
    policies = tuple(RatePolicy(one["type"], one["value"], one["periodSeconds"]) for one in found["policies"])
    return Rules(policies, found["stabilizationWindowSeconds"], found["selectPolicy"])


@pytest.mark.shared_data
def test_replays_of_kubernetes_own_code_give_the_same_replicas():
    if not GOLDEN.is_file():
        pytest.skip("no golden traces: the optional data folder is absent")
    traces = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert traces
    for trace in traces:
        scenario, behavior = trace["scenario"], trace["scenario"]["Behavior"]
        both = Behavior(rules_of(behavior["scaleUp"]), rules_of(behavior["scaleDown"]))
        limits = Limits(scenario["Min"], scenario["Max"], both)
        target, ready_at, history = to_thousandths(scenario["Target"]), [0.0] * scenario["Initial"], History()
        for now, metric, replicas in trace["samples"]:
            pods = Pods(len(ready_at), sum(at <= now for at in ready_at))
            metrics = [External(to_thousandths(metric), target, scenario["Mode"])]
            found, history = recommend(limits, history, now, pods, metrics)
            assert found == replicas, (scenario["Name"], now)
            # The youngest go first.
            ready_at = ready_at[:replicas] + [now + scenario["Warm"]] * (replicas - len(ready_at))
