"""What a key is, and what a request was, over a gateway of fakes."""

import json
import threading
import time
from urllib.parse import quote

import pytest

from fakes.gateways import Echo, FakeGateway
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key
from trireme.budget.ledger import MOST_FOUND, REVERSED, LedgerRow, Recorded
from trireme.documents.load import SUFFIXES
from trireme.errors import UnavailableError
from trireme.gateway.wire.requests import is_complete

ADMIN, ACME, ANN, OTHER, CHATTER = "tr-admin", "tr-acme", "tr-ann", "tr-other", "tr-chatter"
KEYS = {
    ADMIN: Key("key_admin", "ops", "root", endpoints=("admin",)),
    ACME: Key("key_acme", "acme"),
    ANN: Key("key_ann", "acme", "ann", endpoints=("chat", "usage"), requests_per_minute=7, priority="batch"),
    OTHER: Key("key_other", "other"),
    CHATTER: Key("key_chatter", "acme", "", ("llm",), ("notes", "more"), ("chat",)),
}
AT = 1_796_000_000_000


def row(attempt, request, tenant="acme", user="ann", **more):
    values = {"at": AT, "outcome": "ok", "prices": "file:1", **more}
    return Recorded(
        LedgerRow(attempt, request, tenant, user, "k", "chat", "local", "m", "local:llm", **values)
    )


@pytest.fixture
def gateway():
    file = '[public]\ntenant = "acme"\nendpoints = ["search"]\n[limits]\nupload_bytes = 77\n'
    with FakeGateway(Echo(lambda call, model: []), keys=KEYS, file=file) as running:
        yield running


def ask(gateway, path, secret=ADMIN, status=200):
    found, headers, raw = gateway.ask("GET", path, secret=secret)
    assert found == status, raw
    return json.loads(raw), headers


def test_a_key_learns_what_it_is_and_may_use(gateway):
    body, headers = ask(gateway, "/v1/me", ANN)
    assert body | {"limits": {}, "suffixes": []} == {
        "object": "key",
        "id": "key_ann",
        "tenant": "acme",
        "user": "ann",
        "models": [],
        "collections": [],
        "endpoints": ["chat", "usage"],
        "is_admin": False,
        "requests_per_minute": 7,
        "priority": "batch",
        "default_collection": "default",
        "version": "",
        "release": "",
        "limits": {},
        "suffixes": [],
    }
    assert body["limits"]["upload_bytes"] == 77
    assert body["suffixes"] == list(SUFFIXES)
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("secret", KEYS)
def test_every_key_may_ask_what_it_is_whatever_it_is_limited_to(gateway, secret):
    body, _ = ask(gateway, "/v1/me", secret)
    assert body["id"] == KEYS[secret].id
    assert body["is_admin"] == (secret == ADMIN)
    assert secret not in json.dumps(body)


def test_endpoints_are_all_named_where_a_key_names_none(gateway):
    assert ask(gateway, "/v1/me", ACME)[0]["endpoints"] == [name for name in ENDPOINTS if name != "admin"]
    assert ask(gateway, "/v1/me", ADMIN)[0]["endpoints"] == ["usage", "admin"]


def test_the_default_collection_is_one_that_the_key_may_use(gateway):
    assert ask(gateway, "/v1/me", CHATTER)[0]["default_collection"] == "notes"


@pytest.mark.parametrize("secret", ["", "tr-none"])
def test_who_has_no_key_is_told_nothing_also_where_some_paths_are_public(gateway, secret):
    for path in ("/v1/me", "/v1/requests/r"):
        assert set(ask(gateway, path, secret, 401)[0]) == {"error"}


def test_a_request_is_its_attempts_and_their_sum(gateway):
    gateway.ledger.record(
        [
            row(
                "a1", "r", at=AT, outcome="escalated", step="small", input_tokens=9, cached_tokens=4, nanos=3
            ),
            row(
                "a2",
                "r",
                at=AT + 5,
                step="big",
                output_tokens=2,
                nanos=4,
                first_ms=7,
                total_ms=9,
                release="v1",
            ),
            row("a3", "r2", nanos=100),
        ]
    )
    body, headers = ask(gateway, "/v1/requests/r", ANN)
    assert {
        name: body[name] for name in ("object", "id", "tenant", "user", "model", "is_priced", "has_more")
    } == {
        "object": "request",
        "id": "r",
        "tenant": "acme",
        "user": "ann",
        "model": "m",
        "is_priced": True,
        "has_more": False,
    }
    assert body["at"] == "2026-11-30T00:53:20Z"
    assert body["total"] == {
        "attempts": 2,
        "input_tokens": 9,
        "output_tokens": 2,
        "dollars": "0.000000007",
        "saved_dollars": "0.00",
    }
    first, second = body["attempts"]
    assert (first["step"], first["outcome"], first["cached_tokens"], first["first_ms"]) == (
        "small",
        "escalated",
        4,
        None,
    )
    assert (second["dollars"], second["first_ms"], second["total_ms"], second["release"]) == (
        "0.000000004",
        7,
        9,
        "v1",
    )
    assert headers["cache-control"] == "no-store"


def test_a_request_without_a_price_says_so_and_costs_nothing(gateway):
    gateway.ledger.record([row("a1", "r", prices="", input_tokens=5)])
    body, _ = ask(gateway, "/v1/requests/r", ANN)
    assert (body["is_priced"], body["total"]["dollars"]) == (False, "0.00")


