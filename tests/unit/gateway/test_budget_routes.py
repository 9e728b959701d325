"""Budgets and usage over a gateway of fakes: who may read and change what, and what is refused by which name."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fakes.gateways import Echo, FakeGateway
from trireme.access.keys import Key
from trireme.budget.caps import EACH, MOST, Cap
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.budget.port import Counter
from trireme.errors import UnavailableError

ADMIN, ACME, ANN, OTHER, CHATTER = "tr-admin", "tr-acme", "tr-ann", "tr-other", "tr-chatter"
KEYS = {
    ADMIN: Key("key_admin", "ops", "root", endpoints=("admin",)),
    ACME: Key("key_acme", "acme"),
    ANN: Key("key_ann", "acme", "ann", endpoints=("chat", "usage")),
    OTHER: Key("key_other", "other"),
    CHATTER: Key("key_chatter", "acme", endpoints=("chat",)),
}
CAPS = (
    Cap("", "", "month", nanos=5_000_000_000),
    Cap(EACH, "", "day", tokens=100),
    Cap("acme", "", "day", tokens=50),
    Cap("acme", EACH, "day", tokens=20),
    Cap("acme", "ann", "day", tokens=30),
    Cap("other", "bob", "day", tokens=40),
)


class Budgets:
    """A budget store in which everything is spent once; it can be away."""

    is_away = False

    async def read(self, tenant, user):
        if self.is_away:
            raise UnavailableError("away")
        levels = ("gateway", "tenant", "user")[: 1 + bool(tenant) + bool(user)]
        return [Counter(level, window, 0, 7, 8, 9, 10) for level in levels for window in ("day", "month")]


@pytest.fixture
def budgets():
    return Budgets()


@pytest.fixture
def gateway(budgets):
    with FakeGateway(Echo(lambda call, model: []), keys=KEYS, budgets=budgets) as running:
        for cap in CAPS:
            running.caps.put(cap)
        now = int(time.time() * 1000)
        for n, (tenant, user) in enumerate((("acme", "ann"), ("acme", "bob"), ("other", "ann"))):
            row = LedgerRow(
                f"a{n}",
                f"r{n}",
                tenant,
                user,
                "k",
                "chat",
                "p",
                "m",
                f"p:{n}",
                now,
                nanos=10**n,
                input_tokens=n,
            )
            running.ledger.record([Recorded(row)])
        yield running


def ask(gateway, method, path, body=None, secret=ADMIN):
    status, _, raw = gateway.ask(method, path, body, secret=secret)
    return status, json.loads(raw)


def budgets_of(gateway, secret, query=""):
    """Tenant, user and tokens of each budget that is listed."""
    status, body = ask(gateway, "GET", f"/v1/budgets{query}", secret=secret)
    assert status == 200, body
    return [(one["tenant"], one["user"], one["tokens"]) for one in body["data"]]


def test_an_admin_reads_all_budgets_as_they_were_set(gateway):
    assert budgets_of(gateway, ADMIN) == [
        (None, None, None),
        ("*", None, 100),
        ("acme", None, 50),
        ("acme", "*", 20),
        ("acme", "ann", 30),
        ("other", "bob", 40),
    ]


def test_an_admin_reads_those_in_force_for_any_tenant_and_user(gateway):
    assert budgets_of(gateway, ADMIN, "?tenant=other") == [("other", None, 100), ("other", "bob", 40)]
    assert budgets_of(gateway, ADMIN, "?tenant=acme&user=eve") == [("acme", "eve", 20)]


def test_a_key_reads_its_own_tenants_budgets_and_never_the_gateways(gateway):
    expected = [("acme", None, 50), ("acme", "*", 20), ("acme", "ann", 30)]
    assert budgets_of(gateway, ACME) == expected
    assert budgets_of(gateway, ACME, "?tenant=acme") == expected
    assert budgets_of(gateway, ACME, "?user=ann") == [("acme", "ann", 30)]
    assert budgets_of(gateway, OTHER) == [("other", None, 100), ("other", "bob", 40)]


def test_a_users_key_reads_its_own_budgets_alone(gateway):
    assert budgets_of(gateway, ANN) == [("acme", "ann", 30)]
    assert budgets_of(gateway, ANN, "?user=ann&tenant=acme") == [("acme", "ann", 30)]


@pytest.mark.parametrize("path", ["/v1/budgets", "/v1/usage"])
@pytest.mark.parametrize(
    ("secret", "query"),
    [
        (ACME, "?tenant=other"),
        (ACME, "?tenant=Acme"),
        (ANN, "?user=bob"),
        (ANN, "?tenant=other"),
        (CHATTER, ""),
    ],
)
def test_what_is_not_its_own_is_refused_to_a_key(gateway, path, secret, query):
    status, body = ask(gateway, "GET", path + query, secret=secret)
    assert status == 403
    assert body["error"]["message"]
    assert "other" not in body["error"]["message"]


@pytest.mark.parametrize("secret", [ACME, ANN, OTHER, CHATTER])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/budgets", {"tenant": "acme", "window": "day", "tokens": MOST}),
        ("DELETE", "/v1/budgets?tenant=acme&window=day", None),
    ],
)
def test_no_key_changes_a_budget_but_one_that_names_admin(gateway, secret, method, path, body):
    before = gateway.caps.find()
    status, answer = ask(gateway, method, path, body, secret=secret)
    assert status == 403
    assert "admin" in answer["error"]["message"]
    assert gateway.caps.find() == before


def test_what_is_spent_and_held_stands_beside_the_budgets(gateway, budgets):
    _, body = ask(gateway, "GET", "/v1/budgets?tenant=acme")
    day, each, ann = body["data"]
    assert day["spent"] == ann["spent"] == {"tokens": 7, "dollars": "0.000000009"}
    assert day["held"] == {"tokens": 8, "dollars": "0.00000001"}
    assert (each["spent"], each["held"]) == (None, None)
    budgets.is_away = True
    status, body = ask(gateway, "GET", "/v1/budgets?tenant=acme")
    assert status == 200
    assert [one["spent"] for one in body["data"]] == [None, None, None]


def test_a_budget_that_was_put_is_kept_and_told(gateway):
    asked = {"tenant": "new", "user": "zoë", "window": "minute", "tokens": MOST, "dollars": "0.000000001"}
    status, body = ask(gateway, "PUT", "/v1/budgets", asked)
    assert (status, body) == (200, {"object": "budget", "level": "user", **asked})
    assert gateway.caps.find("new") == [Cap("new", "zoë", "minute", MOST, 1)]


def test_a_budget_takes_the_place_of_the_one_before_in_both_units(gateway):
    ask(gateway, "PUT", "/v1/budgets", {"tenant": "acme", "window": "day", "dollars": "1"})
    assert Cap("acme", "", "day", nanos=1_000_000_000) in gateway.caps.find("acme")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "window"),
        ({"window": "day"}, "tokens"),
        ({"window": "day", "tokens": MOST + 1}, "tokens"),
        ({"window": "day", "tokens": 2**80}, "tokens"),
        ({"window": "day", "dollars": "9007199.254740992"}, "dollars"),
        ({"window": "day", "dollars": 0.1}, "dollars"),
        ({"window": "day", "tokens": 1, "users": "ann"}, "users"),
        ({"window": "day", "tokens": 1, "user": "ann"}, "tenant"),
        ({"window": "day", "tokens": 1, "tenant": "a\x00b"}, "tenant"),
        ({"window": "day", "tokens": 1, "tenant": "t" * 513}, "tenant"),
        ({"window": "day", "tokens": 1, "tenant": "t", "user": "a\tb"}, "user"),
        ({"window": "day", "tokens": 1, "tenant": ""}, "tenant"),
    ],
)
def test_a_bad_body_is_refused_by_the_name_of_the_field_and_changes_nothing(gateway, body, param):
    before = gateway.caps.find()
    status, answer = ask(gateway, "PUT", "/v1/budgets", body)
    assert status == 400
    assert answer["error"]["param"] == param
    assert gateway.caps.find() == before


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b'{"window": "day"', b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused(gateway, raw):
    assert ask(gateway, "PUT", "/v1/budgets", raw)[0] in (400, 413)


def test_a_budget_is_removed_and_a_second_time_not_found(gateway):
    path = "/v1/budgets?tenant=acme&user=ann&window=day"
    status, body = ask(gateway, "DELETE", path)
    assert status == 200
    assert body == {
        "object": "budget.deleted",
        "tenant": "acme",
        "user": "ann",
        "window": "day",
        "deleted": True,
    }
    assert gateway.caps.find("acme") == [CAPS[2], CAPS[3]]
    assert ask(gateway, "DELETE", path)[0] == 404
    assert ask(gateway, "DELETE", "/v1/budgets?window=month")[0] == 200
    assert gateway.caps.find()[0] == CAPS[1]


@pytest.mark.parametrize(
    ("method", "path", "param"),
    [
        ("DELETE", "/v1/budgets?tenant=acme", "window"),
        ("DELETE", "/v1/budgets?tenant=acme&window=year", "window"),
        ("DELETE", "/v1/budgets?user=ann&window=day", "tenant"),
        ("DELETE", "/v1/budgets?tenant=&window=day", "tenant"),
        ("DELETE", "/v1/budgets?tennant=acme&window=day", "tennant"),
        ("PUT", "/v1/budgets?tenant=acme", "tenant"),
        ("GET", "/v1/budgets?tenant=", "tenant"),
        ("GET", "/v1/budgets?tenant=%00", "tenant"),
        ("GET", "/v1/budgets?user=ann", "tenant"),
        ("GET", "/v1/budgets?window=day", "window"),
        ("GET", "/v1/usage?by=key", "by"),
        ("GET", "/v1/usage?by=", "by"),
        ("GET", "/v1/usage?since=now", "since"),
        ("GET", "/v1/usage?until=2001-01-01", "since"),
        ("GET", "/v1/usage?by=minute&since=2020-01-01", "since"),
        ("GET", "/v1/usage?tenant=acme&user=a%0Ab", "user"),
        ("GET", "/v1/usage?group_by=day", "group_by"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_name_and_changes_nothing(gateway, method, path, param):
    before = gateway.caps.find()
    body = {"window": "day", "tokens": 1} if method == "PUT" else None
    status, answer = ask(gateway, method, path, body)
    assert status == 400
    assert answer["error"]["param"] == param
    assert gateway.caps.find() == before


@pytest.mark.parametrize(
    ("secret", "query", "total"),
    [
        (ADMIN, "", "0.000000111"),
        (ADMIN, "?tenant=acme", "0.000000011"),
        (ADMIN, "?tenant=other&user=ann&by=user", "0.0000001"),
        (ADMIN, "?tenant=nobody", "0.00"),
        (ACME, "", "0.000000011"),
        (ACME, "?user=bob", "0.00000001"),
        (ANN, "", "0.000000001"),
        (OTHER, "?by=tenant", "0.0000001"),
    ],
)
def test_usage_is_that_of_the_scope_that_a_key_may_read(gateway, secret, query, total):
    status, body = ask(gateway, "GET", f"/v1/usage{query}", secret=secret)
    assert status == 200
    assert body["total"]["dollars"] == total


def test_usage_is_grouped_as_asked(gateway):
    _, body = ask(gateway, "GET", "/v1/usage?by=tenant")
    assert [(one["name"], one["requests"], one["input_tokens"]) for one in body["data"]] == [
        ("other", 1, 2),
        ("acme", 2, 1),
    ]
    assert body["total"]["requests"] == 3


def test_a_store_that_is_away_is_told_with_503(gateway):
    def away(*_):
        raise UnavailableError("the database does not answer")

    gateway.caps.find = gateway.caps.put = gateway.ledger.usage = away
    for method, path, body in (
        ("GET", "/v1/budgets", None),
        ("PUT", "/v1/budgets", {"window": "day", "tokens": 1}),
        ("DELETE", "/v1/budgets?window=month", None),
        ("GET", "/v1/usage", None),
    ):
        assert ask(gateway, method, path, body)[0] == 503, path


def test_other_methods_are_not_taken(gateway):
    assert ask(gateway, "POST", "/v1/budgets", {})[0] == 405
    assert ask(gateway, "PUT", "/v1/usage", {})[0] == 405


def test_questions_that_take_long_keep_nobody_else_waiting(gateway):
    release = threading.Event()
    asked = threading.Semaphore(0)

    def slow(query):
        asked.release()
        release.wait(60)
        return []

    gateway.ledger.usage = slow
    # More than the event loop has threads.
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(ask, gateway, "GET", "/v1/usage") for _ in range(40)]
        try:
            assert asked.acquire(timeout=30)
            assert ask(gateway, "PUT", "/v1/budgets", {"window": "day", "tokens": 1})[0] == 200
            assert ask(gateway, "GET", "/v1/budgets")[0] == 200
            assert not any(one.done() for one in waiting)
        finally:
            release.set()
        assert {one.result()[0] for one in waiting} == {200}


def test_a_budget_says_when_it_will_be_used_up(gateway, budgets):
    _, body = ask(gateway, "GET", "/v1/budgets?tenant=acme&user=ann")
    # Counters of the fake began in 1970: their window is over, and all that was spent stays so.
    assert body["data"][0]["forecast"] == {
        "unit": "tokens",
        "used": 0.233333,
        "at_end": 7,
        "exhausted_at": None,
        "ends_at": "1970-01-02T00:00:00Z",
    }
    budgets.is_away = True
    _, body = ask(gateway, "GET", "/v1/budgets?tenant=acme&user=ann")
    assert body["data"][0]["forecast"] is None


def test_of_a_tenant_whose_home_is_elsewhere_the_home_is_named(budgets):
    file = '[local]\nregion = "us"\nother_regions = ["eu"]\n[tenants.acme]\nhome = "eu"\n'
    with FakeGateway(Echo(lambda call, model: []), keys=KEYS, budgets=budgets, file=file) as running:
        asked = [
            ask(running, "GET", "/v1/budgets?tenant=acme"),
            ask(running, "GET", "/v1/usage", secret=ACME),
            ask(running, "PUT", "/v1/budgets", {"tenant": "acme", "window": "day", "tokens": 1}),
            ask(running, "DELETE", "/v1/budgets?tenant=acme&window=day"),
        ]
        assert running.caps.find() == []
        assert ask(running, "GET", "/v1/usage", secret=OTHER)[0] == 200
    for status, body in asked:
        assert (status, "kept in region eu" in body["error"]["message"]) == (400, True)
