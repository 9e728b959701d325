"""Cost and releases over a gateway of fakes: who may read what, and figures that a person can reckon."""

import json
from datetime import UTC, datetime

import pytest

from fakes.gateways import Echo, FakeGateway
from trireme.access.keys import Key
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.cost.port import COST_BY, Beat
from trireme.cost.releases import Deploy

ADMIN, ACME, ANN, OTHER, CHATTER = "tr-admin", "tr-acme", "tr-ann", "tr-other", "tr-chatter"
KEYS = {
    ADMIN: Key("key_admin", "ops", "root", endpoints=("admin",)),
    ACME: Key("key_acme", "acme"),
    ANN: Key("key_ann", "acme", "ann", endpoints=("chat", "usage")),
    OTHER: Key("key_other", "other"),
    CHATTER: Key("key_chatter", "acme", endpoints=("chat",)),
}
FILE = """
[providers.openai]
kind = "openai"

[providers.rented]
kind = "openai"
url = "http://127.0.0.1:1/v1"

[prices."rented:big"]
dollars_per_hour = 2
tokens_per_second = 100

[[machines.gpu]]
dollars_per_hour = 1.0
since = 2026-11-01

[[machines.gpu]]
dollars_per_hour = 2.5
since = 2026-11-10
"""
NOON = round(datetime(2026, 11, 9, 12, tzinfo=UTC).timestamp() * 1000)
HOUR = 3_600_000
MONTH = "since=2026-11-01&until=2026-12-01"


def row(attempt, tenant, user, served, **more):
    provider = served.partition(":")[0]
    return Recorded(
        LedgerRow(
            attempt, attempt, tenant, user, "k", "chat", provider, "m", served, NOON, outcome="ok", **more
        )
    )


@pytest.fixture
def gateway():
    with FakeGateway(Echo(lambda call, model: []), keys=KEYS, file=FILE) as running:
        running.ledger.record(
            [
                row("a1", "acme", "ann", "local:llm", nanos=500_000_000, release="v1", output_tokens=250_000),
                row("a2", "acme", "bob", "openai:gpt", nanos=7, release="v2", total_ms=40, first_ms=9),
                row("a3", "other", "ann", "rented:big", nanos=250_000_000, release="v2"),
                row("a4", "other", "ann", "local:llm", tier="exact", saved_nanos=30),
            ]
        )
        # One machine from 11 to 13 before its price changes, and an hour on the day of the change.
        for minute in range(121):
            running.book.beat(Beat("m", "gpu", "v1", NOON - HOUR + minute * 60_000))
        for minute in range(61):
            running.book.beat(Beat("m", "gpu", "v2", NOON + 24 * HOUR + minute * 60_000))
        yield running


def ask(gateway, path, secret=ADMIN):
    status, _, raw = gateway.ask("GET", path, secret=secret)
    return status, json.loads(raw)


def cost(gateway, query="", secret=ADMIN):
    status, body = ask(gateway, f"/v1/cost?{MONTH}{query}", secret)
    assert status == 200, body
    return body


def test_an_admin_sees_the_whole_bill_and_what_of_it_was_idle(gateway):
    body = cost(gateway, "&by=tenant")
    # 2 hours at 1.00, an hour at 2.50, and what the provider charged.
    assert body["bill_dollars"] == "4.500000007"
    assert body["unexplained_dollars"] == "0.00"
    assert body["machines"] == [{"kind": "gpu", "hours": 3.0, "dollars": "4.50", "is_priced": True}]
    assert [(one["name"], one["usage_dollars"], one["idle_dollars"]) for one in body["data"]] == [
        ("acme", "0.500000007", None),
        ("other", "0.25", None),
    ]
    total = body["total"]
    assert (total["own_dollars"], total["provider_dollars"]) == ("0.75", "0.000000007")
    assert (total["idle_dollars"], total["allocation_dollars"]) == ("3.75", "4.500000007")
    assert total["saved_dollars"] == "0.00000003"
    # 4 requests succeeded, the cached one among them.
    assert total["dollars_per_success"] == {"usage": "0.187500002", "allocation": "1.125000002"}
    assert total["dollars_per_million_tokens"] == "3.000000028"


