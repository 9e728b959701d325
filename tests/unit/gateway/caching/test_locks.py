"""Who asks for an answer of all gateways, and how long the others wait for it."""

import asyncio

from fakes.memory_cache import MemoryCache
from fakes.providers import Clock
from trireme.cache.port import Entry, Found, Question
from trireme.gateway.caching.locks import WAIT_SECONDS, QuestionLocks, place_of

ASKED = Question("acme", "k", "p")
FOUND = Found(Entry("k", b"", 0.0), "exact")


async def nothing():
    return None


def locks_over(store, clock):
    return QuestionLocks(store, clock=clock, sleep=clock.sleep)


def run(work):
    clock = Clock()
    asyncio.run(asyncio.wait_for(work(MemoryCache(clock), clock), 20))


def test_the_first_has_the_lock_until_it_gives_it_up():
    async def go(store, clock):
        one, other = locks_over(store, clock), locks_over(store, clock)
        assert await one.take(ASKED, "a", nothing) is None
        assert store.locks[place_of(ASKED)][0] == "a"
        waiting = asyncio.create_task(other.take(ASKED, "b", nothing))
        await asyncio.sleep(0.01)
        await one.free(ASKED, "a")
        assert await waiting is None
        await other.free(ASKED, "b")
        await other.free(ASKED, "b")
        assert store.locks == {}

    run(go)


def test_who_waits_gets_what_the_owner_has_made():
    async def go(store, clock):
        one, other = locks_over(store, clock), locks_over(store, clock)
        await one.take(ASKED, "a", nothing)
        looks = [None, None, FOUND]

        async def look():
            return looks.pop(0)

        assert await other.take(ASKED, "b", look) == FOUND
        assert store.locks[place_of(ASKED)][0] == "a"
        await one.close()

    run(go)


def test_who_gets_the_lock_looks_once_more():
    async def go(store, clock):
        async def look():
            return FOUND

        locks = locks_over(store, clock)
        assert await locks.take(ASKED, "a", look) == FOUND
        await locks.free(ASKED, "a")

    run(go)


def test_nobody_waits_for_another_gateway_for_ever():
    async def go(store, clock):
        one, other = locks_over(store, clock), locks_over(store, clock)
        await one.take(ASKED, "a", nothing)
        store.locks[place_of(ASKED)] = ("a", float("inf"))
        began = clock.now
        assert await other.take(ASKED, "b", nothing) is None
        assert WAIT_SECONDS <= clock.now - began < WAIT_SECONDS + 1
        # It is not the other's to free.
        await other.free(ASKED, "b")
        assert store.locks[place_of(ASKED)][0] == "a"
        await one.close()

    run(go)


def test_without_a_store_everybody_asks():
    async def go(store, clock):
        store.is_away = True
        locks = locks_over(store, clock)
        for owner in ("a", "b"):
            assert await locks.take(ASKED, owner, nothing) is None
            await locks.free(ASKED, owner)

    run(go)


def test_tenants_have_locks_of_their_own():
    places = {
        place_of(Question(tenant, key, "p")) for tenant, key in (("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"))
    }
    assert len(places) == 3
