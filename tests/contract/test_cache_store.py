"""One suite for every CacheStore, the fake in memory and a real Valkey."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from fakes.memory_cache import MemoryCache
from trireme.errors import UnavailableError
from trireme.redis.cache import RedisCache
from trireme.redis.connection import RedisStore
from valkeys import valkey


@pytest.fixture(scope="module")
def server():
    with valkey() as running:
        yield running


@pytest.fixture(params=["memory", "valkey"])
def opened(request):
    """Opens a store, empty at the start, in the running event loop."""
    if request.param == "memory":
        memory = MemoryCache()

        @asynccontextmanager
        async def open_store():
            yield memory

        return open_store
    server = request.getfixturevalue("server")

    @asynccontextmanager
    async def open_valkey():
        # A busy machine takes no part in what is tested.
        redis = RedisStore(server.url, timeout=60.0)
        await redis.run("FLUSHALL")
        store = RedisCache(redis)
        try:
            yield store
        finally:
            await store.close()

    return open_valkey


def run(opened, work):
    async def go():
        async with opened() as store:
            return await work(store)

    return asyncio.run(go())


def test_bytes_are_found_under_their_key_alone(opened):
    async def work(store):
        assert await store.get("a") is None
        await store.put("a", b"\x00\xffone", 60)
        await store.put("b", b"", 60)
        await store.put("a:ü ", b"two", 60)
        return [await store.get(key) for key in ("a", "b", "a:ü ", "a:ü", "A")]

    assert run(opened, work) == [b"\x00\xffone", b"", b"two", None, None]


def test_a_later_value_takes_the_place_of_an_earlier_one(opened):
    async def work(store):
        await store.put("a", b"one", 60)
        await store.put("a", b"two", 60)
        return await store.get("a")

    assert run(opened, work) == b"two"


def test_a_value_is_gone_after_its_time(opened):
    async def work(store):
        await store.put("a", b"one", 0.02)
        await store.put("b", b"two", 60)
        for _ in range(3000):
            if await store.get("a") is None:
                return await store.get("b")
            await asyncio.sleep(0.01)
        return None

    assert run(opened, work) == b"two"


def test_a_lock_is_one_owners_who_may_take_it_again(opened):
    async def work(store):
        return [
            await store.lock("a", "x", 60),
            await store.lock("a", "y", 60),
            await store.lock("a", "x", 60),
            await store.lock("b", "y", 60),
        ]

    assert run(opened, work) == [True, False, True, True]


def test_only_the_owner_frees_a_lock(opened):
    async def work(store):
        await store.lock("a", "x", 60)
        await store.unlock("a", "y")
        held = await store.lock("a", "y", 60)
        await store.unlock("a", "x")
        await store.unlock("a", "x")
        return held, await store.lock("a", "y", 60)

    assert run(opened, work) == (False, True)


def test_a_lock_runs_out_unless_its_owner_prolongs_it(opened):
    async def work(store):
        await store.lock("a", "x", 0.03)
        await store.lock("b", "x", 0.03)
        await store.lock("b", "x", 60)
        for _ in range(3000):
            if await store.lock("a", "y", 60):
                return await store.lock("b", "y", 60)
            await asyncio.sleep(0.01)
        return None

    assert run(opened, work) is False


def test_a_lock_and_a_value_of_one_key_are_two_things(opened):
    async def work(store):
        await store.lock("a", "x", 60)
        before = await store.get("a")
        await store.put("a", b"one", 60)
        return before, await store.lock("a", "y", 60), await store.get("a")

    assert run(opened, work) == (None, False, b"one")


def test_of_many_who_want_a_lock_at_once_one_gets_it(opened):
    async def work(store):
        got = await asyncio.gather(*(store.lock("a", f"owner{n}", 60) for n in range(30)))
        return sum(got)

    assert run(opened, work) == 1


@pytest.mark.parametrize("kind", ["memory", "valkey"])
def test_a_store_that_is_away_says_so_in_every_verb(kind, tmp_path):
    async def go():
        if kind == "memory":
            store = MemoryCache()
            store.is_away = True
        else:
            store = RedisCache(RedisStore(f"unix://{tmp_path}/none.sock", timeout=0.2))
        for verb in (
            lambda: store.get("a"),
            lambda: store.put("a", b"", 1),
            lambda: store.lock("a", "x", 1),
            lambda: store.unlock("a", "x"),
        ):
            with pytest.raises(UnavailableError):
                await verb()
        await store.close()

    asyncio.run(go())