def test_a_release_pays_for_the_hours_of_its_machines(gateway):
    lines = {one["name"]: one for one in cost(gateway, "&by=release")["data"]}
    assert (lines["v1"]["idle_dollars"], lines["v1"]["machine_seconds"]) == ("1.50", 7200)
    assert (lines["v2"]["idle_dollars"], lines["v2"]["machine_seconds"]) == ("2.25", 3600)
    assert lines["v2"]["answer_ms"] == {"p50": 0, "p95": 40}
    assert lines["v2"]["first_content_ms"] == {"p50": 9, "p95": 9}


def test_a_key_sees_its_own_tenant_and_nothing_of_machines(gateway):
    body = cost(gateway, "&by=model", ACME)
    assert (body["tenant"], body["machines"]) == ("acme", None)
    assert [one["name"] for one in body["data"]] == ["local:llm", "openai:gpt"]
    assert body["total"]["idle_dollars"] is None
    assert body["bill_dollars"] == "0.500000007"
    assert cost(gateway, "&tenant=acme") == cost(gateway, "", ACME)
    assert cost(gateway, "", OTHER)["total"]["requests"] == 2


def test_a_users_key_sees_its_user_alone(gateway):
    body = cost(gateway, "", ANN)
    assert (body["user"], body["total"]["requests"]) == ("ann", 1)


@pytest.mark.parametrize(
    ("secret", "query"), [(ACME, "&tenant=other"), (ANN, "&user=bob"), (ANN, "&tenant=other"), (CHATTER, "")]
)
def test_what_is_not_its_own_is_refused_to_a_key(gateway, secret, query):
    status, body = ask(gateway, f"/v1/cost?{MONTH}{query}", secret)
    assert status == 403
    assert "other" not in body["error"]["message"]


@pytest.mark.parametrize("by", COST_BY)
def test_every_group_has_a_bill_without_a_rest(gateway, by):
    body = cost(gateway, f"&by={by}")
    assert body["unexplained_dollars"] == "0.00"
    assert body["bill_dollars"] == "4.500000007"


@pytest.mark.parametrize(
    ("query", "param"),
    [("by=key", "by"), ("since=soon", "since"), ("group=day", "group"), ("user=ann", "user")],
)
def test_what_cannot_be_asked_is_refused_by_name(gateway, query, param):
    status, body = ask(gateway, f"/v1/cost?{query}")
    assert status == 400
    assert body["error"]["param"] == ("tenant" if param == "user" else param)


MODELS = {"llm": {"digest": "abc", "precision": "int8", "figures": {"cosine": 0.99}, "quality": {}}}


def test_releases_are_side_by_side_with_notes_quality_and_cost(gateway):
    gateway.releases.deploy(Deploy(0, "v1", "0.1", "f" * 40, MODELS))
    gateway.releases.note("", "the first one")
    gateway.releases.deploy(Deploy(0, "v2", "0.2", "e" * 40, {}))
    status, body = ask(gateway, f"/v1/releases?{MONTH}")
    assert status == 200
    assert [one["name"] for one in body["data"]] == ["v2", "v1", ""]
    second, first, unknown = body["data"]
    assert first["models"] == {"llm": "abc"}
    assert first["quality"] == {"llm: cosine": 0.99}
    assert [note["text"] for note in first["notes"]] == ["the first one"]
    assert first["cost"]["usage_dollars"] == "0.50"
    assert (second["cost"]["requests"], second["cost"]["failed"]) == (2, 0)
    # Rows from before releases were noted.
    assert (unknown["version"], unknown["deployed"], unknown["cost"]["saved_dollars"]) == (
        "",
        [],
        "0.00000003",
    )


@pytest.mark.parametrize("secret", [ACME, ANN, OTHER, CHATTER])
def test_releases_are_shown_to_admins_alone(gateway, secret):
    status, body = ask(gateway, "/v1/releases", secret)
    assert status == 403
    assert "admin" in body["error"]["message"]


def test_a_release_that_answered_nothing_has_no_cost(gateway):
    gateway.releases.deploy(Deploy(0, "v9", "0.9", "", {}))
    body = ask(gateway, f"/v1/releases?{MONTH}")[1]
    assert body["data"][0]["name"] == "v9"
    assert body["data"][0]["cost"] is None
