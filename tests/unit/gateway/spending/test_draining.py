"""The way of rows to the ledger: none lost, none twice, whoever is away."""

import asyncio
import logging

from fakes.spending import World
from trireme.budget.ledger import LedgerRow, encode_row
from trireme.budget.port import Claim, Waiting
from trireme.errors import InvalidInputError, UnavailableError
from trireme.gateway.spending import draining
from trireme.gateway.spending.draining import Draining
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.rows import bill_of


def row_of(name, **fields):
    more = {"input_tokens": 5, "output_tokens": 2, "nanos": 9, "counted_by": "provider"} | fields
    return LedgerRow(name, "req", "acme", "ann", "key", "chat", "a", "m", "a:m", 1_000, **more)


def draining_of(world, lose=lambda rows: None):
    return Draining(world.budgets, world.ledger, StoreHealth(), lose)


async def fill(world, count):
    for n in range(count):
        await world.budgets.settle(bill_of(row_of(f"r{n:04}")))


def test_rows_go_to_the_ledger_with_their_place_and_the_stores_time(monkeypatch):
    monkeypatch.setattr(draining, "BATCH", 10)
    world = World()

    async def scenario():
        await fill(world, 25)
        await draining_of(world).drain()

    asyncio.run(scenario())
    recorded = list(world.ledger.rows.values())
    assert [one.row.attempt for one in recorded] == [f"r{n:04}" for n in range(25)]
    assert len({one.seq for one in recorded}) == 25
    assert {one.epoch for one in recorded} == {world.budgets.epoch}
    assert all(one.row.at > 1_000 for one in recorded)
    assert world.budgets.rows == []


def test_while_the_ledger_is_away_rows_wait_and_none_is_lost_or_twice():
    world = World()

    async def scenario():
        await fill(world, 3)
        one = draining_of(world)
        world.ledger.is_away = True
        await one._drain_quietly()
        waiting = len(world.budgets.rows), one.seen
        world.ledger.is_away = False
        remove, world.budgets.remove = world.budgets.remove, away
        await one._drain_quietly()
        world.budgets.remove = remove
        again = len(world.budgets.rows)
        await asyncio.gather(one.drain(), draining_of(world).drain())
        return waiting, again, len(world.budgets.rows), one.seen

    async def away(entries):
        raise UnavailableError("away")

    assert asyncio.run(scenario()) == ((3, 3), 3, 0, 0)
    assert len(world.ledger.rows) == 3


def test_a_row_that_cannot_be_read_is_counted_and_does_not_stop_the_others(caplog):
    world = World()
    lost = []

    async def scenario():
        await fill(world, 1)
        world.budgets.rows.insert(0, Waiting("0-0", "e", 0, 1, 5, 5, b"{no row"))
        await draining_of(world, lost.append).drain()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert (list(world.ledger.rows), world.budgets.rows, lost) == (["r0000"], [], [1])
    assert "cannot be read" in caplog.text


def test_a_row_that_the_ledger_refuses_is_counted_and_does_not_stop_the_others(caplog):
    world = World()
    lost = []
    record = world.ledger.record

    def refuse(rows):
        if any(one.row.attempt == "r0001" for one in rows):
            raise InvalidInputError("bigint out of range")
        return record(rows)

    async def scenario():
        await fill(world, 3)
        world.ledger.record = refuse
        await draining_of(world, lost.append).drain()

    with caplog.at_level(logging.ERROR):
        asyncio.run(scenario())
    assert list(world.ledger.rows) == ["r0000", "r0002"]
    assert (world.budgets.rows, lost) == ([], [1])
    assert [record.getMessage() for record in caplog.records] == [
        "the ledger refuses a row (InvalidInputError); it is left out"
    ]


def test_a_hold_that_expired_is_drained_with_what_was_last_reported():
    world = World()
    row = row_of("x", input_tokens=290, output_tokens=0, nanos=870, outcome="expired", counted_by="expired")

    async def scenario():
        claim = Claim("x", "acme", "ann", (), 340, 1370, 290, 870, 30.0, encode_row(row))
        await world.budgets.reserve(claim)
        world.wait(31)
        await draining_of(world)._drain_quietly()

    asyncio.run(scenario())
    (recorded,) = [one.row for one in world.ledger.rows.values()]
    assert (recorded.tokens, recorded.nanos, recorded.outcome) == (290, 870, "expired")
