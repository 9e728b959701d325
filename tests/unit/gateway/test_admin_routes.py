"""Keys and tenants over a gateway of fakes: who may make and revoke them, and where a secret is seen."""

import http.client
import json
import threading
import time

import pytest

from fakes.gateways import Echo, FakeGateway
from fakes.memory_keys import MemoryKeys
from fakes.memory_tenants import MemoryTenants
from trireme.access.endpoints import ENDPOINTS
from trireme.access.keys import Key, KeyQuery, digest_of
from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow, Recorded
from trireme.errors import UnavailableError

ADMIN, SECOND, ACME, ANN = "tr-admin", "tr-second", "tr-acme", "tr-ann"
KEYS = {
    ADMIN: Key("key_admin", "ops", "root", endpoints=("admin",)),
    SECOND: Key("key_second", "ops", endpoints=("admin", "chat")),
    ACME: Key("key_acme", "acme"),
    ANN: Key("key_ann", "acme", "ann", endpoints=("chat", "usage")),
}
FILE = '[local]\nregion = "eu"\nother_regions = ["us"]\n[tenants.far]\nhome = "us"\n'


@pytest.fixture
def store():
    made = MemoryKeys()
    for secret, key in KEYS.items():
        made.create(key, digest_of(secret))
    return made


@pytest.fixture
def gateway(store):
    running = FakeGateway(Echo(lambda call, model: []), keys=KEYS)
    running.keys = store
    running.tenants = MemoryTenants(store, running.caps, running.ledger)
    with running:
        yield running


def ask(gateway, method, path, body=None, *, secret=ADMIN, status=200):
    found, headers, raw = gateway.ask(method, path, body, secret=secret)
    assert found == status, raw
    return json.loads(raw), headers


def test_a_made_key_is_in_force_at_once_and_its_secret_is_answered_this_once(gateway, store):
    asked = {
        "tenant": "new",
        "user": "zoë",
        "models": ["llm", "llm"],
        "collections": ["a b"],
        "endpoints": ["chat", "usage"],
        "requests_per_minute": 60,
        "priority": "batch",
    }
    body, headers = ask(gateway, "POST", "/v1/keys", asked, status=201)
    secret = body.pop("secret")
    assert headers["cache-control"] == "no-store"
    assert secret.startswith("tr-")
    me, _ = ask(gateway, "GET", "/v1/me", secret=secret)
    assert {name: me[name] for name in asked} == asked | {"models": ["llm"]}
    (kept,) = store.find(KeyQuery("new"))
    assert (kept.id, kept.endpoints) == (body["id"], ("chat", "usage"))
    listed, _ = ask(gateway, "GET", "/v1/keys?tenant=new")
    assert listed["data"][0] | {"created_at": ""} == body | {"created_at": ""}
    told = json.dumps(listed) + gateway.log.getvalue()
    assert secret not in told
    assert digest_of(secret) not in told


def test_a_key_that_is_made_for_a_client_that_left_stands_in_the_log(gateway, store, monkeypatch):
    begun, opened, create = threading.Event(), threading.Event(), store.create

    def slow(key, digest):
        begun.set()
        opened.wait(30)
        create(key, digest)

    monkeypatch.setattr(store, "create", slow)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    headers = {"authorization": f"Bearer {ADMIN}"}
    connection.request("POST", "/v1/keys", json.dumps({"tenant": "new"}), headers)
    assert begun.wait(30)
    connection.close()
    while "client_gone" not in gateway.log.getvalue():
        time.sleep(0.01)
    opened.set()
    while not (made := store.find(KeyQuery("new"))):
        time.sleep(0.01)
    deadline = time.monotonic() + 30
    while f"key key_admin made key {made[0].id} of tenant new" not in gateway.log.getvalue():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_made_and_who_revoked_a_key_stands_in_the_log(gateway):
    made, _ = ask(gateway, "POST", "/v1/keys", {"tenant": "new"}, status=201)
    ask(gateway, "DELETE", f"/v1/keys/{made['id']}", secret=SECOND)
    said = [line["message"] for line in gateway.lines() if "message" in line]
    assert said == [
        f"key key_admin made key {made['id']} of tenant new",
        f"key key_second revoked key {made['id']}",
    ]


