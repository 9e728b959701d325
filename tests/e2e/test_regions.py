"""Regions apart, over links with delay and loss: near first, elsewhere when a region vanishes, and back."""

from collections import Counter

import pytest
from regional import (
    FAILOVER,
    FAILOVER_BATCH,
    FAR,
    HOME,
    IDEMPOTENT,
    IN_A_ROW,
    MIDDLE,
    OTHER,
    PATHS,
    SMALL,
    STREAMED,
    Regions,
    answer_of,
    texts_of,
)
from stacks import wait_until

from benchmarks.regions.delays import Path
from benchmarks.regions.load import Load
from fakes.replicas import Hold
from trireme.scale.routes import PRIORITY_HEADER, RESIDENCY_HEADER

pytestmark = pytest.mark.namespaces
PER_SECOND = 50
UNAVAILABLE = "UNAVAILABLE"
# Of the far cluster, without those of health checks.
CONNECTIONS = "cluster.retrieval_far.upstream_cx_active"
STAYS, BATCH = (RESIDENCY_HEADER, "near"), (PRIORITY_HEADER, "batch")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    regions = Regions(tmp_path_factory.mktemp("regions"))
    yield regions
    regions.close()


@pytest.fixture
def regions(made):
    """All whole, and eu serves its own calls."""
    made.reset()
    return made


@pytest.fixture
def client(regions):
    return regions.client


def load_of(client, calls):
    """Idempotent calls at a steady rate."""
    return Load(
        lambda: client.start(IDEMPOTENT), lambda answer: answer.id, per_second=PER_SECOND, calls=calls
    )


def count_of(region):
    return lambda outcomes: sum(one.region == region for one in outcomes)


def stay_near(regions, count):
    """Whether so many calls of each kind and a stream are answered near, and none reaches another region.

    A machine that stands still for seconds is taken for a loss once, but not again and again.
    """
    client = regions.client
    before = {name: regions.calls(name) for name in (FAR, MIDDLE)}
    answers = client.answers(OTHER, count) + client.answers(IDEMPOTENT, count)
    texts = texts_of(client.open_stream(STREAMED))
    after = {name: regions.calls(name) for name in before}
    return (answers, texts, after) == ([HOME] * 2 * count, [HOME, HOME], before)


def test_calls_and_streams_stay_near(regions):
    wait_until(lambda: stay_near(regions, 50))


def test_a_connection_to_the_next_region_is_open_before_any_call_needs_it(regions):
    def is_open():
        told = regions.envoys[HOME].fetch(f"/stats?filter=^{CONNECTIONS}$")
        return int(told.removeprefix(f"{CONNECTIONS}: ")) > 0

    wait_until(is_open)


def test_other_regions_that_vanish_change_nothing_near(regions):
    for name in (FAR, MIDDLE):
        regions.links[name].cut()
    load = load_of(regions.client, 100)
    assert Counter(one.region for one in load.wait()) == {HOME: 100}
    wait_until(lambda: stay_near(regions, 20))


def test_a_region_that_vanishes_fails_no_idempotent_call_and_serves_again_when_it_is_back(regions, client):
    load = load_of(client, 3000)
    load.wait(lambda outcomes: count_of(HOME)(outcomes) >= 50)
    regions.links[HOME].cut()
    load.wait(lambda outcomes: count_of(MIDDLE)(outcomes) >= 75)
    regions.links[HOME].heal()
    regions.wait_for(HOME)
    before = len(load.outcomes)
    load.wait(lambda outcomes: len(outcomes) >= before + 50)
    load.stop()
    outcomes = load.wait()
    assert Counter(one.error for one in outcomes) == {"": len(outcomes)}
    assert {one.region for one in outcomes[-IN_A_ROW:]} == {HOME}


def test_streams_that_had_not_begun_continue_elsewhere(regions, client):
    hold = Hold()
    for one in regions.replicas[HOME]:
        one.stream = hold.stream_late
    streams = [client.open_stream(STREAMED) for _ in range(10)]
    try:
        hold.wait_for(10)
        regions.links[HOME].cut()
        assert [texts_of(stream) for stream in streams] == [[MIDDLE, MIDDLE]] * 10
    finally:
        hold.end.set()


def test_a_stream_that_had_begun_ends_with_an_error_and_says_nothing_twice(regions, client):
    hold = Hold()
    for one in regions.replicas[HOME]:
        one.stream = hold.stream
    stream = client.open_stream(STREAMED)
    try:
        assert next(stream).infer_response.id == "one"
        hold.wait_for(1)
        regions.links[HOME].cut()
        (code,) = texts_of(stream)
        assert code in (UNAVAILABLE, "INTERNAL")
    finally:
        hold.end.set()


