import asyncio
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from fakes.gateways import ANN, Models
from fakes.memory_budgets import MemoryBudgets
from fakes.memory_ledger import MemoryLedger
from trireme.access.keys import Key
from trireme.budget.caps import Cap, caps_of
from trireme.budget.ledger import LedgerRow, Recorded, encode_row
from trireme.budget.port import Bill
from trireme.errors import UnavailableError
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.live.facts import NO_DATABASE, NO_STORE, FactParts, Facts
from trireme.gateway.live.scopes import new_scope
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.ports import ServedModels
from trireme.providers.models import ServedModel
from trireme.providers.replicas import Replica

ADMIN = Key("key_admin", "ops", endpoints=("admin",))
REGIONS = '[local]\nregion = "eu"\nother_regions = ["us", "asia"]\n[tenants.bank]\nhome = "us"\n'


class Keys:
    age = 0.0


class Chains:
    """Every key may use every model but its tenant's forbidden one."""

    def names(self, key, served):
        return ["assistant", *(name for name in served if name != "forbidden")]


class Caps:
    """As Spending."""

    def __init__(self, *caps):
        self._caps = caps

    def caps(self, tenant, user):
        return caps_of([cap for cap in self._caps if tenant or not cap.tenant], tenant, user)


class Backlogs:
    def __init__(self):
        self.answer, self.closed = {"llm": 1.25, "embedding": 0.5}, False

    async def read(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def close(self):
        self.closed = True


class Replicas:
    async def read(self):
        return [Replica("127.0.0.1", True), Replica("127.0.0.2", False)]


MODELS = [
    ServedModel("llm", "chat", True),
    ServedModel("embedding", "embed", False),
    ServedModel("forbidden", "chat", True),
]


def now_ms():
    return int(time.time() * 1000)


def parts(text="", **changes):
    file = parse_gateway_file(text.encode(), "gateway.toml")
    given = {
        "file": file,
        "keys": Keys(),
        "chains": Chains(),
        "served": ServedModels(Models(MODELS)),
        "degrade": Degrade(file),
        "spending": Caps(),
        "budgets": None,
        "ledger": MemoryLedger(),
        "metrics": GatewayMetrics(),
    }
    return FactParts(**{**given, **changes})


async def settled(look):
    """What `look` gives once what it began to read is there."""
    look()
    for _ in range(20):
        await asyncio.sleep(0.005)
        if look() is not None:
            break
    return look()


async def spend(store, tokens, nanos, tenant="acme", user="ann"):
    row = LedgerRow("att", "req", tenant, user, "k", "chat", "p", "m", "p:m", now_ms())
    await store.settle(Bill("att", tokens, nanos, encode_row(row), tenant, user))


@pytest.mark.parametrize(("tenant", "user"), [("", ""), ("acme", ""), ("acme", "ann")])
def test_spend_is_what_the_store_counts_today_against_the_budgets_of_the_same_level(tenant, user):
    async def run():
        store = MemoryBudgets(now_ms)
        await spend(store, 30, 1_500_000_000)
        await spend_other(store)
        caps = [
            Cap("", "", "day", 100, None),
            Cap("*", "", "day", 200, None),
            Cap("acme", "*", "month", 300, 6_000_000_000),
        ]
        spent = Facts(parts(budgets=store, spending=Caps(*caps))).new_spent(new_scope(ADMIN, tenant, user))
        await settled(lambda: spent.body()["tokens"])
        body, level = spent.body(), spent.level
        await spent.close()
        return body, level, spent.store

    async def spend_other(store):
        await store.settle(Bill("att2", 7, 0, b"{}", "other", "x"))

    body, level, store = asyncio.run(run())
    assert body["tokens"] == (37 if level == "gateway" else 30)
    assert body["dollars"] == "1.50"
    (budget,) = body["budgets"]
    limits = {"gateway": 100, "tenant": 200, "user": 300}
    assert (budget["level"], budget["limit_tokens"]) == (level, limits[level])
    assert budget["tokens"] == body["tokens"]
    assert budget["limit_dollars"] == ("6.00" if level == "user" else None)
    assert budget["used"] == (0.25 if level == "user" else body["tokens"] / limits[level])
    assert budget["ends_at"].endswith("Z")
    assert store == "ok"


def test_while_the_store_is_away_it_says_so_and_the_ledger_knows_what_was_spent():
    async def run():
        store, ledger = MemoryBudgets(now_ms), MemoryLedger()
        store.is_away = True
        row = LedgerRow(
            "a", "r", "acme", "ann", "k", "chat", "p", "m", "p:m", now_ms(), input_tokens=5, nanos=10**9
        )
        old = replace(row, attempt="b", at=row.at - 2 * 86_400_000)
        ledger.record([Recorded(row), Recorded(old)])
        spending = Caps(Cap("acme", "", "day", 100, None))
        spent = Facts(parts(budgets=store, ledger=ledger, spending=spending)).new_spent(
            new_scope(ADMIN, "acme", "")
        )
        await settled(lambda: spent.body()["tokens"])
        body = spent.body()
        await spent.close()
        return body, spent.store

    body, store = asyncio.run(run())
    assert store == NO_STORE
    assert (body["tokens"], body["dollars"]) == (5, "1.00")
    (budget,) = body["budgets"]
    assert (budget["tokens"], budget["limit_tokens"], budget["used"]) == (None, 100, None)


def test_who_opens_and_leaves_streams_asks_the_ledger_no_more_often_than_its_turns():
    running, most, opened = Counter(), Counter(), threading.Event()

    class Slow(MemoryLedger):
        def sum(self, query):
            running[query.tenant] += 1
            most[query.tenant] = max(most[query.tenant], running[query.tenant])
            opened.wait(30)
            running[query.tenant] -= 1
            return super().sum(query)

    async def run():
        facts = Facts(parts(ledger=Slow()))
        for n in range(40):
            spent = facts.new_spent(new_scope(Key("k", "acme"), "acme", f"u{n}"))
            spent.body()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await spent.close()
        # Keys are read in these threads meanwhile.
        assert await asyncio.wait_for(asyncio.to_thread(int, "7"), 30) == 7
        opened.set()
        other = facts.new_spent(new_scope(Key("k2", "other"), "other", ""))
        assert await settled(lambda: other.body()["tokens"]) == 0
        await other.close()

    asyncio.run(run())
    assert most == {"acme": 2, "other": 1}


def test_a_store_that_was_not_asked_yet_is_no_reason_to_sum_up_the_ledger():
    class Unasked(MemoryLedger):
        def sum(self, query):
            pytest.fail("the ledger was asked")

    async def run():
        facts = Facts(parts(budgets=MemoryBudgets(now_ms), ledger=Unasked()))
        spent = facts.new_spent(new_scope(ANN, "acme", "ann"))
        spent.body()
        await asyncio.sleep(0.02)
        spent.body()
        fault = spent.today.fault
        await spent.close()
        return fault

    assert asyncio.run(run()) == ""


def test_without_a_budget_store_nothing_is_said_of_one():
    async def run():
        spent = Facts(parts()).new_spent(new_scope(ADMIN, "acme", ""))
        found = await settled(lambda: spent.body()["tokens"])
        await spent.close()
        return found, spent.store

    assert asyncio.run(run()) == (0, None)


def test_what_a_tenant_spends_whose_home_is_another_region_is_not_known_here():
    async def run():
        spent = Facts(parts(REGIONS, budgets=MemoryBudgets(now_ms))).new_spent(new_scope(ADMIN, "bank", ""))
        spent.body()
        await asyncio.sleep(0.02)
        return spent.body()

    assert asyncio.run(run()) == {"tokens": None, "dollars": None, "budgets": None}


def test_models_are_those_of_our_triton_that_the_key_may_use_and_null_before_it_answered():
    async def run():
        given = parts()
        facts, scope = Facts(given), new_scope(ANN, "acme", "ann")
        assert facts.models(scope) is None
        await given.served.read()
        return facts.models(scope)

    assert asyncio.run(run()) == [
        {"name": "llm", "ability": "chat", "is_ready": True, "is_far": False},
        {"name": "embedding", "ability": "embed", "is_ready": False, "is_far": False},
    ]


def test_the_backlog_is_what_models_say_and_null_while_they_say_nothing():
    async def run():
        reader = Backlogs()
        facts = Facts(parts(backlogs=reader))
        assert facts.backlog() is None
        found = await settled(facts.backlog)
        await facts.close()
        assert reader.closed
        away = Backlogs()
        away.answer = UnavailableError("no metrics")
        facts = Facts(parts(backlogs=away))
        assert await settled(facts.backlog) is None
        await facts.close()
        return found

    assert list(asyncio.run(run()).items()) == [("llm", 1.25), ("embedding", 0.5)]


def test_a_route_with_a_policy_has_a_backlog_and_a_line_without_any_reader():
    async def run():
        text = "[degrade.llm]\nrunning = 1\nwaiting = 4\n"
        given = parts(text)
        facts = Facts(given)
        assert (facts.backlog(), facts.waiting()) == ({"llm": 0.0}, 0)
        line = given.degrade._routes["llm"].line
        first = await line.enter()
        waiting = asyncio.ensure_future(line.enter())
        await asyncio.sleep(0)
        assert facts.waiting() == 1
        first.leave()
        (await waiting).leave()

    asyncio.run(run())


def test_servers_are_told_by_their_addresses():
    async def run():
        facts = Facts(parts(replicas=Replicas()))
        found = await settled(facts.replicas)
        await facts.close()
        assert Facts(parts()).replicas() is None
        return found

    assert asyncio.run(run()) == [
        {"name": "127.0.0.1", "is_ready": True},
        {"name": "127.0.0.2", "is_ready": False},
    ]


def test_regions_are_those_of_the_file_and_of_others_it_is_not_known_whether_they_are_ready():
    async def run():
        given = parts(REGIONS)
        facts = Facts(given)
        before = facts.regions()
        await given.served.read()
        assert Facts(parts()).regions() is None
        return before, facts.regions()

    before, after = asyncio.run(run())
    assert [one["is_ready"] for one in before] == [None, None, None]
    assert after == [
        {"name": "eu", "is_own": True, "is_ready": True},
        {"name": "us", "is_own": False, "is_ready": None},
        {"name": "asia", "is_own": False, "is_ready": None},
    ]


def test_keys_that_were_read_long_ago_mean_that_the_database_is_away():
    given = parts()
    assert Facts(given).database == "ok"
    given.keys.age = 6.0
    assert Facts(given).database == NO_DATABASE


def test_who_is_an_admin_sees_the_machines():
    assert new_scope(Key("k", "ops", endpoints=("admin",)), "", "").is_admin
    assert not new_scope(ANN, "acme", "ann").is_admin
