"""Flights under random coming and going: everybody gets a whole answer or an error, and nothing is left running."""

import asyncio
import random

import pytest

from fakes.memory_cache import MemoryCache
from fakes.providers import ScriptedProvider, fault, target_of
from tests.unit.gateway.caching.test_answers import CALL, WHOLE, Gateway, Upstream, drain
from trireme.errors import ResourceExhaustedError
from trireme.gateway.caching.flights import Flight, Flights, leaders_after
from trireme.providers.chat import Usage
from trireme.providers.targets import OpenAnswer


def test_a_flight_that_nobody_may_join_is_not_found():
    flights = Flights()
    flight = flights.begin("k")
    assert flights.find("k") is flight
    assert flights.find("other") is None
    flight.state = "left"
    assert flights.find("k") is None
    newer = flights.begin("k")
    flights.end("k", flight)
    assert flights.find("k") is newer
    flights.end("k", newer)
    assert len(flights) == 0


@pytest.mark.parametrize(
    ("error", "leaders"),
    [
        (fault(), 2),
        (ValueError(), 2),
        (ResourceExhaustedError("no tokens"), 1),
        (asyncio.CancelledError(), 1),
    ],
)
def test_only_leaders_whose_call_failed_are_counted(error, leaders):
    assert leaders_after(Flight(1), error) == leaders


def test_an_answer_that_was_left_before_its_task_ran_is_closed_all_the_same():
    async def go():
        closed = []

        async def events():
            try:
                yield Usage()
                for event in WHOLE:
                    yield event
            finally:
                closed.append(True)

        source = events()
        await anext(source)
        ended = asyncio.Event()

        async def end():
            ended.set()

        flight = Flight()
        reader = flight.read()
        task = flight.start(OpenAnswer(target_of(ScriptedProvider()), source, ()), end)
        await anext(reader)
        await reader.aclose()
        await asyncio.wait([task])
        assert (closed, ended.is_set(), flight.state) == ([True], True, "left")

    asyncio.run(go())


def _script(source):
    """A whole answer, or one that breaks off, with pauses in between."""

    def pause():
        return asyncio.sleep(source.choice([0, 0, 0.001]))

    steps = []
    for event in WHOLE:
        steps += [pause, event]
    if source.random() < 0.25:
        steps[source.randrange(len(steps)) :] = [fault("again", "cut")]
    return steps


def _opening(source):
    kind = source.random()
    if kind < 0.15:
        return fault("next", "overloaded")
    if kind < 0.3:
        return ResourceExhaustedError("no tokens")
    return lambda: asyncio.sleep(source.choice([0, 0.001, 0.003]))


async def _client(gateway, source):
    """One request that may leave at any point: its events, its error, or None where it left."""
    await asyncio.sleep(source.random() * 0.006)
    task = asyncio.current_task()
    if source.random() < 0.3:
        asyncio.get_running_loop().call_later(source.random() * 0.006, task.cancel)
    try:
        _, opened = await gateway.open()
        return await drain(opened)
    except asyncio.CancelledError:
        return None
    except Exception as error:
        return error


@pytest.mark.parametrize("seed", range(40))
def test_whoever_comes_and_goes_each_request_ends_and_nothing_is_left(seed):
    async def go():
        source = random.Random(seed)
        store = MemoryCache()
        upstream = Upstream(
            *(_script(source) for _ in range(30)), opens=[_opening(source) for _ in range(60)]
        )
        gateways = [Gateway(upstream, store) for _ in range(2)]
        clients = [
            asyncio.create_task(_client(source.choice(gateways), random.Random(f"{seed}/{n}")))
            for n in range(40)
        ]
        await asyncio.wait(clients)
        for gateway in gateways:
            await gateway.settle()
        ends = [task.result() for task in clients]
        assert all(end is None or end == WHOLE or isinstance(end, Exception) for end in ends)
        assert not any(isinstance(end, AssertionError | RuntimeError) for end in ends)
        assert (upstream.running, store.locks) == (0, {})
        assert [len(gateway.answers._flights) for gateway in gateways] == [0, 0]
        # What is kept is whole.
        if store.values:
            assert (await gateways[0].read(CALL))[0] == WHOLE
        for gateway in gateways:
            await gateway.answers.close()

    asyncio.run(asyncio.wait_for(go(), 30))
