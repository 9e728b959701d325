"""The budget store on a real server: races, crashes, and servers that may not keep what they are told."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date
from importlib.resources import files

import pytest

import budget_racers
from trireme.budget.caps import Cap
from trireme.budget.port import Bill, Claim, Hold, Progress
from trireme.errors import UnavailableError
from trireme.redis import budgets
from trireme.redis.budgets import RedisBudgets, load_script, scope_names
from trireme.redis.connection import RedisStore, Script
from valkeys import valkey

# 200 show what docs/budgets.md says.
ROUNDS = int(os.environ.get("BUDGET_RACE_ROUNDS", "15"))
# In each of two processes.
RACERS = 32
CAP = 1000


@pytest.fixture(scope="module")
def server():
    with valkey(maxmemory_policy="noeviction") as running:
        yield running


def claim(attempt, tokens, tenant="acme", user="ann", lease=60.0):
    caps = (Cap("", "", "month", 10**9), Cap("acme", "", "day", CAP), Cap("acme", "ann", "month", CAP))
    return Claim(attempt, tenant, user, caps, tokens, tokens * 7, 1, 7, lease, b"{}")


def racing(server, name):
    """A process that races."""
    command = [sys.executable, budget_racers.__file__, server.url, name, str(ROUNDS), str(RACERS), str(CAP)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def test_racers_of_two_processes_never_pass_a_cap_and_leave_nothing_held(server):
    """64 at once on one budget, round by round, that end in every way in which requests end."""
    processes = [racing(server, str(number)) for number in range(budget_racers.PROCESSES)]
    try:
        told = [json.loads(one.communicate(timeout=550)[0]) for one in processes]
    finally:
        for one in processes:
            one.kill()
    used, seen = Counter(), Counter()
    for one in told:
        seen.update(one["seen"])
        for attempt, tokens in one["used"].items():
            used[attempt.partition("-")[0]] += tokens
    print(dict(seen))

    async def look():
        redis = RedisStore(server.url, timeout=60.0)
        store = RedisBudgets(redis)
        await asyncio.sleep(budget_racers.LEASE)
        await store.expire()
        assert await redis.run("ZCARD", "{trireme}:holds") == 0
        for number in range(ROUNDS):
            for one in await store.read(f"t{number}", "ann"):
                assert one.held_tokens == one.held_nanos == 0
                if one.level != "gateway" and one.window == "month":
                    right = used[f"t{number}"]
                    assert (one.spent_tokens, one.spent_nanos) == (right, right * 7)
        recorded = 0
        while rows := await store.peek(500):
            recorded += sum(one.tokens for one in rows)
            await store.remove([one.entry for one in rows])
        assert recorded == sum(used.values())
        # At each admission, by the counters themselves in the same step: what was spent and held above the cap.
        assert int(await redis.run("GET", "admissions")) >= seen["admitted"]
        ((_, over),) = [await redis.run("ZREVRANGE", "over", 0, 0, "WITHSCORES")]
        print("tokens or nanos above a cap at an admission, at most:", int(over))
        assert int(over) <= 0
        await store.close()

    asyncio.run(look())
    ways = ("admitted", "refused", "given back", "refunded", "twice", "died", "late", "cancelled", "cut off")
    assert all(seen[way] for way in ways), seen


def test_a_killed_server_holds_and_counts_what_it_did_before():
    async def go(running):
        store = RedisBudgets(RedisStore(running.url, timeout=60.0))
        await store.reserve(claim("held", 10))
        await store.reserve(claim("ended", 10))
        await store.settle(Bill("ended", 4, 28, b"{}", "acme", "ann"))
        before = await store.snapshot("acme", "ann")
        running.kill()
        with pytest.raises(UnavailableError):
            await store.reserve(claim("away", 10))
        running.start()
        await asyncio.sleep(0.6)
        assert await store.snapshot("acme", "ann") == before
        assert await store.settle(Bill("held", 1, 7, b"{}", "acme", "ann"))
        assert len(await store.peek(10)) == 2
        await store.close()

    with valkey(maxmemory_policy="noeviction", appendonly="yes", appendfsync="everysec") as running:
        asyncio.run(go(running))


def test_a_server_that_may_evict_is_refused_by_name():
    async def go(running):
        store = RedisBudgets(RedisStore(running.url, timeout=60.0))
        with pytest.raises(UnavailableError, match=r"maxmemory-policy allkeys-lru\); set it to noeviction"):
            await store.reserve(claim("a", 1))
        await store._store.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        assert isinstance(await store.reserve(claim("a", 1)), Hold)
        await store.close()

    with valkey(maxmemory_policy="allkeys-lru") as running:
        asyncio.run(go(running))


def test_a_policy_that_changes_while_it_runs_is_found_by_every_verb(monkeypatch):
    async def go(running):
        store = RedisBudgets(RedisStore(running.url, timeout=60.0))
        await store.reserve(claim("a", 1))
        await store._store.run("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
        # Within its time nobody asks.
        assert await store.expire() == 0
        monkeypatch.setattr(budgets, "CHECK_SECONDS", 0.0)
        store._keeps_all_until = 0.0
        verbs = [
            lambda: store.reserve(claim("b", 1)),
            lambda: store.settle(Bill("a", 1, 1, b"{}", "acme", "ann")),
            lambda: store.extend([Progress("a", 1, 1)], 60.0),
            lambda: store.read("acme", "ann"),
            store.expire,
            lambda: store.peek(1),
            lambda: store.remove(["0-1"]),
            lambda: store.snapshot("", ""),
        ]
        for verb in verbs:
            with pytest.raises(UnavailableError, match="volatile-ttl"):
                await verb()
        await store.close()

    with valkey(maxmemory_policy="noeviction") as running:
        asyncio.run(go(running))


def test_a_server_that_comes_back_without_its_last_second_gives_no_place_twice(server):
    """Rows that the ledger has already would stand above a place that counts them, and be left out of its sum."""

    async def go():
        redis = RedisStore(server.url, timeout=60.0)
        await redis.run("FLUSHALL")
        store = RedisBudgets(redis)
        await store.settle(Bill("a", 1, 1, b"{}", "acme", "ann"))
        before = await redis.run("GET", "{trireme}:seq")
        await store.settle(Bill("lost", 1, 1, b"{}", "acme", "ann"))
        lost = (await store.peek(2))[-1].seq
        await redis.run("SET", "{trireme}:seq", before)
        await store.settle(Bill("next", 1, 1, b"{}", "acme", "ann"))
        assert (await store.peek(3))[-1].seq > lost
        await store.close()

    asyncio.run(go())


def test_rows_that_were_drained_take_no_memory(server):
    async def go():
        redis = RedisStore(server.url, timeout=60.0)
        await redis.run("FLUSHALL")
        store = RedisBudgets(redis)
        for number in range(2000):
            await store.settle(Bill(f"a{number}", 1, 1, b"x" * 500, "acme", "ann"))
            if number % 100 == 99:
                await store.remove([one.entry for one in await store.peek(1000)])
        assert await redis.run("XLEN", "{trireme}:rows") == 0
        assert await redis.run("MEMORY", "USAGE", "{trireme}:rows") < 10_000
        await store.close()

    asyncio.run(go())


def test_a_script_whose_caller_is_cancelled_runs_to_its_end(server):
    async def go():
        redis = RedisStore(server.url, timeout=60.0)
        await redis.run("FLUSHALL")
        store = RedisBudgets(redis)
        # The policy is known, the connection is open.
        await store.read("acme", "ann")
        reserving = asyncio.ensure_future(store.reserve(claim("a", 5)))
        await asyncio.sleep(0)
        reserving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reserving
        assert await store.settle(Bill("a", 0, 0, b"{}", "acme", "ann"))
        await store.close()
        assert [one.held_tokens for one in await store.read("acme", "ann")] == [0] * 9
        await store.close()

    asyncio.run(go())


def test_a_full_server_refuses_and_forgets_nothing():
    async def go(running):
        store = RedisBudgets(RedisStore(running.url, timeout=60.0))
        await store.reserve(claim("a", 5))
        await store._store.run("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(UnavailableError, match="OOM"):
            await store.reserve(claim("b", 5))
        await store._store.run("CONFIG", "SET", "maxmemory", "0")
        assert [one.held_tokens for one in await store.read("acme", "ann")] == [5] * 9
        await store.close()

    with valkey(maxmemory_policy="noeviction") as running:
        asyncio.run(go(running))


def test_counters_and_ended_holds_are_forgotten_in_time_and_running_ones_never(server):
    async def go():
        redis = RedisStore(server.url, timeout=60.0)
        await redis.run("FLUSHALL")
        store = RedisBudgets(redis)
        await store.reserve(claim("runs", 5))
        await store.reserve(claim("ended", 5))
        await store.settle(Bill("ended", 1, 1, b"{}", "acme", "ann"))
        assert await redis.run("TTL", "{trireme}:hold:runs") == -1
        assert 0 < await redis.run("TTL", "{trireme}:hold:ended") <= 86_400
        for key in await redis.run("KEYS", "{trireme}:spent:*"):
            assert 0 < await redis.run("TTL", key) <= 66 * 86_400
        await redis.close()

    asyncio.run(go())


def test_scopes_are_the_gateway_the_tenant_and_the_user():
    assert len(scope_names("", "")) == 1
    assert len(scope_names("a", "")) == 2
    assert scope_names("a", "b")[:2] == scope_names("a", "")
    assert len({*scope_names("a", "b"), *scope_names("b", "a")}) == 5


def test_every_script_is_there_and_whole():
    for name in ("reserve", "settle", "extend", "expire", "read", "correct"):
        assert load_script(name).text.count("local function read_clock") == 1


def test_months_begin_when_the_calendar_says(server):
    """Each day from 1970 to 2419, which has all kinds of leap years."""
    days = (date(2420, 1, 1) - date(1970, 1, 1)).days
    text = (
        f"local found, last = {{}}, -1 for day = 0, {days - 1} do local first = first_of_month(day) "
        "if first ~= last then found[#found + 1] = day found[#found + 1] = first last = first end end return found"
    )
    # The shared part, without the verb behind it.
    common = (files("trireme.redis") / "scripts" / "common.lua").read_text()

    async def go():
        redis = RedisStore(server.url, timeout=60.0)
        found = await redis.run_script(Script(f"{common}\n{text}"), ["x"], [""])
        await redis.close()
        return found

    months = [date(year, month, 1) for year in range(1970, 2420) for month in range(1, 13)]
    firsts = [(month - date(1970, 1, 1)).days for month in months]
    assert asyncio.run(go()) == [day for first in firsts for day in (first, first)]


def test_spaces_of_one_server_know_nothing_of_each_other(server):
    async def scenario():
        one, other = (RedisBudgets(RedisStore(server.url), space=name) for name in ("trireme:a", "trireme:b"))
        held = await one.reserve(claim("spaced", 10))
        await one.settle(Bill("spaced", 4, 28, b"{}", "acme", "ann"))
        seen = [
            (len(await store.peek(10)), [counter.spent_tokens for counter in await store.read("acme", "ann")])
            for store in (one, other)
        ]
        await one.close()
        await other.close()
        return isinstance(held, Hold), seen

    assert asyncio.run(scenario()) == (True, [(1, [4] * 9), (0, [0] * 9)])