def test_an_expiry_that_was_taken_back_is_no_attempt(gateway):
    gateway.ledger.record(
        [
            row("a1.expired", "r", outcome="expired", input_tokens=9, nanos=9),
            row(f"a1.expired{REVERSED}", "r", outcome="expired", input_tokens=-9, nanos=-9),
            row("a1", "r", at=AT + 1, input_tokens=7, nanos=7),
        ]
    )
    body, _ = ask(gateway, "/v1/requests/r", ANN)
    assert [one["dollars"] for one in body["attempts"]] == ["0.000000007"]
    assert (body["total"]["dollars"], body["total"]["input_tokens"]) == ("0.000000007", 7)


@pytest.mark.parametrize(
    ("secret", "query", "status"),
    [
        (ANN, "", 200),
        (ACME, "", 200),
        (ACME, "?tenant=acme", 200),
        (ADMIN, "", 200),
        (ADMIN, "?tenant=acme", 200),
        (ADMIN, "?tenant=other", 404),
        (OTHER, "", 404),
        (OTHER, "?tenant=acme", 403),
        (CHATTER, "", 403),
        (ANN, "?user=bob", 400),
    ],
)
def test_a_request_is_told_to_its_own_tenant_and_to_admins(gateway, secret, query, status):
    gateway.ledger.record([row("a1", "r")])
    ask(gateway, f"/v1/requests/r{query}", secret, status)


def test_a_users_key_reads_nothing_of_another_user_and_learns_not_even_that_it_was(gateway):
    gateway.ledger.record([row("a1", "bobs", user="bob")])
    there, _ = ask(gateway, "/v1/requests/bobs", ANN, 404)
    missing, _ = ask(gateway, "/v1/requests/nope", ANN, 404)
    assert there["error"]["message"].replace("bobs", "nope") == missing["error"]["message"]
    assert "second" in missing["error"]["message"]


def test_two_tenants_may_name_their_requests_alike(gateway):
    gateway.ledger.record([row("a1", "r", nanos=1), row("a2", "r", tenant="other", user="", nanos=2)])
    assert ask(gateway, "/v1/requests/r", ACME)[0]["total"]["dollars"] == "0.000000001"
    assert ask(gateway, "/v1/requests/r", OTHER)[0]["total"]["dollars"] == "0.000000002"
    assert ask(gateway, "/v1/requests/r", ADMIN, 400)[0]["error"]["param"] == "tenant"
    assert ask(gateway, "/v1/requests/r?tenant=other", ADMIN)[0]["tenant"] == "other"


def test_a_client_that_names_every_request_alike_gets_the_latest(gateway):
    gateway.ledger.record([row(f"a{n}", "r", at=AT + n, total_ms=n) for n in range(MOST_FOUND + 5)])
    body, _ = ask(gateway, "/v1/requests/r", ANN)
    assert body["has_more"]
    assert (len(body["attempts"]), body["attempts"][-1]["total_ms"]) == (MOST_FOUND, MOST_FOUND + 4)


@pytest.mark.parametrize("path", ["/v1/me?tenant=acme", "/v1/requests/r?since=2026-11-01"])
def test_an_unknown_parameter_is_refused_and_named(gateway, path):
    body, _ = ask(gateway, path, status=400)
    assert body["error"]["param"] in ("tenant", "since")


def test_a_database_that_is_away_is_told_with_503(gateway):
    def away(*_):
        raise UnavailableError("the database does not answer")

    gateway.ledger.find = away
    ask(gateway, "/v1/requests/r", status=503)
    ask(gateway, "/v1/me")


def test_who_waits_for_a_request_gets_it_once_its_row_is_there(gateway):
    record = threading.Timer(0.4, lambda: gateway.ledger.record([row("a1", "late")]))
    record.start()
    body, _ = ask(gateway, "/v1/requests/late?wait=10", ANN)
    record.join()
    assert body["id"] == "late"


def test_who_waits_for_a_request_that_never_was_is_told_so_in_the_end(gateway):
    ask(gateway, "/v1/requests/never?wait=1", ANN, 404)


@pytest.mark.parametrize("wait", ["11", "-1", "1.5", "x", "\u0663", "9999999999"])
def test_a_wait_that_is_none_is_named(gateway, wait):
    body, _ = ask(gateway, f"/v1/requests/r?wait={quote(wait)}", ANN, 400)
    assert body["error"]["param"] == "wait"


def test_who_waits_gets_the_attempt_that_answered_and_not_only_the_one_before(gateway):
    now = int(time.time() * 1000)
    gateway.ledger.record([row("a1", "r", at=now, outcome="unavailable")])
    body, _ = ask(gateway, "/v1/requests/r", ANN)
    assert (body["is_complete"], len(body["attempts"])) == (False, 1)
    find = gateway.ledger.find

    def find_and_record(*asked):
        found = find(*asked)
        gateway.ledger.record([row("a2", "r", at=now + 1, nanos=7)])
        return found

    gateway.ledger.find = find_and_record
    body, _ = ask(gateway, "/v1/requests/r?wait=10", ANN)
    assert (body["is_complete"], body["total"]["dollars"]) == (True, "0.000000007")


@pytest.mark.parametrize(
    ("outcomes", "seconds", "expected"),
    [
        ([], 0, False),
        (["ok"], 0, True),
        (["stopped"], 0, True),
        (["escalated", "ok"], 0, True),
        (["unavailable"], 0, False),
        (["escalated"], 4, False),
        (["unavailable", "timeout"], 6, True),
        (["client_gone"], 6, True),
    ],
)
def test_a_request_is_complete_with_an_answer_or_when_none_has_come_for_long(outcomes, seconds, expected):
    rows = [row(f"a{n}", "r", outcome=one).row for n, one in enumerate(outcomes)]
    assert is_complete(rows, AT / 1000 + seconds) is expected
