"""Budget stores for the contract's suites, each over a clock that a test moves."""

from contextlib import asynccontextmanager

from fakes.memory_budgets import MemoryBudgets
from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow, encode_row
from trireme.budget.port import Bill, Claim
from trireme.redis.budgets import RedisBudgets
from trireme.redis.connection import RedisStore

# 2026-11-28 12:00:30 UTC.
NOON = 1_795_867_230_000


class Clock:
    """Milliseconds, Unix."""

    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


class Stores:
    """Makes stores over a clock; each begins empty."""

    def __init__(self, kind, server):
        self.kind, self.server, self.clock = kind, server, Clock()

    @asynccontextmanager
    async def open(self, *, keep=False):
        if self.kind == "memory":
            if not keep:
                self.memory = MemoryBudgets(self.clock)
            yield self.memory
            return
        # A busy machine takes no part in what is tested.
        self.redis = RedisStore(self.server.url, timeout=60.0)
        if not keep:
            await self.redis.run("FLUSHALL")
        store = RedisBudgets(self.redis, self.clock)
        try:
            yield store
        finally:
            await store.close()

    async def lose(self):
        """What a store holds, as where its files are gone."""
        if self.kind == "memory":
            self.memory.lose()
        else:
            await self.redis.run("FLUSHALL")


def row_of(attempt, tenant="acme", user="ann", tokens=3, nanos=0):
    return encode_row(
        LedgerRow(
            attempt,
            "r",
            tenant,
            user,
            "k",
            "chat",
            "local",
            "llm",
            "local:llm",
            0,
            input_tokens=tokens,
            nanos=nanos,
        )
    )


def claim(attempt, tokens=10, nanos=0, *, caps=(), tenant="acme", user="ann", spent=3, lease=60.0):
    row = row_of(attempt, tenant, user)
    return Claim(attempt, tenant, user, tuple(caps), tokens, nanos, spent, 0, lease, row)


def bill(attempt, tokens, nanos=0, tenant="acme", user="ann"):
    return Bill(attempt, tokens, nanos, row_of(attempt, tenant, user, tokens, nanos), tenant, user)


def cap(tokens=None, nanos=None, *, tenant="acme", user="", window="day"):
    return Cap(tenant, user, window, tokens, nanos)
