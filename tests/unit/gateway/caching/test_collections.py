"""How old a collection's revision may be, and what a slow or broken database costs."""

import asyncio
import threading

import pytest

from fakes.providers import Clock
from trireme.errors import UnavailableError
from trireme.gateway.caching import collections
from trireme.gateway.caching.collections import FRESH_SECONDS, FreshRevisions


class Store:
    def __init__(self):
        self.revisions = {}
        self.reads = []
        self.gate = None
        self.error = None

    def read(self, tenant, collection):
        self.reads.append((tenant, collection))
        if self.gate is not None:
            self.gate.wait(60)
        if self.error is not None:
            raise self.error
        return self.revisions.get((tenant, collection), "")

    def close(self):
        return None


@pytest.fixture
def store():
    return Store()


def test_a_revision_is_read_once_a_second_for_each_collection_of_each_tenant(store):
    async def go():
        clock = Clock()
        fresh = FreshRevisions(store, clock, 5.0)
        places = [("t", "a"), ("t", "b"), ("u", "a")]
        store.revisions = {place: "/".join(place) for place in places}
        for _ in range(3):
            assert [await fresh.read(*place) for place in places] == ["t/a", "t/b", "u/a"]
        assert store.reads == places
        store.revisions["t", "a"] = "new"
        clock.move(FRESH_SECONDS)
        assert await fresh.read("t", "a") == "t/a"
        clock.move(0.001)
        assert await fresh.read("t", "a") == "new"

    asyncio.run(go())


def test_how_old_a_revision_is_counts_from_when_the_reading_began(store):
    async def go():
        clock = Clock()
        fresh = FreshRevisions(store, clock, 5.0)
        store.gate = threading.Event()
        reading = asyncio.create_task(fresh.read("t", "a"))
        while not store.reads:
            await asyncio.sleep(0)
        clock.move(FRESH_SECONDS + 1)
        store.gate.set()
        await reading
        await fresh.read("t", "a")
        assert len(store.reads) == 2

    asyncio.run(go())


def test_who_asks_at_once_shares_one_reading_and_a_cancel_takes_it_from_nobody(store):
    async def go():
        fresh = FreshRevisions(store, Clock(), 5.0)
        store.gate = threading.Event()
        store.revisions["t", "a"] = "r"
        readings = [asyncio.create_task(fresh.read("t", "a")) for _ in range(5)]
        while not store.reads:
            await asyncio.sleep(0)
        readings[0].cancel()
        await asyncio.wait([readings[0]])
        store.gate.set()
        assert await asyncio.gather(*readings[1:]) == ["r"] * 4
        assert len(store.reads) == 1

    asyncio.run(go())


def test_a_slow_database_is_told_as_an_error_and_its_answer_counts_when_it_comes(store):
    async def go():
        fresh = FreshRevisions(store, Clock(), 0.01)
        store.gate = threading.Event()
        with pytest.raises(UnavailableError, match="cannot be read"):
            await fresh.read("t", "a")
        store.gate.set()
        while fresh._reading:
            await asyncio.sleep(0)
        assert await fresh.read("t", "a") == ""
        assert len(store.reads) == 1

    asyncio.run(go())


def test_an_old_revision_is_not_used_where_the_database_is_away(store):
    async def go():
        clock = Clock()
        fresh = FreshRevisions(store, clock, 5.0)
        await fresh.read("t", "a")
        store.error = UnavailableError("away")
        clock.move(FRESH_SECONDS + 1)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await fresh.read("t", "a")

    asyncio.run(go())


def test_no_more_collections_are_remembered_than_there_is_room_for(store, monkeypatch):
    monkeypatch.setattr(collections, "MOST_COLLECTIONS", 3)

    async def go():
        fresh = FreshRevisions(store, Clock(), 5.0)
        for n in range(5):
            await fresh.read("t", f"c{n}")
        assert [name for _, name in fresh._known] == ["c2", "c3", "c4"]

    asyncio.run(go())
