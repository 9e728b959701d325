"""The real Envoy between two regions: the near one first, the far one as far as it is allowed."""

from contextlib import closing

import grpc
import pytest

from fakes.balancers import Balancer, code_of
from fakes.replicas import NOT_SERVING, SERVING, Hold, calls_of, cut, fail, fail_first

MODELS = {
    "retrieval": {
        "serves": ["embedding", "rag"],
        "idempotent": ["embedding"],
        "maxRequests": 50,
        "failoverMaxRequests": 2,
    }
}
IDEMPOTENT, OTHER, STREAMED = "embedding", "rag", "rag"


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    running = Balancer(tmp_path_factory.mktemp("envoy"), MODELS, regions=("here", "there"))
    yield running
    running.close()


def far(replica, **changes):
    return replica.endpoint(region="there", priority=1, **changes)


def near(replica, **changes):
    return replica.endpoint(region="here", **changes)


def test_calls_stay_near_also_when_one_replica_of_two_is_lost(balancer, replicas):
    first, second, there = replicas(3)
    balancer.place(near(first), near(second), far(there))
    second.health = NOT_SERVING
    balancer.wait_until(lambda: balancer.is_out(second) and balancer.leaves(second))
    near_before = calls_of([first, second])
    for _ in range(30):
        balancer.infer(OTHER)
    assert calls_of([first, second, there]) == [near_before[0] + 30, near_before[1], 0]


@pytest.mark.parametrize("how", ["draining", "unhealthy", "gone"])
def test_when_a_region_is_lost_the_other_serves_and_then_it_is_back(balancer, replicas, how):
    first, second, there = replicas(3)
    balancer.place(near(first), near(second), far(there))
    if how == "draining":
        balancer.place(near(first, state="draining"), near(second, state="draining"), far(there))
    elif how == "gone":
        balancer.place(far(there))
        balancer.wait_until(lambda: {first.port, second.port}.isdisjoint(balancer.hosts()))
    else:
        first.health = second.health = NOT_SERVING
        balancer.wait_until(lambda: balancer.is_out(first) and balancer.is_out(second))
        balancer.wait_until(lambda: balancer.leaves(first, second))
    before = calls_of([first, second, there])
    assert how == "unhealthy" or before == [0, 0, 0]
    for _ in range(10):
        balancer.infer(OTHER)
    assert balancer.stream(STREAMED) == ["one", "two"]
    assert calls_of([first, second, there]) == [*before[:2], before[2] + 11]
    first.health = second.health = SERVING
    balancer.place(near(first), near(second), far(there))
    balancer.wait_until(lambda: balancer.leaves(there))
    before = calls_of([first, second, there])
    for _ in range(10):
        balancer.infer(OTHER)
    after = calls_of([first, second, there])
    assert sum(after[:2]) == sum(before[:2]) + 10
    assert after[2] == before[2]


def test_no_more_calls_fail_over_than_the_far_region_takes(balancer, replicas):
    (here, there), hold = replicas(2), Hold()
    balancer.place(near(here, state="draining"), far(there))
    there.infer = hold.infer
    held = [balancer.start(OTHER) for _ in range(2)]
    hold.wait_for(2)
    assert code_of(lambda: balancer.infer(OTHER)) == "UNAVAILABLE"
    assert there.calls == 2
    # What stays near is not counted with them.
    balancer.place(near(here), far(there))
    for _ in range(10):
        balancer.infer(OTHER)
    assert here.calls == 10
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]


def test_what_fails_in_a_region_is_asked_in_the_next_one(balancer, replicas):
    here, there = replicas(2)
    here.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(near(here), far(there))
    balancer.infer(IDEMPOTENT)
    assert calls_of([here, there]) == [1, 1]
    here.infer = cut_and_say_nothing(here)
    balancer.infer(IDEMPOTENT)
    assert calls_of([here, there]) == [2, 2]
    assert code_of(lambda: balancer.infer(OTHER)) == "UNAVAILABLE"
    assert calls_of([here, there]) == [3, 2]


def test_without_far_replicas_what_fails_is_asked_of_another_near_one(balancer, replicas):
    bad, good = replicas(2)
    bad.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(near(bad), near(good))
    for _ in range(20):
        balancer.infer(IDEMPOTENT)
    assert good.calls == 20


def test_retries_of_both_regions_have_one_budget(tmp_path, replicas):
    here, there = replicas(2)
    here.infer = fail(grpc.StatusCode.UNAVAILABLE)
    regions = ("here", "there")
    with closing(
        Balancer(tmp_path, MODELS, regions, retryBudgetPercent=0, minRetryConcurrency=0)
    ) as balancer:
        balancer.place(near(here), far(there))
        assert code_of(lambda: balancer.infer(IDEMPOTENT)) == "UNAVAILABLE"
    assert calls_of([here, there]) == [1, 0]


def test_a_stream_that_had_not_begun_begins_in_the_next_region(balancer, replicas):
    here, there = replicas(2)
    fail_first([here], cut)
    balancer.place(near(here), far(there))
    assert balancer.stream(STREAMED) == ["one", "two"]
    assert calls_of([here, there]) == [1, 1]


def test_a_region_that_falls_silent_costs_no_idempotent_call_and_no_stream_that_had_not_begun(
    tmp_path, replicas
):
    near_ones, there, hold = replicas(2), *replicas(1), Hold()
    for one in near_ones:
        one.infer = hold.infer
        one.stream = hold.stream_late
    settings = {"keepaliveIntervalSeconds": 0.1, "keepaliveTimeoutSeconds": 1}
    models = {"retrieval": {**MODELS["retrieval"], "failoverMaxRequests": 50}}
    with closing(Balancer(tmp_path, models, ("here", "there"), **settings)) as balancer:
        balancer.place(*map(near, near_ones), far(there))
        running = [balancer.start(IDEMPOTENT) for _ in range(10)]
        hold.wait_for(10)
        stream = balancer.open_stream(STREAMED)
        hold.wait_for(1)
        for one in near_ones:
            one.fall_silent()
        fresh = [balancer.start(IDEMPOTENT) for _ in range(10)]
        assert [call.result().id for call in (*running, *fresh)] == [""] * 20
        assert [part.infer_response.id for part in stream] == ["one", "two"]
        hold.end.set()
        assert there.calls >= 21


def test_far_regions_are_asked_in_the_order_of_their_priorities_which_may_change(balancer, replicas):
    b, c = replicas(2)
    balancer.place(b.endpoint(region="b", priority=1), c.endpoint(region="c", priority=4))
    balancer.wait_until(lambda: len(balancer.hosts()) == 2)
    balancer.infer(OTHER)
    balancer.place(c.endpoint(region="c", priority=1), b.endpoint(region="b", priority=2))
    balancer.wait_until(lambda: balancer.priority_of(c) == 0)
    balancer.infer(OTHER)
    balancer.infer(OTHER)
    assert calls_of([b, c]) == [1, 2]


def cut_and_say_nothing(replica):
    return lambda request, context: cut(replica, context)
