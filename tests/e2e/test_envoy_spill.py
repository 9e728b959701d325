"""The real Envoy between two regions: a share of the calls leaves, and is asked near where that fails."""

import json
from contextlib import closing

import grpc
import pytest
from tritonclient.grpc import service_pb2

from fakes.balancers import Balancer, code_of
from fakes.replicas import Hold, calls_of, cut, fail
from trireme.scale.routes import MODEL_HEADER, NOT_SENT_HEADER, PRIORITY_HEADER, RESIDENCY_HEADER, spill_key
from trireme.scale.spill import write_shares

IDEMPOTENT, OTHER = "embedding", "rag"
MODELS = {
    "retrieval": {
        "serves": [IDEMPOTENT, OTHER],
        "idempotent": [IDEMPOTENT],
        "maxRequests": 50,
        "failoverMaxRequests": 2,
    },
    "llm": {"serves": ["llm"]},
}


@pytest.fixture(scope="module")
def balancer(tmp_path_factory):
    running = Balancer(tmp_path_factory.mktemp("spill"), MODELS, regions=("here", "there"), spill=True)
    yield running
    running.close()


@pytest.fixture
def spill(balancer):
    """Sends a share of the calls away, until the test ends."""

    def send(percent):
        write_shares(balancer.folder, {"retrieval": percent})
        key = spill_key(balancer.values.models[0])
        balancer.wait_until(lambda: share_of(balancer, key) == percent)

    yield send
    send(0)


def share_of(balancer, key):
    entries = json.loads(balancer.fetch("/runtime"))["entries"]
    return int(entries.get(key, {}).get("final_value", -1))


def place(balancer, here, there, **changes):
    balancer.place(
        *(one.endpoint(region="here", **changes) for one in here), there.endpoint(region="there", priority=1)
    )


def test_the_share_leaves_and_comes_back(balancer, replicas, spill):
    first, second, there = replicas(3)
    place(balancer, [first, second], there)
    found = []
    for percent in (0, 25, 75, 100, 0):
        spill(percent)
        before = there.calls
        for _ in range(200):
            balancer.infer(OTHER)
        found.append(there.calls - before)
    assert found[0] == found[4] == 0
    # 200 throws of a coin of Envoy's: eight deviations each way.
    assert 5 <= found[1] <= 98
    assert 102 <= found[2] <= 195
    assert found[3] == 200
    assert sum(calls_of([first, second])) == 1000 - sum(found)


def test_streams_leave_as_well_and_questions_about_the_server_do_not(balancer, replicas, spill):
    here, there = replicas(2)
    place(balancer, [here], there)
    spill(100)
    assert balancer.stream(OTHER) == ["one", "two"]
    assert calls_of([here, there]) == [0, 1]
    balancer.stub.ServerReady(service_pb2.ServerReadyRequest())
    assert calls_of([here, there]) == [1, 1]


def test_what_the_far_region_may_not_take_any_more_is_answered_near(balancer, replicas, spill):
    (here, there), hold = replicas(2), Hold()
    there.infer = hold.infer
    place(balancer, [here], there)
    spill(100)
    held = [balancer.start(OTHER) for _ in range(2)]
    hold.wait_for(2)
    for model in (IDEMPOTENT, OTHER):
        _, call = balancer.stub.ModelInfer.with_call(
            balancer.request(model), metadata=[(MODEL_HEADER, model)], timeout=30.0
        )
        assert NOT_SENT_HEADER not in dict((*call.initial_metadata(), *call.trailing_metadata()))
    assert balancer.stream(OTHER) == ["one", "two"]
    assert calls_of([here, there]) == [3, 2]
    hold.end.set()
    assert [call.result().id for call in held] == ["late", "late"]


def test_what_is_answered_near_for_want_of_room_is_in_no_budget_of_retries(tmp_path, replicas):
    (here, there), hold = replicas(2), Hold()
    there.infer = here.infer = hold.infer
    settings = {"retryBudgetPercent": 0, "minRetryConcurrency": 0, "spill": True}
    with closing(Balancer(tmp_path, MODELS, ("here", "there"), **settings)) as balancer:
        place(balancer, [here], there)
        write_shares(tmp_path, {"retrieval": 100})
        key = spill_key(balancer.values.models[0])
        balancer.wait_until(lambda: share_of(balancer, key) == 100)
        held = [balancer.start(OTHER) for _ in range(40)]
        hold.wait_for(40)
        assert calls_of([here, there]) == [38, 2]
        hold.end.set()
        assert [call.result().id for call in held] == ["late"] * 40


def test_what_finds_no_far_region_is_answered_near(balancer, replicas, spill):
    here, there = replicas(2)
    balancer.place(here.endpoint(region="here"))
    spill(100)
    for _ in range(5):
        balancer.infer(OTHER)
    there.vanish()
    place(balancer, [here], there)
    balancer.infer(OTHER)
    assert calls_of([here, there]) == [6, 0]


def test_what_fails_far_away_is_asked_near_where_it_may_be_sent_twice(balancer, replicas, spill):
    here, there = replicas(2)
    there.infer = lambda request, context: cut(there, context)
    place(balancer, [here], there)
    spill(100)
    balancer.infer(IDEMPOTENT)
    assert calls_of([here, there]) == [1, 1]
    there.infer = fail(grpc.StatusCode.UNAVAILABLE)
    assert code_of(lambda: balancer.infer(OTHER)) == "UNAVAILABLE"
    assert calls_of([here, there]) == [1, 2]


@pytest.mark.parametrize("metadata", [((RESIDENCY_HEADER, "near"),), ((PRIORITY_HEADER, "batch"),)])
def test_calls_that_must_stay_and_batch_calls_do_not_leave(balancer, replicas, spill, metadata):
    here, there = replicas(2)
    place(balancer, [here], there)
    spill(100)
    for model in (IDEMPOTENT, OTHER):
        balancer.infer(model, metadata=metadata)
    assert balancer.stream(OTHER, metadata=metadata) == ["one", "two"]
    assert calls_of([here, there]) == [3, 0]


def test_each_entry_has_a_share_of_its_own(balancer, replicas, spill):
    (here, there), (own,) = replicas(2), replicas(1)
    place(balancer, [here], there)
    balancer.place(own.endpoint(region="here"), entry="llm")
    spill(100)
    balancer.infer("llm")
    balancer.infer(OTHER)
    assert calls_of([here, there, own]) == [0, 1, 1]


def test_a_client_cannot_have_a_call_taken_for_one_that_was_not_sent(balancer, replicas, spill):
    here, there = replicas(2)
    there.infer = fail(grpc.StatusCode.UNAVAILABLE)
    place(balancer, [here], there)
    spill(100)
    mark = ((NOT_SENT_HEADER, "1"),)
    assert code_of(lambda: balancer.infer(OTHER, metadata=mark)) == "UNAVAILABLE"
    assert calls_of([here, there]) == [0, 1]
