"""Caps in memory: in force when they change, and while the database is away."""

import asyncio
import logging

import pytest

from fakes.memory_caps import MemoryCaps
from trireme.budget.caps import EACH, Cap
from trireme.errors import UnavailableError
from trireme.gateway.spending.cap_ring import STALE_SECONDS, CapRing


class Store(MemoryCaps):
    is_away = False

    def read(self, revision):
        if self.is_away:
            raise UnavailableError("away")
        return super().read(revision)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def store():
    return Store()


def test_a_change_is_in_force_with_the_next_read_and_also_for_who_was_found_before(store):
    async def scenario():
        ring = CapRing(store, Clock())
        await ring.refresh()
        found = [ring.find("acme", "ann")]
        for one in (Cap("acme", EACH, "day", 10), Cap("acme", "ann", "day", 20)):
            store.put(one)
            await ring.refresh()
            found.append(ring.find("acme", "ann"))
        return found

    before, each, named = asyncio.run(scenario())
    assert (before, each) == ((), (Cap("acme", "ann", "day", 10),))
    assert named == (Cap("acme", "ann", "day", 20),)


def test_before_the_first_read_nobody_knows(store):
    store.is_away = True

    async def scenario():
        ring = CapRing(store)
        await ring.start()
        try:
            with pytest.raises(UnavailableError):
                ring.find("acme", "ann")
            return ring.age
        finally:
            await ring.close()

    assert asyncio.run(scenario()) == float("inf")


def test_caps_that_were_read_stay_in_force_while_the_database_is_away_and_the_log_says_so_once(store, caplog):
    clock = Clock()

    async def scenario():
        ring = CapRing(store, clock)
        store.put(Cap("", "", "month", 5))
        await ring.refresh()
        store.is_away = True
        clock.now += STALE_SECONDS + 1
        for _ in range(3):
            await ring._refresh_quietly()
        return ring.find("acme", ""), ring.age

    with caplog.at_level(logging.WARNING):
        found, age = asyncio.run(scenario())
    assert found == (Cap("", "", "month", 5),)
    assert age == STALE_SECONDS + 1
    assert caplog.text.count("stay in force") == 1
