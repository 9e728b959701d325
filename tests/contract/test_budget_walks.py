"""Random walks over every budget store, beside plain bookkeeping: I1 to I7 after each step."""

import asyncio
import os
import random
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from budgets import Stores, bill, cap, claim

from trireme.budget.caps import LEVELS, WINDOWS
from trireme.budget.ledger import decode_row
from trireme.budget.port import Hold, Progress
from valkeys import valkey

STEPS = int(os.environ.get("BUDGET_WALK_STEPS", "500"))
# A walk of 500 steps lasts 25 minutes: it crosses minutes, midnight and the end of a month.
BEGINS = int(datetime(2028, 2, 29, 23, 48, tzinfo=UTC).timestamp() * 1000)
LEASE = 10_000
# Each refuses now and then: in some minutes money is short, in others tokens.
CAPS = [
    cap(6000, 60_000, tenant="", window="month"),
    cap(2500, window="day"),
    cap(None, 1500, window="minute"),
    cap(120, user="ann", window="minute"),
    cap(1200, 10_000, user="bob", window="day"),
]


@pytest.fixture(scope="module")
def server():
    with valkey(maxmemory_policy="noeviction") as running:
        yield running


@pytest.fixture(params=["memory", "valkey"])
def stores(request, server):
    return Stores(request.param, server)


def start_of(window, at):
    moment = datetime.fromtimestamp(at / 1000, UTC)
    begin = {"minute": {}, "day": {"hour": 0, "minute": 0}, "month": {"day": 1, "hour": 0, "minute": 0}}[
        window
    ]
    return int(moment.replace(second=0, microsecond=0, **begin).timestamp() * 1000)


@dataclass
class Attempt:
    at: int
    user: str
    held: tuple
    used: tuple
    until: int
    state: str = "held"

    def __post_init__(self):
        self.starts = {window: start_of(window, self.at) for window in WINDOWS}


class Books:
    """What should be: all attempts since the store was new, and nothing else."""

    def __init__(self):
        self.attempts = {}
        self.ended = []

    def counter(self, level, window, user, now):
        """Spent tokens, held tokens, spent nanos, held nanos."""
        start = start_of(window, now)
        mine = [
            one
            for one in self.attempts.values()
            if one.starts[window] == start and (level != "user" or one.user == user)
        ]
        sums = []
        for unit in (0, 1):
            sums.append(sum(one.used[unit] for one in mine if one.state != "held"))
            sums.append(sum(one.held[unit] for one in mine if one.state == "held"))
        return tuple(sums)

    def fits(self, caps, user, amounts, now):
        for one in caps:
            spent_tokens, held_tokens, spent_nanos, held_nanos = self.counter(
                one.level, one.window, user, now
            )
            if one.tokens is not None and spent_tokens + held_tokens + amounts[0] > one.tokens:
                return False
            if one.nanos is not None and spent_nanos + held_nanos + amounts[1] > one.nanos:
                return False
        return True

    def expire(self, now):
        over = [one for one in self.attempts.values() if one.state == "held" and one.until <= now]
        for one in over:
            one.state = "expired"
        return len(over)