def test_an_admin_may_make_another_one(gateway):
    body, _ = ask(gateway, "POST", "/v1/keys", {"tenant": "ops", "endpoints": list(ENDPOINTS)}, status=201)
    assert body["is_admin"]
    assert ask(gateway, "GET", "/v1/keys", secret=body["secret"])[0]["data"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "tenant"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "*"}, "tenant"),
        ({"tenant": "a\x00"}, "tenant"),
        ({"tenant": "t" * 513}, "tenant"),
        ({"tenant": 5}, "tenant"),
        ({"tenant": "t", "user": "a\nb"}, "user"),
        ({"tenant": "t", "endpoints": ["chats"]}, "endpoints"),
        ({"tenant": "t", "endpoints": ["me"]}, "endpoints"),
        ({"tenant": "t", "endpoints": "chat"}, "endpoints"),
        ({"tenant": "t", "models": [""]}, "models"),
        ({"tenant": "t", "models": ["m"] * 1001}, "models"),
        ({"tenant": "t", "requests_per_minute": -1}, "requests_per_minute"),
        ({"tenant": "t", "requests_per_minute": 2**31}, "requests_per_minute"),
        ({"tenant": "t", "priority": "urgent"}, "priority"),
        ({"tenant": "t", "id": "key_mine"}, "id"),
        ({"tenant": "t", "secret": "tr-mine"}, "secret"),
        ({"tenant": "t", "digest": "0" * 64}, "digest"),
    ],
)
def test_a_key_that_cannot_be_is_refused_by_the_name_of_the_field_and_not_made(gateway, store, body, param):
    answer, _ = ask(gateway, "POST", "/v1/keys", body, status=400)
    assert answer["error"]["param"] == param
    assert len(store.find()) == len(KEYS)


@pytest.mark.parametrize("secret", [ACME, ANN])
@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "/v1/keys"),
        ("GET", "/v1/keys?tenant=acme"),
        ("POST", "/v1/keys", {"tenant": "acme", "endpoints": ["admin"]}),
        ("DELETE", "/v1/keys/key_admin"),
        ("DELETE", "/v1/keys/key_ann"),
        ("GET", "/v1/tenants"),
    ],
)
def test_only_a_key_that_names_admin_sees_or_changes_keys(gateway, store, secret, asked):
    answer, _ = ask(gateway, *asked, secret=secret, status=403)
    assert "admin" in answer["error"]["message"]
    assert [key.is_revoked for key in store.find()] == [False] * len(KEYS)


@pytest.mark.parametrize("secret", ["", "tr-none"])
def test_without_a_key_nothing_of_keys_is_told(gateway, secret):
    for method, path in (("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/tenants")):
        ask(gateway, method, path, {} if method == "POST" else None, secret=secret, status=401)


def test_a_revoked_key_opens_nothing_from_then_on(gateway, store):
    body, _ = ask(gateway, "DELETE", "/v1/keys/key_ann")
    assert body == {"object": "key.revoked", "id": "key_ann", "revoked": True}
    ask(gateway, "GET", "/v1/me", secret=ANN, status=401)
    ask(gateway, "DELETE", "/v1/keys/key_ann", status=404)
    listed, _ = ask(gateway, "GET", "/v1/keys?state=revoked")
    assert [(one["id"], one["state"]) for one in listed["data"]] == [("key_ann", "revoked")]


def test_an_admin_who_is_revoked_makes_no_key_any_more(gateway, store):
    ask(gateway, "DELETE", "/v1/keys/key_second")
    ask(gateway, "POST", "/v1/keys", {"tenant": "mine", "endpoints": ["admin"]}, secret=SECOND, status=401)
    assert store.find(KeyQuery("mine")) == []


