"""What a gateway notes and publishes in the background, of an hour that a person can reckon."""

import pytest

from fakes.memory_costs import MemoryCosts, MemoryReleases
from fakes.memory_ledger import MemoryLedger
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cost.machines import HOUR, HourPrice
from trireme.cost.port import Beat, Own
from trireme.cost.releases import Deploy
from trireme.errors import UnavailableError
from trireme.gateway.costs import CostKeeper, CostParts
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names

NOW = 1_800_000_000
OWN = Own(("local",))
PRICES = {"gpu": (HourPrice(0, 4_000_000_000),)}


class World:
    def __init__(self):
        self.ledger, self.metrics = MemoryLedger(), GatewayMetrics()
        self.book, self.log = MemoryCosts(self.ledger, lambda: NOW * 1000), MemoryReleases()
        self.parts = CostParts(self.book, self.log, Deploy(0, "v1"), Beat("m", "gpu", "v1"))
        self.keeper = CostKeeper(self.parts, OWN, PRICES, self.metrics, lambda: float(NOW))

    def record(self, attempt, served, **more):
        row = LedgerRow(
            *(attempt, attempt, "acme", "ann", "k", "chat", served.partition(":")[0], "m", served),
            **{"at": NOW * 1000 - 60_000, "outcome": "ok", "release": "v1", **more},
        )
        self.ledger.record([Recorded(row)])

    def value(self, row, **labels):
        return self.metrics._page.registry.get_sample_value(row.name, labels)


@pytest.fixture
def world():
    return World()


def test_the_last_hour_is_published_on_both_bases(world):
    for minute in range(-60, 1):
        world.book.beat(Beat("m", "gpu", "v1", NOW * 1000 + minute * 60_000))
    world.record("a1", "local:llm", nanos=1_000_000_000, input_tokens=400_000, output_tokens=100_000)
    world.record("a2", "openai:gpt", nanos=500_000_000, output_tokens=500_000)
    world.record("a3", "openai:gpt", tier="exact", saved_nanos=1_500_000_000)
    world.record("a4", "openai:gpt", at=NOW * 1000 - HOUR - 1, nanos=10**12)
    world.keeper.publish()
    assert world.value(names.HOURLY_COST, model_name="local:llm", cost_basis="usage") == 1.0
    assert world.value(names.HOURLY_COST, model_name="openai:gpt", cost_basis="allocation") == 0.5
    assert world.value(names.HOURLY_COST, model_name="idle", cost_basis="allocation") == 3.0
    assert world.value(names.MACHINE_HOURLY_COST, kind="gpu") == 4.0
    assert world.value(names.TOKEN_COST, model_name="local:llm", cost_basis="usage") == 2.0
    assert world.value(names.TOKEN_COST, model_name="all", cost_basis="allocation") == 4.5
    assert world.value(names.CACHE_SAVINGS, model_name="openai:gpt") == 0.75
    assert world.value(names.SUCCESS_COST, release="v1", cost_basis="usage") == 0.5
    assert world.value(names.SUCCESS_COST, release="v1", cost_basis="allocation") == 1.5


def test_series_of_an_hour_before_are_gone(world):
    world.record("a1", "local:llm", nanos=1)
    world.keeper.publish()
    assert world.value(names.HOURLY_COST, model_name="local:llm", cost_basis="usage") == 1e-9
    world.ledger.rows.clear()
    world.keeper.publish()
    assert world.value(names.HOURLY_COST, model_name="local:llm", cost_basis="usage") is None


def test_a_database_that_is_away_leaves_the_figures_and_says_how_old_they_are(world):
    assert world.value(names.COST_AGE) == float("inf")
    world.record("a1", "local:llm", nanos=1)
    world.keeper.publish()

    def away(query):
        raise UnavailableError("away")

    world.book.groups = away
    with pytest.raises(UnavailableError):
        world.keeper.publish()
    assert world.value(names.HOURLY_COST, model_name="local:llm", cost_basis="usage") == 1e-9
    assert 0 <= world.value(names.COST_AGE) < 3600


def test_a_deploy_is_noted_once_also_where_the_database_was_away_before(world):
    note = world.log.deploy
    world.log.deploy = lambda deploy: (_ for _ in ()).throw(UnavailableError("away"))
    with pytest.raises(UnavailableError):
        world.keeper.note()
    world.log.deploy = note
    world.keeper.note()
    world.keeper.note()
    assert [one.release for one in world.log.find()] == ["v1"]


def test_a_gateway_notes_and_beats_from_its_start_to_its_end(world):
    beats = []
    world.book.beat = beats.append
    world.keeper.start()
    world.keeper.close()
    # One at the start, one at the end.
    assert beats == [world.parts.beat] * 2
    assert [one.release for one in world.log.find()] == ["v1"]


def test_a_machine_without_a_kind_is_not_noted(world):
    keeper = CostKeeper(CostParts(world.book, world.log, Deploy(0, "v1")), OWN, PRICES, world.metrics)
    keeper.beat()
    assert world.book.kept == []


def test_a_ledger_that_takes_long_is_read_more_seldom(world, monkeypatch):
    now, read = [100.0], []
    groups = world.book.groups

    def slow(query):
        read.append(query.by)
        now[0] += 3.0
        return groups(query)

    world.book.groups = slow
    monkeypatch.setattr("trireme.gateway.costs.time.monotonic", lambda: now[0])
    world.keeper._publish_if_due()
    assert read == ["model", "release"]
    # 6 s are 5 % of 120 s.
    now[0] = 219.0
    world.keeper._publish_if_due()
    assert len(read) == 2
    now[0] = 220.0
    world.keeper._publish_if_due()
    assert len(read) == 4
