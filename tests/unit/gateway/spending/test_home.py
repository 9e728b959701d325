"""Budgets whose home is another region: held there, and what is done while it does not answer."""

import asyncio
import time

import pytest

from fakes.memory_budgets import MemoryBudgets
from fakes.memory_caps import MemoryCaps
from fakes.providers import ScriptedProvider, target_of
from fakes.spending import FILE as PLAIN
from fakes.spending import INPUT, AwayLedger, World, ask, call_of, cap, exchange_of
from trireme.access.keys import Key
from trireme.budget.caps import Cap
from trireme.errors import BudgetExceededError, UnavailableError
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.home import HomeStores, share_of
from trireme.gateway.spending.metered import MeteredSpending, SpendingParts
from trireme.gateway.spending.no_budgets import NoBudgets
from trireme.providers.chat import Finished, Started, TextDelta, Usage

FILE = """
[local]
region = "us"
other_regions = ["eu"]
[tenants.acme]
home = "eu"
"""
ANSWER = (Started("m"), TextDelta("x"), Usage(2, 10), Finished("stop"))
USED = 12


class Regions(World):
    """A gateway of region us; acme's home is eu, whose stores are `budgets`, `ledger` and `caps`. Nothing looks at
    the home but `look`."""

    def __init__(self, *caps, way="closed", share=0.5, kept=None):
        super().__init__(*caps, file=FILE)
        text = f'without_home = "{way}"\nshare = {share}\n'
        self.file = parse_gateway_file((PLAIN + text + FILE).encode(), "gateway.toml")
        self.kept = kept or MemoryBudgets(lambda: int((time.time() + self.waited) * 1000))
        self.own = MemoryBudgets(lambda: int((time.time() + self.waited) * 1000))
        self.own_ledger = AwayLedger()
        self.spending = self.gateway()

    def gateway(self):
        parts = self.spending._meters
        return MeteredSpending(
            SpendingParts(
                file=self.file,
                caps=MemoryCaps(),
                ledger=self.own_ledger,
                store=self.own,
                queue=self.own,
                prices=parts.prices,
                bounds=parts.bounds,
                metrics=self.metrics,
                homes={"eu": HomeStores(self.caps, self.ledger, lambda: self.budgets, lambda: self.kept)},
            )
        )

    @property
    def home(self):
        return self.spending._homes["eu"]

    def go_away(self):
        self.budgets.is_away = self.ledger.is_away = True

    async def come_back(self):
        self.budgets.is_away = self.ledger.is_away = False
        await self.home._look()

    async def ask(self):
        """One chat, until its bill is where it can be."""
        await ask(self, call_of(max_tokens=10), target_of(ScriptedProvider(ANSWER)))
        for books in (self.home._far, self.home._near):
            await books.settling.wait()

    async def at_home(self):
        """Attempts and tokens in the home's ledger, once all that ended is settled."""
        for books in (self.home._far, self.home._near):
            await books.settling.wait()
            await books.settling.try_again()
        await self.home._far.draining.drain()
        return [one.row for one in self.ledger.rows.values()]


@pytest.fixture(autouse=True)
def _no_looks(monkeypatch):
    monkeypatch.setattr("trireme.gateway.spending.home.LOOK_SECONDS", 3600.0)


def run(world, scenario):
    async def whole():
        async with world.running():
            return await scenario()

    return asyncio.run(whole())


def test_an_attempt_is_held_and_settled_at_its_tenants_home_and_nowhere_else():
    world = Regions(cap(10_000))

    async def scenario():
        await world.ask()
        return await world.at_home()

    (row,) = run(world, scenario)
    assert (row.tenant, row.tokens) == ("acme", USED)
    assert world.own_ledger.rows == {}
    assert not world.kept.rows


def test_each_attempt_costs_one_step_at_the_home_before_its_call_and_one_after_it():
    world = Regions(cap(10_000))
    asked = []

    async def scenario():
        # The first one finds out whether the counters are what the ledger says.
        await world.ask()
        await world.at_home()
        for verb in (
            "reserve",
            "settle",
            "extend",
            "read",
            "snapshot",
            "peek",
            "correct",
            "expire",
            "remove",
        ):
            act = getattr(world.budgets, verb)

            async def counted(*words, verb=verb, act=act):
                asked.append(verb)
                return await act(*words)

            setattr(world.budgets, verb, counted)
        await world.ask()

    run(world, scenario)
    assert asked == ["reserve", "settle"]


def test_a_home_that_is_away_refuses_and_says_where_the_budgets_are():
    world = Regions(cap(10_000))

    async def scenario():
        await world.ask()
        world.go_away()
        with pytest.raises(UnavailableError, match="kept in region eu"):
            await world.ask()
        with pytest.raises(UnavailableError, match="without_home"):
            await world.ask()
        assert world.metric("trireme_budget_home_away", region="eu") == 1
        await world.come_back()
        assert world.metric("trireme_budget_home_away", region="eu") == 0
        await world.ask()
        return await world.at_home()

    rows = [row for row in run(world, scenario) if row.outcome != "unheld"]
    assert [row.tokens for row in rows] == [USED, USED]
    assert world.metric("trireme_budget_without_home_total", region="eu", way="closed") == 2


