"""Regions apart, over links with delay and loss: near first, elsewhere when a region vanishes, and back."""

from collections import Counter

import pytest
from regional import (
    FAILOVER,
    FAKED,
    FAR,
    HOME,
    IDEMPOTENT,
    IN_A_ROW,
    MIDDLE,
    OTHER,
    SMALL,
    STREAMED,
    Regions,
    answer_of,
    texts_of,
)
from stacks import wait_until

from benchmarks.regions.load import Load
from fakes.replicas import Hold

pytestmark = pytest.mark.namespaces
PER_SECOND = 50
UNAVAILABLE = "UNAVAILABLE"


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


def test_calls_and_streams_stay_near(regions, client):
    before = {name: regions.calls(name) for name in (FAR, MIDDLE)}
    assert client.answers(OTHER, 50) == [HOME] * 50
    assert client.answers(IDEMPOTENT, 50) == [HOME] * 50
    assert texts_of(client.open_stream(STREAMED)) == [HOME, HOME]
    assert {name: regions.calls(name) for name in before} == before


def test_other_regions_that_vanish_change_nothing_near(regions, client):
    for name in (FAR, MIDDLE):
        regions.links[name].cut()
    assert client.answers(OTHER, 50) == [HOME] * 50


def test_a_region_that_vanishes_fails_no_idempotent_call_and_serves_again_when_it_is_back(regions, client):
    load = load_of(client, 3000)
    load.wait(lambda outcomes: count_of(HOME)(outcomes) >= 50)
    regions.links[HOME].cut()
    load.wait(lambda outcomes: count_of(MIDDLE)(outcomes) >= 150)
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


def test_the_next_region_serves_when_two_have_vanished(regions, client):
    regions.links[HOME].cut()
    regions.wait_for(MIDDLE)
    regions.links[MIDDLE].cut()
    load = load_of(client, 100)
    outcomes = load.wait()
    assert Counter(one.error for one in outcomes) == {"": 100}
    assert {one.region for one in outcomes} == {FAR}


def vanish(regions):
    """eu's replicas, once its Envoy knows of it."""
    regions.links[HOME].cut()
    near = [f"{one.address}:{one.port}" for one in regions.replicas[HOME]]
    for entry in FAKED:

        def is_known(entry=entry):
            hosts = regions.envoys[HOME].hosts(entry)
            return {hosts[place] for place in near} == {"out"}

        wait_until(is_known)


def test_no_more_calls_fail_over_than_are_allowed(regions, client):
    vanish(regions)
    hold = Hold()
    (there,) = regions.replicas[MIDDLE]
    there.infer = hold.infer
    try:
        held = [client.start(SMALL) for _ in range(FAILOVER)]
        hold.wait_for(FAILOVER)
        before = regions.calls(MIDDLE), regions.calls(FAR)
        assert client.answers(SMALL, 5) == [UNAVAILABLE] * 5
        assert (regions.calls(MIDDLE), regions.calls(FAR)) == before
    finally:
        hold.end.set()
    assert [answer_of(call) for call in held] == ["late"] * FAILOVER


def test_envoy_of_a_region_killed_is_as_if_that_region_had_vanished(regions, client):
    vanish(regions)
    regions.wait_for(MIDDLE)
    load = load_of(client, 150)
    load.wait(lambda outcomes: len(outcomes) >= 50)
    regions.envoys[MIDDLE].envoy.kill()
    outcomes = load.wait()
    assert Counter(one.error for one in outcomes) == {"": 150}
    assert outcomes[-1].region == FAR


def test_envoy_of_the_own_region_started_again_knows_what_it_knew(regions, client):
    own = regions.envoys[HOME]
    own.envoy.kill()
    own.envoy.wait()
    assert client.answer(OTHER) == UNAVAILABLE
    own.start_envoy()
    regions.wait_for(HOME)
    vanish(regions)
    regions.wait_for(MIDDLE)
