"""The metrics of how fast budgets burn down."""

import asyncio
from datetime import UTC, datetime

import pytest

from fakes.memory_caps import MemoryCaps
from trireme.budget.caps import EACH, Cap
from trireme.budget.port import Counter
from trireme.errors import UnavailableError
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.spending.burn import MOST_BUDGETS, BudgetWatch
from trireme.observe import metrics as names

DAY = datetime(2026, 11, 10, tzinfo=UTC).timestamp()
MONTH = datetime(2026, 11, 1, tzinfo=UTC).timestamp()


class Store:
    """A budget store in which every tenant has spent `spent` tokens in each window."""

    is_away = False

    def __init__(self, spent):
        self.spent = spent

    async def read(self, tenant, user):
        if self.is_away:
            raise UnavailableError("away")
        levels = ("gateway", "tenant")[: 1 + bool(tenant)]
        starts = (("day", DAY), ("month", MONTH))
        return [
            Counter(level, window, int(start * 1000), self.spent(tenant), 0, 0, 0)
            for level in levels
            for window, start in starts
        ]


class World:
    def __init__(self, *caps, spent=lambda tenant: 500):
        self.caps, self.metrics, self.store = MemoryCaps(), GatewayMetrics(), Store(spent)
        for cap in caps:
            self.caps.put(cap)
        # Six o'clock.
        self.watch = BudgetWatch(self.caps, self.store, self.metrics, lambda: DAY + 6 * 3600)

    def look(self):
        asyncio.run(self.watch.look())

    def series(self, row):
        found = [one for family in self.metrics._page.registry.collect() for one in family.samples]
        return {tuple(one.labels.values()): one.value for one in found if one.name == row.name}


def test_a_budget_that_ends_before_its_window_has_its_seconds_and_one_that_lasts_none():
    world = World(
        Cap("acme", "", "day", tokens=1_000),
        Cap("acme", "", "month", tokens=5_000),
        Cap("", "", "day", tokens=9_999),
    )
    world.look()
    assert world.series(names.BUDGET_USED) == {
        ("gateway", "", "day"): 500 / 9_999,
        ("tenant", "acme", "day"): 0.5,
        ("tenant", "acme", "month"): 0.1,
    }
    assert world.series(names.BUDGET_LEFT_SECONDS) == {("tenant", "acme", "day"): 6 * 3600}


def test_budgets_of_users_of_minutes_and_of_each_tenant_are_not_watched():
    world = World(
        Cap("acme", "ann", "day", tokens=1),
        Cap("acme", "", "minute", tokens=1),
        Cap(EACH, "", "day", tokens=1),
    )
    world.look()
    assert world.series(names.BUDGET_USED) == {}


def test_the_fullest_have_series_of_their_own_and_the_rest_is_one():
    caps = [Cap(f"t{n:04}", "", "day", tokens=10_000) for n in range(MOST_BUDGETS + 20)]
    world = World(*caps, spent=lambda tenant: int(tenant[1:] or 0) * 10)
    world.look()
    used = world.series(names.BUDGET_USED)
    assert len(used) == MOST_BUDGETS + 1
    assert used["tenant", f"t{MOST_BUDGETS + 19:04}", "day"] == (MOST_BUDGETS + 19) / 1_000
    assert used["tenant", "other", "day"] == 19 / 1_000


def test_what_is_not_known_does_not_look_well():
    world = World(Cap("acme", "", "day", tokens=1_000))
    world.look()
    world.store.is_away = True
    with pytest.raises(UnavailableError):
        world.look()
    assert world.series(names.BUDGET_USED) == {}
    assert world.series(names.BUDGET_LEFT_SECONDS) == {}


def test_a_removed_budget_is_gone():
    cap = Cap("acme", "", "day", tokens=1_000)
    world = World(cap)
    world.look()
    world.caps.put(Cap("acme", "", "day"))
    world.look()
    assert world.series(names.BUDGET_USED) == {}


def test_looking_goes_on_until_it_is_closed():
    world = World(Cap("acme", "", "day", tokens=1_000))

    async def run():
        world.watch.start()
        while not world.series(names.BUDGET_USED):
            await asyncio.sleep(0.01)
        await world.watch.close()

    asyncio.run(run())