def test_who_has_no_budget_is_not_let_through_unrecorded_either():
    world = Regions()

    async def scenario():
        world.go_away()
        with pytest.raises(UnavailableError):
            await world.ask()

    run(world, scenario)


def test_of_a_share_no_more_is_spent_than_the_share_and_its_rows_come_home_once():
    most = INPUT + 10
    world = Regions(cap(3 * most, user=""), way="share")

    async def scenario():
        await world.ask()
        world.go_away()
        spent = 0
        for _ in range(40):
            try:
                await world.ask()
            except BudgetExceededError as error:
                assert error.cap == 3 * most // 2
                break
            spent += 1
        assert spent
        # The last one that was let in fitted under the share.
        assert spent * USED + most <= 3 * most // 2 + USED
        assert len(world.ledger.rows) <= 1
        await world.come_back()
        # The home knows at once what was spent without it.
        counters = {(one.level, one.window): one for one in await world.budgets.read("acme", "ann")}
        assert counters["tenant", "day"].spent_tokens == (spent + 1) * USED
        await world.come_back()
        return spent, await world.at_home()

    spent, rows = run(world, scenario)
    assert sum(row.tokens for row in rows) == (spent + 1) * USED
    assert len([row for row in rows if row.outcome == "ok"]) == spent + 1
    assert not world.kept.rows
    assert world.own_ledger.rows == {}


def test_rows_that_a_gateway_left_behind_are_brought_home_by_the_next_one():
    world = Regions(cap(10_000), way="share")

    async def first():
        await world.ask()
        world.go_away()
        await world.ask()

    run(world, first)
    assert world.kept.rows
    assert world.ledger.rows == {}
    world.spending = world.gateway()

    async def second():
        await world.come_back()
        return await world.at_home()

    rows = run(world, second)
    assert len([row for row in rows if row.outcome == "ok"]) == 2


def test_a_home_counts_what_was_spent_without_it_before_it_holds_again():
    """Its database answers later than its store."""
    world = Regions(cap(INPUT + 10 + USED), way="share", share=1.0)

    async def scenario():
        await world.ask()
        world.go_away()
        await world.ask()
        world.budgets.is_away = False
        with pytest.raises(UnavailableError):
            await world.home._look()
        assert world.home.is_away
        await world.come_back()
        with pytest.raises(BudgetExceededError):
            await world.ask()

    run(world, scenario)


def test_open_lets_everybody_through_and_records_it():
    world = Regions(cap(INPUT + 10), way="open")

    async def scenario():
        await world.ask()
        world.go_away()
        for _ in range(5):
            await world.ask()
        await world.come_back()
        return await world.at_home()

    rows = run(world, scenario)
    assert len([row for row in rows if row.outcome == "ok"]) == 6


@pytest.mark.parametrize(("way", "is_served"), [("closed", False), ("share", False), ("open", True)])
def test_a_gateway_that_starts_while_the_home_is_away_knows_no_budget(way, is_served):
    world = Regions(cap(10_000), way=way)
    world.caps.read = lambda revision: (_ for _ in ()).throw(UnavailableError("away"))

    async def scenario():
        world.go_away()
        if is_served:
            await world.ask()
        else:
            with pytest.raises(UnavailableError, match="kept in region eu"):
                await world.ask()

    run(world, scenario)


def test_without_a_store_of_its_own_a_region_has_no_share():
    world = Regions(cap(10_000), way="share", kept=NoBudgets())

    async def scenario():
        await world.ask()
        world.go_away()
        with pytest.raises(UnavailableError):
            await world.ask()
        # And the way back needs none.
        await world.come_back()
        await world.ask()

    run(world, scenario)


def test_other_tenants_do_not_notice():
    world = Regions(cap(10_000))

    async def scenario():
        world.go_away()
        exchange = exchange_of(Key("key_bob", "beta", "bob"))
        await ask(world, call_of(max_tokens=10), target_of(ScriptedProvider(ANSWER)), exchange=exchange)
        await world.spending.settle_all()
        assert world.spending.faults() == []

    run(world, scenario)
    assert [one.row.tenant for one in world.own_ledger.rows.values()] == ["beta"]


def test_a_share_is_rounded_down_and_no_limit_stays_none():
    assert share_of(Cap("a", "", "day", 9, None), 0.5) == Cap("a", "", "day", 4, None)
    assert share_of(Cap("a", "", "day", None, 10), 0.0) == Cap("a", "", "day", None, 0)