def test_a_key_does_not_revoke_itself(gateway, store):
    body, _ = ask(gateway, "DELETE", "/v1/keys/key_admin", status=400)
    assert "trireme keys revoke key_admin" in body["error"]["message"]
    assert store.find(KeyQuery(is_revoked=True)) == []
    ask(gateway, "DELETE", "/v1/keys/key_admin", secret=SECOND)


@pytest.mark.parametrize("wanted", ["key_none", "%00", "%E2%82%AC", "a" * 500])
def test_a_key_that_is_not_there_is_not_found(gateway, wanted):
    ask(gateway, "DELETE", f"/v1/keys/{wanted}", status=404)


def test_keys_are_listed_page_by_page_without_secrets(gateway, store):
    for n in range(7):
        store.create(Key(f"key_{n}", "many", models=("llm",)), digest_of(f"tr-{n}"))
    seen, last = [], ""
    while True:
        body, headers = ask(gateway, "GET", f"/v1/keys?tenant=many&limit=3{last}")
        seen += [one["id"] for one in body["data"]]
        assert body["object"] == "list"
        assert body["last_id"] == seen[-1]
        assert headers["cache-control"] == "no-store"
        if not body["has_more"]:
            break
        last = f"&after={body['last_id']}"
    assert sorted(seen) == [f"key_{n}" for n in range(7)]
    assert set(body["data"][0]) == {
        *("object", "id", "tenant", "user", "models", "collections", "endpoints", "is_admin"),
        *("requests_per_minute", "priority", "state", "created_at"),
    }
    body, _ = ask(gateway, "GET", "/v1/keys?tenant=nobody")
    assert body == {"object": "list", "data": [], "has_more": False, "last_id": None}


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/keys?limit=0", "limit"),
        ("/v1/keys?limit=201", "limit"),
        ("/v1/keys?limit=1e3", "limit"),
        ("/v1/keys?limit=%D9%A3", "limit"),
        ("/v1/keys?after=key_none", "after"),
        ("/v1/keys?state=dead", "state"),
        ("/v1/keys?tenant=", "tenant"),
        ("/v1/keys?tenant=%00", "tenant"),
        ("/v1/keys?offset=3", "offset"),
        ("/v1/tenants?limit=x", "limit"),
        ("/v1/tenants?tenant=acme", "tenant"),
        ("/v1/budgets?limit=500", "limit"),
        ("/v1/budgets?after=5", "after"),
        ("/v1/budgets?after=WyJhIiwiYiIsInllYXIiXQ", "after"),
    ],
)
def test_a_bad_parameter_is_refused_by_its_name(gateway, path, param):
    assert ask(gateway, "GET", path, status=400)[0]["error"]["param"] == param


def used(gateway, tenant, attempt, **more):
    row = LedgerRow(
        attempt, attempt, tenant, "u", "k", "chat", "p", "m", "p:m", int(time.time() * 1000), **more
    )
    gateway.ledger.record([Recorded(row)])


def test_tenants_are_listed_with_what_they_used_today(gateway):
    gateway.caps.put(Cap("acme", "", "day", tokens=5))
    used(gateway, "acme", "a1", input_tokens=3, output_tokens=4, nanos=10**9)
    used(gateway, "far", "a2", nanos=5)
    body, _ = ask(gateway, "GET", "/v1/tenants")
    assert body["data"] == [
        {
            "object": "tenant",
            "tenant": "acme",
            "keys": 2,
            "budgets": 1,
            "home": None,
            "requests_today": 1,
            "tokens_today": 7,
            "dollars_today": "1.00",
        },
        {
            "object": "tenant",
            "tenant": "far",
            "keys": 0,
            "budgets": 0,
            "home": None,
            "requests_today": 1,
            "tokens_today": 0,
            "dollars_today": "0.000000005",
        },
        {
            "object": "tenant",
            "tenant": "ops",
            "keys": 2,
            "budgets": 0,
            "home": None,
            "requests_today": 0,
            "tokens_today": 0,
            "dollars_today": "0.00",
        },
    ]
    assert (body["has_more"], body["last_id"]) == (False, "ops")