# While eu's replicas are gone


@pytest.fixture
def without_home(made):
    """eu's replicas have vanished, and its Envoy knows it; all else is whole."""
    made.reset(has_home=False)
    return made


def test_no_more_calls_fail_over_than_are_allowed(without_home):
    client, hold = without_home.client, Hold()
    (there,) = without_home.replicas[MIDDLE]
    there.infer = hold.infer
    try:
        held = [client.start(SMALL) for _ in range(FAILOVER)]
        hold.wait_for(FAILOVER)
        before = without_home.calls(MIDDLE), without_home.calls(FAR)
        assert client.answers(SMALL, 5) == [UNAVAILABLE] * 5
        assert (without_home.calls(MIDDLE), without_home.calls(FAR)) == before
    finally:
        hold.end.set()
    assert [answer_of(call) for call in held] == ["late"] * FAILOVER


def test_calls_that_must_stay_in_their_region_fail_there(without_home):
    client = without_home.client
    before = without_home.calls(MIDDLE), without_home.calls(FAR)
    for model in (IDEMPOTENT, OTHER):
        assert client.answers(model, 5, STAYS) == [UNAVAILABLE] * 5
    assert texts_of(client.open_stream(STREAMED, STAYS)) == [UNAVAILABLE]
    assert (without_home.calls(MIDDLE), without_home.calls(FAR)) == before
    # Others go elsewhere meanwhile.
    assert client.answer(OTHER) == MIDDLE


def test_batch_calls_are_shed_before_others(without_home):
    client, hold = without_home.client, Hold()
    (there,) = without_home.replicas[MIDDLE]
    there.infer = hold.infer
    try:
        held = [client.start(SMALL, BATCH) for _ in range(FAILOVER_BATCH)]
        hold.wait_for(FAILOVER_BATCH)
        before = without_home.calls(MIDDLE), without_home.calls(FAR)
        assert client.answers(SMALL, 5, BATCH) == [UNAVAILABLE] * 5
        # By default none of them leaves its region.
        assert client.answers(OTHER, 5, BATCH) == [UNAVAILABLE] * 5
        assert (without_home.calls(MIDDLE), without_home.calls(FAR)) == before
        # Meanwhile as many others as ever.
        held += [client.start(SMALL) for _ in range(FAILOVER)]
        hold.wait_for(FAILOVER)
    finally:
        hold.end.set()
    assert [answer_of(call) for call in held] == ["late"] * (FAILOVER + FAILOVER_BATCH)


def test_when_the_next_region_vanishes_too_the_one_after_it_serves(without_home):
    load = load_of(without_home.client, 150)
    load.wait(lambda outcomes: count_of(MIDDLE)(outcomes) >= 30)
    without_home.links[MIDDLE].cut()
    outcomes = load.wait()
    assert Counter(one.error for one in outcomes) == {"": 150}
    without_home.wait_for(FAR)


def test_a_killed_envoy_of_the_next_region_fails_no_idempotent_call(without_home):
    load = load_of(without_home.client, 150)
    load.wait(lambda outcomes: count_of(MIDDLE)(outcomes) >= 30)
    without_home.envoys[MIDDLE].envoy.kill()
    outcomes = load.wait()
    assert Counter(one.error for one in outcomes) == {"": 150}
    without_home.wait_for(FAR)


def test_regions_are_asked_in_the_order_of_their_round_trips_and_anew_when_a_path_changes(without_home):
    assert without_home.envoys[HOME].far_order("small") == [MIDDLE, FAR]
    without_home.links[MIDDLE].set(Path(delay_ms=80))
    without_home.wait_for_order(FAR, MIDDLE)
    without_home.wait_for(FAR)
    without_home.links[MIDDLE].set(PATHS[MIDDLE])
    without_home.wait_for_order(MIDDLE, FAR)
    without_home.wait_for(MIDDLE)


def test_a_killed_controller_leaves_its_order_and_goes_on_from_it(without_home):
    own = without_home.envoys[HOME]
    own.controller.kill()
    own.controller.wait()
    assert without_home.client.answers(OTHER, IN_A_ROW) == [MIDDLE] * IN_A_ROW
    without_home.links[MIDDLE].set(Path(delay_ms=80))
    without_home.start_controller()
    without_home.wait_for_order(FAR, MIDDLE)
    without_home.wait_for(FAR)


def test_a_killed_envoy_of_the_own_region_knows_what_it_knew_when_it_is_back(without_home):
    own = without_home.envoys[HOME]
    own.envoy.kill()
    own.envoy.wait()
    assert without_home.client.answer(OTHER) == UNAVAILABLE
    own.start_envoy()
    without_home.wait_for(MIDDLE)
    without_home.reset()
