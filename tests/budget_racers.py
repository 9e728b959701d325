"""Racers on one budget: requests that are refused, settled, refunded, cancelled, late, cut off, or die.

As a process of its own: python budget_racers.py URL NAME ROUNDS RACERS CAP, one of PROCESSES that race together.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from functools import cache
from importlib.resources import files

from trireme.budget.caps import Cap
from trireme.budget.port import Bill, Claim, Hold, Progress
from trireme.errors import UnavailableError
from trireme.redis import budgets
from trireme.redis.budgets import RedisBudgets
from trireme.redis.connection import RedisStore, Script

PROCESSES = 2
CLIENTS = 3
REQUESTS = 3
LEASE = 0.1
WAYS = ("settled", "settled", "refunded", "twice", "died", "late", "cancelled", "elsewhere")
# Behind the store's own script, in the same step: what a new admission has left under each cap.
AUDIT = """
local was_there = redis.call('EXISTS', hold_of(ARGV[2]))
local answer = decide()
if #answer ~= 2 or was_there == 1 then return answer end
redis.call('INCR', 'admissions')
local place = 11
each_counter(ARGV[9], read_clock(), function(key)
  local st, ht, sn, hn = read_counter(key)
  for field, amount in ipairs({ st + ht, sn + hn }) do
    local cap = tonumber(ARGV[place + field - 1])
    if cap >= 0 then redis.call('ZADD', 'over', 'GT', amount - cap, key .. field) end
  end
  place = place + 2
end)
return answer
"""


def audited():
    """The script of `reserve` that looks at the counters again once it has admitted."""
    folder = files("trireme.redis") / "scripts"
    common, reserve = ((folder / f"{name}.lua").read_text() for name in ("common", "reserve"))
    return Script(f"{common}\nlocal function decide()\n{reserve}\nend\n{AUDIT}")


class Racers:
    """What one process sends, and what of it was used."""

    def __init__(self, url, name, cap):
        self.redis = [RedisStore(url, timeout=5.0) for _ in range(CLIENTS)]
        self.stores = [RedisBudgets(redis) for redis in self.redis]
        self.name, self.cap = name, cap
        # One process does it for all.
        self.cuts = name == "0"
        self.chance = random.Random(name)
        self.used, self.seen = Counter(), Counter()

    def claim(self, attempt, tenant, tokens):
        caps = (
            Cap("", "", "month", None, 10**15),
            Cap(tenant, "", "day", self.cap),
            Cap(tenant, "ann", "month", None, self.cap * 7),
        )
        return Claim(attempt, tenant, "ann", caps, tokens, tokens * 7, 0, 0, LEASE, b"{}")

    async def settle(self, store, attempt, tenant, tokens):
        """As the gateway does: the same again until the store has answered."""
        while True:
            try:
                return await store.settle(Bill(attempt, tokens, tokens * 7, b"{}", tenant, "ann"))
            except UnavailableError:
                self.seen["cut off"] += 1
                await asyncio.sleep(0.02)

    async def race(self, number, tenant):
        for request in range(REQUESTS):
            await self.request(
                self.chance.choice(self.stores), f"{tenant}-{self.name}-{number}-{request}", tenant
            )

    async def request(self, store, attempt, tenant):
        tokens = self.chance.randrange(1, 90)
        reserving = asyncio.ensure_future(store.reserve(self.claim(attempt, tenant, tokens)))
        if self.chance.random() < 0.1:
            # The client is gone before the store has answered; what may be held is given back.
            await asyncio.sleep(0)
            reserving.cancel()
        try:
            held = await reserving
        except (asyncio.CancelledError, UnavailableError):
            self.seen["given back"] += 1
            await self.settle(store, attempt, tenant, 0)
            return
        if not isinstance(held, Hold):
            assert held.spent + held.held + tokens * (7 if held.unit == "nanos" else 1) > held.cap
            self.seen["refused"] += 1
            return
        self.seen["admitted"] += 1
        self.used[attempt] = await self.end(store, attempt, tenant, self.chance.randrange(tokens + 1))

    async def end(self, store, attempt, tenant, used):
        """One of the ways in which attempts end. Returns what it used."""
        way = self.chance.choice(WAYS)
        self.seen[way] += 1
        await asyncio.sleep(self.chance.random() * 0.02)
        if way == "died":
            try:
                if await store.extend([Progress(attempt, used, used * 7)], 0.01):
                    used = 0
                return used
            except UnavailableError:
                # Whether it was noted is not known: end it.
                way = "settled"
        if way == "late":
            await asyncio.sleep(LEASE * 1.5)
        if way == "refunded":
            used = 0
        if way == "elsewhere":
            store = self.chance.choice(self.stores)
        if way == "cancelled":
            settling = asyncio.ensure_future(self.settle(store, attempt, tenant, used))
            await asyncio.sleep(0)
            settling.cancel()
            await asyncio.wait([settling])
        await self.settle(store, attempt, tenant, used)
        if way == "twice":
            assert not await self.settle(store, attempt, tenant, 10**6)
        return used

    async def meet(self, name):
        """Wait for the other processes: they begin a round together."""
        await self.surely("INCR", f"met:{name}")
        while int(await self.surely("GET", f"met:{name}")) < PROCESSES:
            await asyncio.sleep(0.002)

    async def surely(self, *command):
        while True:
            try:
                return await self.redis[0].run(*command)
            except UnavailableError:
                await asyncio.sleep(0.02)

    async def cut(self):
        """All connections of all processes end, whatever they wait for."""
        await asyncio.sleep(0.015)
        await self.surely("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def go(self, rounds, racers):
        for number in range(rounds):
            await self.meet(number)
            work = [self.race(one, f"t{number}") for one in range(racers)]
            if self.cuts and number % 5 == 1:
                work.append(self.cut())
            await asyncio.gather(*work)
        for store in self.stores:
            await store.close()


def main(url, name, rounds, racers, cap):
    plain = budgets.load_script
    budgets.load_script = cache(lambda verb: audited() if verb == "reserve" else plain(verb))
    work = Racers(url, name, int(cap))
    asyncio.run(work.go(int(rounds), int(racers)))
    print(json.dumps({"used": work.used, "seen": work.seen}))


if __name__ == "__main__":
    main(*sys.argv[1:])
