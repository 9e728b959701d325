"""The exact tier over a store in memory: who gets what, and what a store that fails costs."""

import asyncio
import dataclasses

import pytest

from fakes.memory_cache import MemoryCache
from fakes.providers import Clock
from trireme.cache.exact import ExactTier, place_of, read_entry, write_entry
from trireme.cache.port import Entry, Found, Question

ASKED = Question("acme", "k1", "p1", seconds=60.0)
KEPT = Entry("k1", b"answer", 1000.0)


class World:
    def __init__(self, **more):
        self.clock = Clock()
        self.store = MemoryCache(self.clock)
        self.tier = ExactTier(self.store, clock=self.clock, now=self.clock, **more)

    def find(self, question=ASKED):
        return asyncio.run(self.tier.find(question))

    def keep(self, question=ASKED, entry=KEPT):
        asyncio.run(self.tier.keep(question, entry))


@pytest.fixture
def world():
    return World()


def test_what_was_kept_is_found(world):
    assert world.find() is None
    world.keep()
    assert world.find() == Found(KEPT, "exact")


def test_another_key_or_another_tenant_finds_nothing(world):
    world.keep()
    assert world.find(dataclasses.replace(ASKED, key="k2")) is None
    for tenant in ("acme2", "acm", "", "Acme", "acme:", "acme%3A", "ac\u200bme"):
        assert world.find(dataclasses.replace(ASKED, tenant=tenant)) is None


def test_places_of_tenants_and_keys_that_look_alike_are_different():
    pairs = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a%3Ab", "c"),
        ("", "a:b:c"),
        ("é", "c"),
        ("e\u0301", "c"),
        ("a/b", "c"),
    ]
    places = {place_of(Question(tenant, key, "p")) for tenant, key in pairs}
    assert len(places) == len(pairs)


def test_an_entry_that_lies_in_a_wrong_place_is_not_served(world):
    world.keep(entry=dataclasses.replace(KEPT, key="k2"))
    assert world.find() is None


@pytest.mark.parametrize(
    "value", [b"", b"x", b"\x93\x01\x02\x03", write_entry(KEPT)[:-1], write_entry(KEPT) + b"x"]
)
def test_what_is_no_entry_is_a_miss(world, value):
    asyncio.run(world.store.put(place_of(ASKED), value, 60.0))
    assert read_entry(value) is None
    assert world.find() is None


def test_an_entry_older_than_the_question_allows_is_a_miss(world):
    world.keep()
    world.clock.move(10.5)
    assert world.find(dataclasses.replace(ASKED, max_age=10.0)) is None
    assert world.find(dataclasses.replace(ASKED, max_age=11.0)) is not None
    # The model's row may have become stricter since it was kept.
    assert world.find(dataclasses.replace(ASKED, seconds=10.0)) is None
    world.clock.move(50.0)
    assert world.find() is None


def test_nothing_is_kept_for_no_time(world):
    world.keep(dataclasses.replace(ASKED, seconds=0.0))
    assert world.store.values == {}


def test_a_store_that_is_away_is_a_miss_and_is_left_alone_for_a_while(world):
    world.keep()
    world.store.is_away = True
    assert world.find() is None
    world.store.is_away = False
    gets = world.store.gets
    assert world.find() is None
    world.keep(dataclasses.replace(ASKED, key="k2"))
    assert (world.store.gets, len(world.store.values)) == (gets, 1)
    world.clock.move(1.0)
    assert world.find() is not None


def test_a_store_that_is_slow_is_a_miss():
    world = World(find_seconds=0.01)
    world.keep()

    async def never(_):
        await asyncio.sleep(3600)

    get, world.store.get = world.store.get, never
    for _ in range(3):
        assert world.find() is None
    world.store.get = get
    # One that is late again and again is left alone.
    assert world.find() is None
    world.clock.move(1.0)
    assert world.find() is not None


def test_a_store_that_is_late_for_once_is_asked_again_at_once():
    world = World(find_seconds=0.05)
    world.keep()
    get, late = world.store.get, [True, False, True, True, False]

    async def sometimes(key):
        if late.pop(0):
            await asyncio.sleep(3600)
        return await get(key)

    world.store.get = sometimes
    assert [world.find() is not None for _ in range(5)] == [False, True, False, False, True]


def test_a_store_that_fails_to_keep_raises_nothing(world):
    world.store.is_away = True
    world.keep()
    assert world.store.values == {}


def test_an_entry_past_its_age_is_kept_and_found_for_those_alone_whom_it_will_do():
    world = World()
    asked = dataclasses.replace(ASKED, stale_seconds=30.0)
    loose = dataclasses.replace(asked, takes_stale=True)
    world.keep(asked)
    world.clock.move(61)
    assert world.find(asked) is None
    assert world.find(loose) == Found(KEPT, "exact")
    assert world.find(dataclasses.replace(loose, max_age=60.0)) is None
    world.clock.move(30)
    assert world.find(loose) is None
