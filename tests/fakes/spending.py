"""Spending over stores in memory, with prices that a person can reckon with."""

import time
from contextlib import asynccontextmanager
from pathlib import Path

from fakes.memory_budgets import MemoryBudgets
from fakes.memory_caps import MemoryCaps
from fakes.memory_ledger import MemoryLedger
from trireme.access.keys import Key
from trireme.budget.caps import Cap
from trireme.errors import UnavailableError
from trireme.gateway.exchange import open_exchange
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.spending.bounds import Bounds
from trireme.gateway.spending.estimates import OwnEstimates, input_bound
from trireme.gateway.spending.metered import MeteredSpending, SpendingParts
from trireme.gateway.spending.price_book import PriceBook
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.chat import ChatCall, Message, Text
from trireme.providers.own_limits import OwnLimits
from trireme.providers.token_texts import TokenTexts

ANN = Key("key_ann", "acme", "ann")
# A token costs a nano-dollar of input, ten of output; those of a cache 2 and 3.
FILE = """
[providers.a]
kind = "openai"
url = "http://127.0.0.1:1/v1"

[prices."a:m"]
input = 0.001
cached = 0.002
cache_write = 0.003
output = 0.01

[budgets]
lease_seconds = 30
"""


class AwayLedger(MemoryLedger):
    """A ledger that can be away."""

    is_away = False

    def record(self, rows):
        self._check()
        return super().record(rows)

    def sum(self, query):
        self._check()
        return super().sum(query)

    def usage(self, query):
        self._check()
        return super().usage(query)

    def _check(self):
        if self.is_away:
            raise UnavailableError("the database does not answer")


class World:
    """One gateway's spending and what it rests on. `wait(seconds)` moves the stores' clock."""

    def __init__(self, *caps, file="", gateways_of=None, store=None):
        self.file = parse_gateway_file((FILE + file).encode(), "gateway.toml")
        self.waited = 0.0
        if gateways_of is None:
            self.caps, self.ledger = MemoryCaps(), AwayLedger()
            self.budgets = MemoryBudgets(lambda: int((time.time() + self.waited) * 1000))
        else:
            self.caps, self.ledger, self.budgets = gateways_of.caps, gateways_of.ledger, gateways_of.budgets
        self.budgets = store or self.budgets
        for cap in caps:
            self.caps.put(cap)
        self.metrics = GatewayMetrics()
        # Rows of what ended, as they were told.
        self.told = []
        nowhere = Path("/nonexistent")
        self.spending = MeteredSpending(
            SpendingParts(
                file=self.file,
                caps=self.caps,
                ledger=self.ledger,
                store=self.budgets,
                queue=self.budgets,
                prices=PriceBook(self.file),
                bounds=Bounds(self.file, OwnEstimates(TokenTexts(nowhere), OwnLimits(nowhere))),
                metrics=self.metrics,
                tell=self.told.append,
            )
        )

    @asynccontextmanager
    async def running(self):
        await self.spending.start()
        try:
            yield self
        finally:
            await self.spending.close()

    def wait(self, seconds):
        self.waited += seconds

    async def rows(self):
        """All rows of the ledger, once everything that ended is in it."""
        await self.spending.settle_all()
        return [one.row for one in self.ledger.rows.values()]

    async def amounts(self, level="user", window="day", tenant="acme", user="ann"):
        """(spent tokens, held tokens, spent nanos, held nanos) of a level."""
        await self.spending.settle_all()
        counters = await self.budgets.read(tenant, user)
        (one,) = [one for one in counters if (one.level, one.window) == (level, window)]
        return one.spent_tokens, one.held_tokens, one.spent_nanos, one.held_nanos

    def metric(self, name, **labels):
        """The value of a metric; None where it has none."""
        return self.metrics._page.registry.get_sample_value(name, labels)


def exchange_of(key=ANN, endpoint="chat"):
    exchange = open_exchange({"headers": []}, endpoint)
    exchange.key = key
    return exchange


def call_of(text="hi", model_name="m", **fields):
    return ChatCall("openai", model_name, (Message("user", (Text(text),)),), **{"stream": True, **fields})


# Tokens of its input at most.
INPUT = input_bound(call_of(), "openai")


def cap(tokens=None, nanos=None, tenant="acme", user="ann", window="day"):
    return Cap(tenant, user, window, tokens, nanos)


async def ask(world, call, *targets, exchange=None, attempts=None, seconds=600.0):
    """All events of one chat, through the attempt loop."""
    meter = world.spending.meter(exchange or exchange_of())
    opened = await (attempts or Attempts(AttemptPolicy(pause=0.0))).open(call, targets, seconds, meter)
    return [event async for event in opened.events]
