"""A gateway without a budget store: whoever has a budget is refused, all others are served and recorded."""

import asyncio

import pytest

from fakes.providers import ScriptedProvider, target_of
from fakes.spending import World, ask, call_of, cap, exchange_of
from trireme.access.keys import Key
from trireme.errors import UnavailableError
from trireme.gateway.spending.no_budgets import NoBudgets


def test_budgets_refuse_and_the_ledger_records():
    world = World(cap(1_000), store=NoBudgets())
    bob = exchange_of(Key("key_bob", "acme", "bob"))

    async def scenario():
        async with world.running():
            with pytest.raises(UnavailableError):
                await ask(world, call_of(), target_of(ScriptedProvider()))
            await ask(world, call_of(), target_of(ScriptedProvider()), exchange=bob)
            await world.spending._settling.wait()

    asyncio.run(scenario())
    assert [(one.row.user, one.row.tokens) for one in world.ledger.rows.values()] == [("bob", 5)]
