"""Which budgets concern a tenant, and what of each is spent."""

import asyncio

import pytest

from trireme.budget.caps import EACH, Cap
from trireme.budget.port import Counter
from trireme.budget.standing import caps_for, place_of, read_counters

GATEWAY = Cap("", "", "day", tokens=1)
EACH_TENANT = Cap(EACH, "", "day", tokens=2)
EACH_TENANT_MONTH = Cap(EACH, "", "month", tokens=3)
ACME = Cap("acme", "", "day", tokens=4)
ACME_EACH = Cap("acme", EACH, "day", tokens=5)
ANN = Cap("acme", "ann", "day", tokens=6)
ANY_ANN = Cap(EACH, "ann", "minute", tokens=7)
ANY_USER = Cap(EACH, EACH, "day", tokens=8)
OTHER = Cap("other", "", "day", tokens=9)
ALL = (GATEWAY, EACH_TENANT, EACH_TENANT_MONTH, ACME, ACME_EACH, ANN, ANY_ANN, ANY_USER, OTHER)


def test_a_tenants_are_its_own_and_those_of_each_tenant_and_never_the_gateways():
    assert caps_for(ALL, "acme") == [
        ACME,
        Cap("acme", "", "month", tokens=3),
        ACME_EACH,
        Cap("acme", "ann", "minute", tokens=7),
        ANN,
    ]
    assert [cap.tokens for cap in caps_for(ALL, "other")] == [9, 3, 8, 7]
    assert [cap.tokens for cap in caps_for(ALL, "new")] == [2, 3, 8, 7]


def test_a_users_are_its_own_level_alone():
    assert caps_for(ALL, "acme", "ann") == [Cap("acme", "ann", "minute", tokens=7), ANN]
    assert caps_for(ALL, "acme", "bob") == [Cap("acme", "bob", "day", tokens=5)]
    assert caps_for((GATEWAY, ACME), "acme", "bob") == []


class Store:
    """Counters that tell by their numbers whose they are; notes what it is asked."""

    def __init__(self):
        self.asked = []

    async def read(self, tenant, user):
        self.asked.append((tenant, user))
        levels = [("gateway", 1), ("tenant", 2), ("user", 3)][: 1 + bool(tenant) + bool(user)]
        return [Counter(level, window, 0, n, 0, 0, 0) for level, n in levels for window in ("minute", "day")]


@pytest.mark.parametrize(("cap", "spent"), [(GATEWAY, 1), (ACME, 2), (ANN, 3)])
def test_a_budgets_counter_is_that_of_its_own_level_and_window(cap, spent):
    found = asyncio.run(read_counters(Store(), [cap]))
    assert found[place_of(cap)].level == cap.level
    assert found[place_of(cap)].window == "day"
    assert found[place_of(cap)].spent_tokens == spent


def test_a_rule_for_each_has_no_counter_and_a_scope_is_asked_once():
    store = Store()
    found = asyncio.run(read_counters(store, [*ALL, Cap("acme", "", "minute", tokens=1)]))
    assert store.asked == [("", ""), ("acme", ""), ("acme", "ann"), ("other", "")]
    assert place_of(EACH_TENANT) not in found
    assert place_of(ACME_EACH) not in found
