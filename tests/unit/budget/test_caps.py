"""Which caps are in force for whom."""

import itertools

import pytest

from trireme.budget.caps import EACH, LEVELS, WINDOWS, Cap, caps_of

GATEWAY = Cap("", "", "day", tokens=1)
EACH_TENANT = Cap(EACH, "", "day", tokens=2)
ACME = Cap("acme", "", "day", tokens=3)
EACH_USER = Cap("acme", EACH, "day", tokens=4)
ANN = Cap("acme", "ann", "day", tokens=5)
ANY_USER = Cap(EACH, EACH, "day", tokens=6)
ANY_ANN = Cap(EACH, "ann", "day", tokens=7)
ALL = (GATEWAY, EACH_TENANT, ACME, EACH_USER, ANN, ANY_USER, ANY_ANN)


def amounts(tenant, user, caps=ALL):
    return [cap.tokens for cap in caps_of(caps, tenant, user)]


@pytest.mark.parametrize(
    ("cap", "level"),
    [(GATEWAY, "gateway"), (EACH_TENANT, "tenant"), (ACME, "tenant"), (EACH_USER, "user"), (ANY_ANN, "user")],
)
def test_a_cap_is_the_gateways_a_tenants_or_a_users(cap, level):
    assert cap.level == level


@pytest.mark.parametrize(
    ("tenant", "user", "expected"),
    [
        ("acme", "ann", [1, 3, 5]),
        ("acme", "bob", [1, 3, 4]),
        ("acme", "", [1, 3]),
        ("other", "ann", [1, 2, 7]),
        ("other", "bob", [1, 2, 6]),
        ("other", "", [1, 2]),
        # Names are compared sign by sign.
        ("Acme", "Ann", [1, 2, 6]),
        ("acme ", "ann ", [1, 2, 6]),
    ],
)
def test_one_cap_of_each_level_is_in_force_the_one_that_names_most(tenant, user, expected):
    assert amounts(tenant, user) == expected


def test_the_order_in_which_caps_are_kept_changes_nothing():
    expected = caps_of(ALL, "acme", "ann")
    assert all(caps_of(caps, "acme", "ann") == expected for caps in itertools.permutations(ALL))


def test_a_tenants_own_rule_for_each_user_comes_before_a_users_of_each_tenant():
    assert amounts("acme", "ann", [EACH_USER, ANY_ANN]) == [4]


def test_names_stand_where_each_stood():
    (tenant, user) = caps_of([EACH_TENANT, ANY_USER], "acme", "ann")
    assert (tenant.tenant, tenant.user) == ("acme", "")
    assert (user.tenant, user.user) == ("acme", "ann")
    assert tenant.tokens == 2


def test_windows_are_apart_and_the_gateways_shortest_comes_first():
    caps = [
        Cap(tenant, user, window, tokens=1)
        for tenant, user in (("acme", "ann"), ("acme", ""), ("", ""))
        for window in reversed(WINDOWS)
    ]
    found = [(cap.level, cap.window) for cap in caps_of(caps, "acme", "ann")]
    assert found == [(level, window) for level in LEVELS for window in WINDOWS]


def test_a_named_cap_of_one_window_leaves_the_one_of_each_for_another():
    caps = [Cap(EACH, "", "day", tokens=1), Cap(EACH, "", "month", tokens=2), Cap("acme", "", "day", nanos=3)]
    day, month = caps_of(caps, "acme", "")
    assert (day.tokens, day.nanos) == (None, 3)
    assert (month.tokens, month.tenant) == (2, "acme")


def test_nobodys_cap_is_in_force_where_there_is_none():
    assert caps_of([], "acme", "ann") == ()
    assert caps_of([ACME, ANN], "other", "ann") == ()