class Walk:
    """Reserve, report, settle once, twice, too much, late or out of nothing, expire, and lose all."""

    def __init__(self, stores, store, seed):
        self.stores, self.store, self.clock = stores, store, stores.clock
        self.chance, self.books, self.ledger = random.Random(seed), Books(), {}
        self.seen = dict.fromkeys(("admitted", "refused", "expired", "late", "again", "unknown", "lost"), 0)
        self.refusals = set()
        self.number = 0

    async def step(self):
        self.clock.now += self.chance.randrange(6_000)
        ended = await self.store.expire()
        assert ended == self.books.expire(self.clock.now)
        self.seen["expired"] += ended
        acts = [self.reserve] * 10 + [self.reserve_again] * 2 + [self.report] * 4 + [self.settle] * 7
        await self.chance.choice([*acts, self.settle_unknown])()
        if self.chance.random() < 0.004:
            await self.lose()

    def known(self):
        return self.chance.choice(list(self.books.attempts)[-12:]) if self.books.attempts else None

    async def reserve(self):
        self.number += 1
        attempt, user = f"a{self.number}", self.chance.choice(["ann", "bob"])
        amounts = self.chance.randrange(60), self.chance.randrange(500)
        caps = [one for one in CAPS if one.user in ("", user)]
        fits = self.books.fits(caps, user, amounts, self.clock.now)
        asked = claim(attempt, *amounts, caps=caps, user=user, spent=2, lease=LEASE / 1000)
        got = await self.store.reserve(asked)
        assert isinstance(got, Hold) == fits
        if not fits:
            self.refusals.add((got.window, got.unit))
        self.seen["admitted" if fits else "refused"] += 1
        if fits:
            now = self.clock.now
            self.books.attempts[attempt] = Attempt(now, user, amounts, (2, 0), now + LEASE)
            for one in caps:
                # I1, by the store's own counters.
                spent_tokens, held_tokens, spent_nanos, held_nanos = await self.read(
                    one.level, one.window, user
                )
                assert one.tokens is None or spent_tokens + held_tokens <= one.tokens
                assert one.nanos is None or spent_nanos + held_nanos <= one.nanos

    async def reserve_again(self):
        if attempt := self.known():
            kept = self.books.attempts[attempt]
            got = await self.store.reserve(claim(attempt, 50, caps=CAPS[:2], user=kept.user))
            assert got == Hold(attempt, kept.at)
            self.seen["again"] += 1

    async def report(self):
        if attempt := self.known():
            kept, used = self.books.attempts[attempt], (self.chance.randrange(80), self.chance.randrange(600))
            ended = await self.store.extend([Progress(attempt, *used)], LEASE / 1000)
            assert ended == ([] if kept.state == "held" else [attempt])
            if kept.state == "held":
                kept.used, kept.until = used, self.clock.now + LEASE

    async def settle(self):
        if attempt := self.known():
            kept, used = self.books.attempts[attempt], (self.chance.randrange(80), self.chance.randrange(600))
            made = bill(attempt, *used, user=kept.user)
            if kept.state != "settled" and self.chance.random() < 0.2:
                # The gateway could not reach the store, and wrote the row itself.
                row = decode_row(made.row)
                self.ledger.setdefault(row.attempt, row)
            assert await self.store.settle(made) == (kept.state != "settled")
            self.seen["late"] += kept.state == "expired"
            self.seen["again"] += kept.state == "settled"
            if kept.state != "settled":
                kept.used, kept.state = used, "settled"

    async def settle_unknown(self):
        self.number += 1
        attempt, user, used = f"a{self.number}", self.chance.choice(["ann", "bob"]), (1, 5)
        assert await self.store.settle(bill(attempt, *used, user=user))
        self.books.attempts[attempt] = Attempt(self.clock.now, user, (0, 0), used, 0, "settled")
        self.seen["unknown"] += 1

    async def lose(self):
        before = await self.store.snapshot("acme", "ann")
        await self.drain()
        self.check_ledger()
        await self.stores.lose()
        self.books, self.ledger = Books(), {}
        assert (await self.store.snapshot("acme", "ann")).epoch != before.epoch
        self.seen["lost"] += 1

    async def read(self, level, window, user):
        (one,) = [c for c in await self.store.read("acme", user) if (c.level, c.window) == (level, window)]
        return one.spent_tokens, one.held_tokens, one.spent_nanos, one.held_nanos

    async def check(self):
        now = self.clock.now
        for user in ("ann", "bob"):
            found = {
                (c.level, c.window): (c.start, c.spent_tokens, c.held_tokens, c.spent_nanos, c.held_nanos)
                for c in await self.store.read("acme", user)
            }
            for level in LEVELS:
                for window in WINDOWS:
                    right = (start_of(window, now), *self.books.counter(level, window, user, now))
                    assert found[level, window] == right
                    assert all(type(amount) is int for amount in found[level, window])

    async def drain(self):
        last = 0
        while rows := await self.store.peek(50):
            for one in rows:
                assert one.seq > last
                last = one.seq
                row = decode_row(one.row)
                assert (row.tokens, row.nanos) == (one.tokens, one.nanos)
                self.ledger.setdefault(row.attempt, row)
            await self.store.remove([one.entry for one in rows])

    def check_ledger(self):
        ended = [one for one in self.books.attempts.values() if one.state != "held"]
        assert sum(row.tokens for row in self.ledger.values()) == sum(one.used[0] for one in ended)
        assert sum(row.nanos for row in self.ledger.values()) == sum(one.used[1] for one in ended)


@pytest.mark.parametrize("seed", range(3))
def test_at_random_the_store_says_what_plain_bookkeeping_says(stores, seed):
    async def go():
        stores.clock.now = BEGINS
        async with stores.open() as store:
            walk = Walk(stores, store, seed)
            for number in range(STEPS):
                await walk.step()
                await walk.check()
                if number % 20 == 0:
                    await walk.drain()
                    walk.check_ledger()
            await walk.drain()
            walk.check_ledger()
            # A walk that met nothing shows nothing.
            assert all(count for name, count in walk.seen.items() if name != "lost"), walk.seen
            assert {("minute", "nanos"), ("minute", "tokens")} <= walk.refusals

    asyncio.run(go())