def test_tenants_are_searched_and_paged(gateway):
    for n in range(5):
        used(gateway, f"Team {n}", f"t{n}")
    first, _ = ask(gateway, "GET", "/v1/tenants?q=team&limit=3")
    assert [one["tenant"] for one in first["data"]] == ["Team 0", "Team 1", "Team 2"]
    assert first["has_more"]
    rest, _ = ask(gateway, "GET", "/v1/tenants?q=team&limit=3&after=Team%202")
    assert [one["tenant"] for one in rest["data"]] == ["Team 3", "Team 4"]
    assert not rest["has_more"]


def test_of_a_tenant_whose_home_is_elsewhere_this_region_does_not_say_what_it_used(store):
    running = FakeGateway(Echo(lambda call, model: []), keys=KEYS, file=FILE)
    running.keys = store
    running.tenants = MemoryTenants(store, running.caps, running.ledger)
    store.create(Key("key_far", "far"), digest_of("tr-far"))
    with running:
        (far,) = ask(running, "GET", "/v1/tenants?q=far")[0]["data"]
    assert (far["home"], far["keys"]) == ("us", 1)
    assert far["requests_today"] is far["tokens_today"] is far["dollars_today"] is None


def test_budgets_are_paged_for_an_admin_and_for_a_tenant(gateway):
    caps = [Cap("", "", "day", tokens=1), Cap("a", "", "minute", tokens=2), Cap("a", "", "month", tokens=3)]
    caps += [
        Cap("acme", "", "day", tokens=4),
        Cap("acme", "bob", "day", tokens=5),
        Cap("b", "", "day", tokens=6),
    ]
    for cap in caps:
        gateway.caps.put(cap)

    def pages(secret, query):
        found, last = [], ""
        while True:
            body, _ = ask(gateway, "GET", f"/v1/budgets?limit=2{query}{last}", secret=secret)
            found.append([one["tokens"] for one in body["data"]])
            if not body["has_more"]:
                return found
            last = f"&after={body['last_id']}"

    assert pages(ADMIN, "") == [[1, 2], [3, 4], [5, 6]]
    assert pages(ADMIN, "&tenant=a") == [[2, 3]]
    assert pages(ACME, "") == [[4, 5]]
    whole, _ = ask(gateway, "GET", "/v1/budgets")
    assert set(whole) == {"object", "data"}
    assert len(whole["data"]) == len(caps)


def test_a_page_of_budgets_goes_on_behind_one_that_was_removed_meanwhile(gateway):
    for n in range(4):
        gateway.caps.put(Cap(f"t{n}", "", "day", tokens=n))
    first, _ = ask(gateway, "GET", "/v1/budgets?limit=2")
    gateway.caps.put(Cap("t1", "", "day"))
    rest, _ = ask(gateway, "GET", f"/v1/budgets?limit=2&after={first['last_id']}")
    assert [one["tokens"] for one in rest["data"]] == [2, 3]


def test_a_database_that_is_away_is_told_with_503(gateway):
    def away(*_):
        raise UnavailableError("the database does not answer")

    store, tenants = gateway.keys, gateway.tenants
    store.find = store.create = store.revoke = tenants.find = away
    for method, path, body in (
        ("GET", "/v1/keys", None),
        ("POST", "/v1/keys", {"tenant": "t"}),
        ("DELETE", "/v1/keys/key_ann", None),
        ("GET", "/v1/tenants", None),
    ):
        answer, _ = ask(gateway, method, path, body, status=503)
        assert "secret" not in answer
