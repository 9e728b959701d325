import pytest

from trireme.access.endpoints import ANYBODYS, ENDPOINTS, NAMED, can_use


def test_a_key_without_endpoints_may_use_all_but_those_that_must_be_named():
    assert {name for name in ENDPOINTS if not can_use((), name)} == set(NAMED) == {"admin"}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_key_of_one_endpoint_may_use_no_other_and_an_admins_usage_as_well(name):
    expected = {"admin", "usage"} if name == "admin" else {name}
    assert {other for other in ENDPOINTS if can_use((name,), other)} == expected


def test_an_admin_who_may_chat_names_both():
    assert {name for name in ENDPOINTS if can_use(("chat", "admin"), name)} == {"chat", "admin", "usage"}


@pytest.mark.parametrize("limited", [(), ("chat",), ("admin",)])
def test_what_anybody_may_ask_no_key_is_limited_to_nor_kept_from(limited):
    for name in ANYBODYS:
        assert can_use(limited, name)
        assert name not in ENDPOINTS
