"""Counters against the ledger: after a loss, beside traffic, and by several gateways at once."""

import asyncio
from datetime import UTC, datetime

import pytest

from fakes.providers import ScriptedProvider, target_of
from fakes.spending import INPUT, World, ask, call_of, cap, exchange_of
from trireme.access.keys import Key
from trireme.budget.caps import EACH
from trireme.budget.periods import window_end
from trireme.errors import BudgetExceededError, UnavailableError

HELD = INPUT + 50


def at(*date):
    return int(datetime(*date, tzinfo=UTC).timestamp() * 1000)


async def spend(world, key=None):
    exchange = exchange_of(key) if key else exchange_of()
    await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()), exchange=exchange)


def test_windows_end_where_the_next_begin():
    assert window_end("minute", at(2026, 2, 28, 23, 59)) == at(2026, 3, 1)
    assert window_end("day", at(2026, 2, 28)) == at(2026, 3, 1)
    assert window_end("month", at(2026, 2, 1)) == at(2026, 3, 1)
    assert window_end("month", at(2026, 12, 1)) == at(2027, 1, 1)
    assert window_end("month", at(2026, 1, 1)) == at(2026, 2, 1)


@pytest.mark.parametrize(
    "limit",
    [
        cap(HELD + 4),
        cap(HELD + 4, user="", window="month"),
        cap(HELD + 4, tenant=EACH, user=EACH),
        cap(HELD + 4, tenant="", user=""),
        cap(nanos=INPUT * 3 + 500 + 22),
    ],
    ids=["user", "tenant", "each", "gateway", "money"],
)
def test_a_store_that_lost_all_still_refuses_what_was_used_up(limit):
    world = World(limit)

    async def scenario():
        async with world.running():
            await spend(world)
            await world.rows()
            world.budgets.lose()
            # The gateway learns of it by the first answer that does not come.
            world.budgets.is_away = True
            with pytest.raises(UnavailableError):
                await spend(world)
            world.budgets.is_away = False
            with pytest.raises(BudgetExceededError):
                await spend(world)
        return limit

    asyncio.run(scenario())


def test_a_store_that_was_emptied_while_it_answered_refuses_what_was_used_up():
    world = World(cap(HELD + 4))

    async def scenario():
        async with world.running():
            await spend(world)
            await world.rows()
            world.budgets.lose()
            with pytest.raises(UnavailableError):
                await spend(world)
            with pytest.raises(BudgetExceededError):
                await spend(world)

    asyncio.run(scenario())


def test_a_gateway_that_starts_beside_an_empty_store_rebuilds_it_before_it_admits():
    first = World(cap(HELD + 4))

    async def scenario():
        async with first.running():
            await spend(first)
            await first.rows()
        first.budgets.lose()
        second = World(gateways_of=first)
        async with second.running():
            with pytest.raises(BudgetExceededError) as caught:
                await spend(second)
            at_once = await second.amounts()
            await second.spending.reconcile()
            return caught.value.spent, at_once, await second.amounts("gateway", "month")

    assert asyncio.run(scenario()) == (5, (5, 0, 23, 0), (5, 0, 23, 0))


def test_a_store_that_is_empty_while_the_ledger_is_away_is_no_store():
    world = World(cap(HELD + 4))

    async def scenario():
        async with world.running():
            await spend(world)
            await world.rows()
            world.budgets.lose()
            world.ledger.is_away = True
            world.spending._doubt()
            with pytest.raises(UnavailableError):
                await spend(world)
            world.ledger.is_away = False
            with pytest.raises(BudgetExceededError):
                await spend(world)

    asyncio.run(scenario())


def test_a_difference_is_told_before_it_is_made_good():
    world = World(cap(10_000))

    async def scenario():
        async with world.running():
            await spend(world)
            await world.rows()
            # The one that a start begins.
            while not (rounds := world.metric("trireme_budget_reconciled_total")):
                await asyncio.sleep(0.01)
            for counters in world.budgets.counters.values():
                counters[0] += 100
                counters[2] -= 7
            first, second = await world.spending.reconcile(), await world.spending.reconcile()
            return rounds, first, second, await world.amounts()

    rounds, first, second, amounts = asyncio.run(scenario())
    # Of gateway, tenant and user, each for its day and its month.
    assert (first.tokens, first.nanos) == (600, 42)
    assert (second.tokens, second.nanos, amounts) == (0, 0, (5, 0, 23, 0))
    assert world.metric("trireme_budget_reconciled_total") == rounds + 2
    assert world.metric("trireme_budget_ledger_difference_tokens") == 0


def test_rows_on_their_way_are_no_difference():
    world = World(cap(10_000))

    async def scenario():
        async with world.running():
            await spend(world)
            await world.spending._settling.wait()
            assert world.budgets.rows
            return await world.spending.reconcile(), await world.amounts()

    difference, amounts = asyncio.run(scenario())
    assert (difference.tokens, amounts[:2]) == (0, (5, 0))


def test_several_gateways_that_compare_at_once_beside_traffic_agree():
    first = World(cap(100_000))
    others = [World(gateways_of=first) for _ in range(3)]
    bob = Key("key_bob", "acme", "bob")

    async def scenario():
        async with first.running():
            await spend(first)
            await spend(first, bob)
            await first.rows()
            first.budgets.lose()
            spends = [spend(first) for _ in range(20)] + [spend(first, bob) for _ in range(10)]
            await asyncio.gather(
                *(one.spending.reconcile() for one in others), *spends, return_exceptions=False
            )
            await first.rows()
            await first.spending.reconcile()
            return (
                await first.amounts(),
                await first.amounts(user="bob"),
                await first.amounts("tenant"),
                await first.amounts("gateway", "month"),
            )

    amounts = asyncio.run(scenario())
    assert [one[:2] for one in amounts] == [(105, 0), (55, 0), (160, 0), (160, 0)]
