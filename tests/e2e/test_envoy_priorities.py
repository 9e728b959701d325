"""The real Envoy between two regions: calls that must not leave theirs, and calls that are shed first."""

from contextlib import closing

import grpc
import pytest

from fakes.balancers import Balancer, code_of
from fakes.replicas import Hold, calls_of, cut, fail
from trireme.errors import UnavailableError
from trireme.scale.routes import PRIORITY_HEADER, RESIDENCY_HEADER
from trireme.triton.call_route import CallRoute
from trireme.triton.client import TritonClient

NEAR = ((RESIDENCY_HEADER, "near"),)
BATCH = ((PRIORITY_HEADER, "batch"),)
HIGH = ((PRIORITY_HEADER, "high"),)
IDEMPOTENT, OTHER = "embedding", "rag"
ENTRY = {
    "serves": [IDEMPOTENT, OTHER],
    "idempotent": [IDEMPOTENT],
    "maxRequests": 4,
    "failoverMaxRequests": 2,
}


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    running = Balancer(tmp_path_factory.mktemp("envoy"), {"retrieval": ENTRY}, regions=("here", "there"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def batch_balancer(tmp_path_factory):
    """One whose batch calls may fail over, too."""
    models = {"retrieval": {**ENTRY, "failoverBatchRequests": 1}}
    running = Balancer(tmp_path_factory.mktemp("batch"), models, regions=("here", "there"))
    yield running
    running.close()


def far(replica, **changes):
    return replica.endpoint(region="there", priority=1, **changes)


def near(replica, **changes):
    return replica.endpoint(region="here", **changes)


@pytest.mark.parametrize("metadata", [NEAR, ((RESIDENCY_HEADER, "Near"),), (*NEAR, *BATCH), BATCH])
def test_a_call_that_must_stay_fails_at_once_where_no_near_replica_is_left(balancer, replicas, metadata):
    here, there = replicas(2)
    balancer.place(near(here, state="draining"), far(there))
    for model in (IDEMPOTENT, OTHER):
        assert code_of(lambda model=model: balancer.infer(model, metadata=metadata)) == "UNAVAILABLE"
    assert code_of(lambda: balancer.stream(OTHER, metadata=metadata)) == "UNAVAILABLE"
    # Others go there meanwhile.
    balancer.infer(OTHER)
    assert calls_of([here, there]) == [0, 1]


def test_a_client_of_ours_is_told_so_by_a_typed_error(balancer, replicas):
    here, there = replicas(2)
    balancer.place(near(here, state="draining"), far(there))
    with TritonClient(balancer.address, 30.0, CallRoute(stays_near=True)) as client:
        with pytest.raises(UnavailableError):
            client.infer(OTHER, {"x": [["a"]]})
        with pytest.raises(UnavailableError):
            list(client.stream(OTHER, {"x": "a"}))
    assert there.calls == 0


def test_a_call_that_must_stay_is_asked_again_near_alone(balancer, replicas):
    first, second, there = replicas(3)
    first.infer = second.infer = fail(grpc.StatusCode.UNAVAILABLE)
    first.stream = lambda request, context: cut(first, context)
    second.stream = lambda request, context: cut(second, context)
    balancer.place(near(first), near(second), far(there))
    assert code_of(lambda: balancer.infer(IDEMPOTENT, metadata=NEAR)) == "UNAVAILABLE"
    assert code_of(lambda: balancer.stream(OTHER, metadata=NEAR)) != "OK"
    assert first.calls >= 2
    assert second.calls >= 2
    assert there.calls == 0
    # Without the word the same call is answered far away.
    balancer.infer(IDEMPOTENT)
    assert there.calls == 1


def test_batch_calls_have_all_of_the_near_region_while_it_lives(balancer, replicas):
    bad, good, there = replicas(3)
    bad.infer = fail(grpc.StatusCode.UNAVAILABLE)
    balancer.place(near(bad), near(good), far(there))
    for _ in range(10):
        balancer.infer(IDEMPOTENT, metadata=BATCH)
    # What one near replica refused the other one answered: no region of batch calls is lost by a replica.
    assert [good.calls, there.calls] == [10, 0]


def test_batch_calls_are_refused_at_once_and_others_served_up_to_their_cap_when_near_is_lost(
    balancer, replicas
):
    (here, there), hold = replicas(2), Hold()
    balancer.place(near(here, state="draining"), far(there))
    there.infer = hold.infer
    held = [balancer.start(OTHER), balancer.start(OTHER, metadata=HIGH)]
    hold.wait_for(2)
    for metadata in (BATCH, (), HIGH):
        assert code_of(lambda metadata=metadata: balancer.infer(OTHER, metadata=metadata)) == "UNAVAILABLE"
    assert there.calls == 2
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]


def test_batch_calls_that_may_fail_over_have_a_cap_of_their_own(batch_balancer, replicas):
    (here, there), hold = replicas(2), Hold()
    batch_balancer.place(near(here, state="draining"), far(there))
    there.infer = hold.infer
    held = [batch_balancer.start(OTHER, metadata=BATCH)]
    hold.wait_for(1)
    assert code_of(lambda: batch_balancer.infer(OTHER, metadata=BATCH)) == "UNAVAILABLE"
    # Batch has taken no place of the others', nor do they take its.
    held += [batch_balancer.start(OTHER), batch_balancer.start(OTHER, metadata=HIGH)]
    hold.wait_for(2)
    assert code_of(lambda: batch_balancer.infer(OTHER)) == "UNAVAILABLE"
    left = "cluster.retrieval_far{}.circuit_breakers.default.remaining_rq"
    batch_balancer.wait_until(lambda: batch_balancer.stat(left.format("_batch")) == 0)
    assert batch_balancer.stat(left.format("")) == 0
    hold.end.set()
    assert [call.result().id for call in held] == ["late"] * 3
    batch_balancer.wait_until(lambda: batch_balancer.stat(left.format("_batch")) == 1)
    batch_balancer.wait_until(lambda: batch_balancer.stat(left.format("")) == 2)


def test_a_batch_call_that_must_stay_stays_also_where_batch_may_fail_over(batch_balancer, replicas):
    here, there = replicas(2)
    batch_balancer.place(near(here, state="draining"), far(there))
    assert code_of(lambda: batch_balancer.infer(IDEMPOTENT, metadata=(*BATCH, *NEAR))) == "UNAVAILABLE"
    batch_balancer.infer(IDEMPOTENT, metadata=BATCH)
    assert there.calls == 1


def test_near_replicas_take_no_more_than_their_cap_of_all_priorities_together(batch_balancer, replicas):
    (here, there), hold = replicas(2), Hold()
    batch_balancer.place(near(here), far(there))
    here.infer = hold.infer
    held = [batch_balancer.start(OTHER, metadata=metadata) for metadata in (BATCH, (), NEAR, HIGH)]
    hold.wait_for(4)
    for metadata in (BATCH, (), NEAR):
        refused = code_of(lambda metadata=metadata: batch_balancer.infer(OTHER, metadata=metadata))
        assert refused == "UNAVAILABLE"
    hold.end.set()
    assert [call.result().id for call in held] == ["late"] * 4
    assert there.calls == 0


def test_retries_of_batch_calls_have_the_budget_too(tmp_path, replicas):
    here, there = replicas(2)
    here.infer = fail(grpc.StatusCode.UNAVAILABLE)
    models = {"retrieval": {**ENTRY, "failoverBatchRequests": 1}}
    settings = {"retryBudgetPercent": 0, "minRetryConcurrency": 0}
    with closing(Balancer(tmp_path, models, ("here", "there"), **settings)) as balancer:
        balancer.place(near(here), far(there))
        for metadata in (BATCH, NEAR, ()):
            refused = code_of(lambda metadata=metadata: balancer.infer(IDEMPOTENT, metadata=metadata))
            assert refused == "UNAVAILABLE"
    assert calls_of([here, there]) == [3, 0]
