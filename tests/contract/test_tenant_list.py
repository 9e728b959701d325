"""One suite for every TenantList, the fake in memory and the real PostgreSQL."""

from contextlib import closing

import psycopg
import pytest

from fakes.memory_caps import MemoryCaps
from fakes.memory_keys import MemoryKeys
from fakes.memory_ledger import MemoryLedger
from fakes.memory_tenants import MemoryTenants
from trireme.access.keys import Key, digest_of
from trireme.access.tenants import TenantInfo, TenantQuery
from trireme.budget.caps import EACH, Cap
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.storage import open_caps, open_keys, open_ledger, open_tenants

NOON = 1_796_000_000_000


class World:
    """Keys, caps and a ledger, and the list over them."""

    def __init__(self, keys, caps, ledger, tenants):
        self.keys, self.caps, self.ledger, self.tenants = keys, caps, ledger, tenants

    def key(self, name, tenant, *, is_revoked=False):
        self.keys.create(Key(f"key_{name}", tenant), digest_of(name))
        if is_revoked:
            self.keys.revoke([f"key_{name}"])

    def row(self, attempt, tenant, at=NOON, **more):
        values = {"request": f"r of {attempt}", **more}
        row = LedgerRow(
            attempt,
            tenant=tenant,
            user="u",
            key="k",
            endpoint="chat",
            provider="p",
            asked="m",
            served="p:m",
            at=at,
            **values,
        )
        self.ledger.record([Recorded(row)])

    def find(self, **query):
        return list(self.tenants.find(TenantQuery(NOON, **query)))

    def names(self, **query):
        return [one.tenant for one in self.find(**query)]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    if request.param == "memory":
        keys, caps, ledger = MemoryKeys(), MemoryCaps(), MemoryLedger()
        yield World(keys, caps, ledger, MemoryTenants(keys, caps, ledger))
        return
    url = request.getfixturevalue("database").url
    with (
        closing(open_keys(url)) as keys,
        closing(open_caps(url)) as caps,
        closing(open_ledger(url)) as ledger,
        closing(open_tenants(url)) as tenants,
    ):
        tenants.find(TenantQuery(0))
        yield World(keys, caps, ledger, tenants)
    with psycopg.connect(url) as connection:
        connection.execute("ALTER TABLE trireme.ledger DISABLE TRIGGER append_only")
        connection.execute("TRUNCATE trireme.ledger, trireme.keys, trireme.caps")
        connection.execute("ALTER TABLE trireme.ledger ENABLE TRIGGER append_only")


def test_nobody_is_no_tenant(world):
    world.caps.put(Cap("", "", "day", tokens=1))
    world.caps.put(Cap(EACH, "", "day", tokens=1))
    assert world.find() == []


def test_a_tenant_is_known_by_a_key_a_budget_or_what_it_used_since(world):
    world.key("a", "keyed")
    world.key("b", "was keyed", is_revoked=True)
    world.caps.put(Cap("capped", "", "day", tokens=1))
    world.row("1", "used")
    world.row("2", "used before", at=NOON - 1)
    assert world.names() == ["capped", "keyed", "used", "was keyed"]


def test_keys_in_force_budgets_and_use_are_counted_by_tenant(world):
    for name, is_revoked in (("a", False), ("b", False), ("c", True)):
        world.key(name, "acme", is_revoked=is_revoked)
    world.key("d", "other")
    for cap in (
        Cap("acme", "", "day", tokens=1),
        Cap("acme", "ann", "day", nanos=1),
        Cap("other", "", "day", 1),
    ):
        world.caps.put(cap)
    world.row("1", "acme", request="r", input_tokens=5, output_tokens=2, nanos=10)
    world.row("2", "acme", request="r", input_tokens=1, nanos=3)
    world.row("3", "acme", at=NOON + 5, output_tokens=4)
    world.row("4", "acme", at=NOON - 1, input_tokens=1000, nanos=1000)
    world.row("5", "other", request="r", nanos=2**53 - 1)
    world.row("6", "other", request="r2", nanos=2**53 - 1)
    assert world.find() == [
        TenantInfo("acme", 2, 2, 2, 12, 13),
        TenantInfo("other", 1, 1, 2, 0, 2**54 - 2),
    ]


def test_pages_follow_each_other_by_name_while_tenants_come_and_go(world):
    for name in "edcba":
        world.key(name, name)
    world.row("1", "d2")
    assert world.names(limit=2) == ["a", "b"]
    world.key("0", "0 new")
    assert world.names(limit=2, after="b") == ["c", "d"]
    assert world.names(limit=2, after="d") == ["d2", "e"]
    assert world.names(limit=2, after="e") == []
    assert world.names(limit=9, after="cc") == ["d", "d2", "e"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("", ["100%", "Acme", "acme_eu", "bank", "Über"]),
        ("ACME", ["Acme", "acme_eu"]),
        ("me_", ["acme_eu"]),
        ("%", ["100%"]),
        ("\\", []),
        ("ber", ["Über"]),
        ("Ü", ["Über"]),
        ("\x00", []),
        ("\ud800", []),
        ("x" * 5000, []),
        ("'; DROP TABLE trireme.keys; --", []),
    ],
)
def test_a_part_of_a_name_is_found_as_it_stands_in_letters_of_either_case(world, part, expected):
    for n, name in enumerate(("bank", "Acme", "acme_eu", "Über", "100%")):
        world.key(str(n), name)
    assert world.names(part=part) == expected


@pytest.mark.parametrize("after", ["\x00", "\ud800", "x" * 5000])
def test_a_name_that_cannot_be_stored_has_nothing_after_it(world, after):
    world.key("a", "a")
    assert world.names(after=after) == []


def test_a_tenants_name_is_no_other_ones(world):
    world.row("1", "acme", nanos=1)
    world.row("2", "Acme", nanos=2)
    world.row("3", "acme ", nanos=4)
    assert [(one.tenant, one.nanos) for one in world.find()] == [("Acme", 2), ("acme", 1), ("acme ", 4)]
