"""What becomes of a settlement whatever is away, and that each is made once."""

import asyncio
import logging

import pytest

from fakes.providers import ScriptedProvider, target_of
from fakes.spending import INPUT, World, ask, call_of, cap
from trireme.budget.ledger import LedgerRow, decode_row
from trireme.errors import UnavailableError
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.settling import Settling
from trireme.providers.chat import Finished, Started, TextDelta, Usage


def row_of(name, tokens=5):
    return LedgerRow(name, "req", "acme", "ann", "key", "chat", "a", "m", "a:m", 1_000, input_tokens=tokens)


class Lost:
    rows = 0

    def __call__(self, rows):
        self.rows += rows


def settling_of(world, most=100):
    lost = Lost()
    return Settling(world.budgets, world.ledger, StoreHealth(), lost, most=most), lost


def test_a_bill_is_settled_at_once_and_once():
    world = World()

    async def scenario():
        settling, _ = settling_of(world)
        settling.settle(row_of("x"))
        settling.settle(row_of("x"))
        await settling.wait()
        return (
            len(settling),
            (await world.budgets.read("acme", "ann"))[0].spent_tokens,
            len(world.budgets.rows),
        )

    assert asyncio.run(scenario()) == (0, 5, 1)


def test_a_bill_that_is_on_its_way_is_not_taken_for_one_that_waits():
    world = World()

    async def scenario():
        settling, _ = settling_of(world)
        settling.settle(row_of("x"))
        # Before its task has begun.
        await settling.try_again()
        await settling.wait()
        return list(world.ledger.rows), len(world.budgets.rows)

    assert asyncio.run(scenario()) == ([], 1)


def test_while_the_store_is_away_rows_go_to_the_ledger_and_bills_wait():
    world = World()

    async def scenario():
        settling, lost = settling_of(world)
        world.budgets.is_away = True
        settling.settle(row_of("x"))
        await settling.wait()
        await settling.try_again()
        seen = len(settling), [one.epoch for one in world.ledger.rows.values()]
        world.budgets.is_away = False
        await settling.try_again()
        return seen, len(settling), [decode_row(one.row).attempt for one in world.budgets.rows], lost.rows

    # The row that the store sends the ledger already has.
    assert asyncio.run(scenario()) == ((1, [""]), 0, ["x"], 0)


@pytest.mark.parametrize("seconds", [0, 31], ids=["running", "expired"])
def test_a_hold_that_ended_while_the_store_was_away_is_charged_once(seconds):
    world = World(cap(10_000))

    async def end_while_away():
        world.budgets.is_away = True

    script = (Started("m"), TextDelta("x"), end_while_away, Usage(7, 3), Finished("stop"))

    async def scenario():
        async with world.running():
            await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider(script)))
            await world.spending._settling.wait()
            await world.spending._settling.try_again()
            world.wait(seconds)
            world.budgets.is_away = False
            await world.budgets.expire()
            await world.spending.settle_all()
            await world.spending.reconcile()
            return await world.amounts(), [row.tokens for row in await world.rows()]

    amounts, rows = asyncio.run(scenario())
    assert (amounts, sum(rows)) == ((10, 0, 37, 0), 10)
    assert len(rows) == (3 if seconds else 1)


def test_a_settlement_behind_its_expiry_makes_good_what_the_expiry_charged():
    world = World(cap(10_000))

    async def expire():
        world.wait(31)
        await world.budgets.expire()

    script = (Started("m"), TextDelta("x"), expire, Usage(7, 3), Finished("stop"))

    async def scenario():
        async with world.running():
            await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider(script)))
            amounts, rows = await world.amounts(), await world.rows()
            return amounts, rows, await world.spending.reconcile()

    amounts, rows, difference = asyncio.run(scenario())
    assert amounts == (10, 0, 37, 0)
    assert [(row.outcome, row.tokens, row.nanos) for row in rows] == [
        ("expired", INPUT, 3 * INPUT),
        ("expired", -INPUT, -3 * INPUT),
        ("ok", 10, 37),
    ]
    assert (difference.tokens, difference.nanos) == (0, 0)


def test_a_gateway_that_ends_without_a_store_leaves_its_rows_in_the_ledger():
    world = World(cap(10_000), file='without_store = "open"\n')

    async def scenario():
        async with world.running():
            world.budgets.is_away = True
            await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()))
        return [one.row.tokens for one in world.ledger.rows.values()]

    assert asyncio.run(scenario()) == [5]


def test_rows_that_nobody_takes_are_lost_oldest_first_and_counted(caplog):
    world = World()

    async def scenario():
        settling, lost = settling_of(world, most=2)
        world.budgets.is_away = world.ledger.is_away = True
        with caplog.at_level(logging.ERROR):
            for n in range(5):
                settling.settle(row_of(f"x{n}"))
                await settling.wait()
        before = lost.rows
        await settling.close(0.5)
        return before, lost.rows

    assert asyncio.run(scenario()) == (3, 5)
    assert "rows of the ledger are lost" in caplog.text


def test_rows_that_the_ledger_has_make_room_before_those_it_has_not():
    world = World()

    async def scenario():
        settling, lost = settling_of(world, most=2)
        world.budgets.is_away = True
        settling.settle(row_of("a"))
        await settling.wait()
        await settling.try_again()
        world.ledger.is_away = True
        for name in "bc":
            settling.settle(row_of(name))
            await settling.wait()
        world.ledger.is_away = False
        await settling.try_again()
        return lost.rows, sorted(world.ledger.rows)

    assert asyncio.run(scenario()) == (0, ["a", "b", "c"])


def test_a_reservation_without_an_answer_is_given_back_and_leaves_no_row():
    world = World(cap(10_000))

    async def scenario():
        async with world.running():
            reserve = world.budgets.reserve

            async def answer_is_lost(claim):
                await reserve(claim)
                raise UnavailableError("it did not answer in time")

            world.budgets.reserve = answer_is_lost
            with pytest.raises(UnavailableError):
                await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()))
            world.budgets.reserve = reserve
            return await world.amounts(), [row.tokens for row in await world.rows()]

    amounts, rows = asyncio.run(scenario())
    assert (amounts, rows) == ((0, 0, 0, 0), [0])
