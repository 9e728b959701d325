"""Tags of answers, 304 and 412, answers that are fetched again by their digest, and requests without a key."""

import json

import numpy as np
import pytest

from fakes.gateways import SECRET, Echo, FakeGateway
from fakes.memory_cache import MemoryCache
from trireme.access.keys import Key
from trireme.providers.models import Embedded, Reranked, ServedModel
from trireme.types import Hit

BOB, EVE, NARROW = "tr-bob", "tr-eve", "tr-narrow"
KEYS = {
    SECRET: Key("k", "acme", "ann"),
    BOB: Key("b", "acme", "bob"),
    EVE: Key("e", "acm", "ann"),
    NARROW: Key("n", "acme", models=("reranker",), endpoints=("rerank", "search")),
}
FILE = """
[cache]
http_seconds = 30
[public]
tenant = "acme"
endpoints = ["search"]
collections = ["docs"]
models = ["search"]
"""
EMBED = {"model": "embedding", "input": ["a", "b"]}
SEARCH = {"query": "oars", "collection": "docs"}


class Server:
    """Counts what it is asked."""

    def __init__(self):
        self.asked = 0

    async def models(self):
        search = ServedModel("search", "search", True, takes_rerank_depth=True)
        return [ServedModel("embedding", "embed", True), search]

    async def embed(self, texts, model, input_type=None, dimensions=None, seconds=None, *, over_length=None):
        self.asked += 1
        tokens = np.ones(len(texts), np.int32)
        return Embedded(np.array([[len(text), 1] for text in texts], np.float32), tokens, tokens * 0)

    async def rerank(self, query, passages, model, seconds=None, over_length=None):
        self.asked += 1
        return Reranked(np.ones(len(passages), np.float32), np.zeros(len(passages), np.int32))

    async def search(self, call):
        self.asked += 1
        return [Hit(f"{call.collection}#0", "Oars are of fir.", "{}", 0.5)]


class Versions:
    """Of models and collections, by name; what is not there is not known."""

    def __init__(self):
        self.held = {"embedding": "1", "reranker": "1", "search": "1", "docs": "1", "notes": "1"}

    async def version_of(self, model, tenant, collection):
        found = [self.held.get(name) for name in (model, collection) if name]
        return "" if None in found else f"{found}"


@pytest.fixture
def gateway():
    with FakeGateway(
        Echo(lambda call, model: []),
        keys=KEYS,
        file=FILE,
        server=Server(),
        versions=Versions(),
        cache_store=MemoryCache(),
    ) as running:
        yield running


def ask(gateway, method, path, body=None, *, secret=SECRET, tag=None, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if tag is not None:
        sent["if-none-match"] = tag
    status, got, raw = gateway.ask(method, path, body, headers=sent, secret=secret)
    return status, {name.lower(): value for name, value in got.items()}, raw


def tag_of(gateway, body=EMBED, path="/v1/embeddings", **more):
    status, headers, _ = ask(gateway, "POST", path, body, **more)
    assert status == 200
    return headers["etag"]


def test_an_answer_of_a_model_says_who_may_keep_it(gateway):
    status, headers, _ = ask(gateway, "POST", "/v1/embeddings", EMBED)
    assert status == 200
    assert headers["etag"].startswith('W/"')
    assert headers["cache-control"] == "private, max-age=30"
    assert headers["vary"] == "authorization, x-api-key"


def test_a_model_whose_version_nobody_knows_has_no_tag(gateway):
    gateway.ports.versions.held.pop("embedding")
    _, headers, _ = ask(gateway, "POST", "/v1/embeddings", EMBED)
    assert "etag" not in headers
    assert "cache-control" not in headers


def test_who_has_the_answer_gets_none_and_nothing_is_asked(gateway):
    tag = tag_of(gateway)
    asked = gateway.model_server.asked
    status, headers, raw = ask(gateway, "QUERY", "/v1/embeddings", EMBED, tag=tag)
    assert (status, raw, headers["etag"]) == (304, b"", tag)
    assert "content-length" not in headers
    status, headers, raw = ask(gateway, "POST", "/v1/embeddings", EMBED, tag=tag)
    assert (status, raw) == (412, b"")
    assert ask(gateway, "POST", "/v1/embeddings", EMBED, tag=tag, x_trireme_conditional="304")[0] == 304
    assert gateway.model_server.asked == asked
    assert ask(gateway, "QUERY", "/v1/embeddings", EMBED, tag='"other"')[0] == 200
    assert gateway.model_server.asked == asked + 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", EMBED),
        ("/embed", {"inputs": "a"}),
        ("/v2/rerank", {"model": "reranker", "query": "q", "documents": ["a"]}),
        ("/v1/rerank", {"model": "reranker", "query": "q", "documents": ["a"]}),
        ("/rerank", {"query": "q", "texts": ["a"]}),
        ("/v1/search", SEARCH),
        ("/v1/vector_stores/docs/search", {"query": "oars"}),
    ],
)
def test_every_endpoint_of_models_has_tags_and_takes_query(gateway, path, body):
    tag = tag_of(gateway, body, path)
    assert ask(gateway, "QUERY", path, body, tag=tag)[0] == 304


@pytest.mark.parametrize("changed", ["model", "collection", "tenant", "user", "body", "path"])
def test_a_tag_is_no_longer_that_of_the_answer_once_anything_changed(gateway, changed):
    tag = tag_of(gateway, SEARCH, "/v1/search")
    path, body, secret = "/v1/search", SEARCH, SECRET
    if changed == "model":
        gateway.ports.versions.held["search"] = "2"
    elif changed == "collection":
        gateway.ports.versions.held["docs"] = "2"
    elif changed == "tenant":
        secret = EVE
    elif changed == "user":
        secret = BOB
    elif changed == "body":
        body = SEARCH | {"top_k": 3}
    else:
        path, body = "/v1/vector_stores/docs/search", {"query": "oars"}
    assert ask(gateway, "QUERY", path, body, secret=secret, tag=tag)[0] == 200


def test_users_of_a_tenant_share_the_tags_of_what_no_collection_is_read_for(gateway):
    assert tag_of(gateway) == tag_of(gateway, secret=BOB)
    assert tag_of(gateway) != tag_of(gateway, secret=EVE)


def test_a_key_without_the_right_learns_nothing_by_a_tag(gateway):
    tag = tag_of(gateway, SEARCH, "/v1/search")
    assert ask(gateway, "QUERY", "/v1/search", SEARCH, secret=NARROW, tag=tag)[0] == 403
    assert ask(gateway, "QUERY", "/v1/embeddings", EMBED, secret=NARROW, tag=tag)[0] == 403


def test_what_a_query_was_answered_is_fetched_again_by_its_digest(gateway):
    status, headers, first = ask(gateway, "QUERY", "/v1/embeddings", EMBED)
    assert status == 200
    at = headers["content-location"]
    assert at == f"/v1/embeddings/{headers['etag'][3:-1]}"
    asked = gateway.model_server.asked
    status, again, raw = ask(gateway, "GET", at)
    assert (status, raw) == (200, first)
    # The same bytes each time: a strong tag.
    assert again["etag"] == headers["etag"].removeprefix("W/")
    assert again["cache-control"].startswith("private, max-age=")
    assert ask(gateway, "GET", at, tag=again["etag"])[0] == 304
    assert gateway.model_server.asked == asked


def test_a_post_keeps_nothing(gateway):
    tag = tag_of(gateway)
    assert ask(gateway, "GET", f"/v1/embeddings/{tag[3:-1]}")[0] == 404


@pytest.mark.parametrize("why", ["tenant", "user", "endpoint", "model right", "model", "collection", "store"])
def test_a_kept_answer_is_gone_for_whom_it_would_be_wrong(gateway, why):
    at = ask(gateway, "QUERY", "/v1/search", SEARCH)[1]["content-location"]
    assert ask(gateway, "GET", at)[0] == 200
    expected, secret = 404, SECRET
    if why == "tenant":
        secret = EVE
    elif why == "user":
        secret = BOB
    elif why == "endpoint":
        at = at.replace("search", "embeddings")
    elif why == "model right":
        secret, expected = NARROW, 404
    elif why == "model":
        gateway.ports.versions.held["search"] = "2"
    elif why == "collection":
        gateway.ports.versions.held["docs"] = "2"
    else:
        gateway.ports.kept._store.is_away = True
    assert ask(gateway, "GET", at, secret=secret)[0] == expected


def test_a_key_that_may_not_use_the_model_is_refused_a_kept_answer_of_it(gateway):
    _, headers, _ = ask(gateway, "QUERY", "/embed", {"inputs": "a"}, secret=BOB)
    assert ask(gateway, "GET", headers["content-location"], secret=NARROW)[0] == 403


def test_who_has_no_key_is_answered_where_that_is_public_and_nowhere_else(gateway):
    status, headers, raw = ask(gateway, "QUERY", "/v1/search", SEARCH, secret=None)
    assert status == 200, raw
    assert headers["cache-control"] == "public, max-age=30"
    status, headers, _ = ask(gateway, "GET", headers["content-location"], secret=None)
    assert (status, headers["cache-control"].split(",")[0]) == (200, "public")
    assert ask(gateway, "QUERY", "/v1/embeddings", EMBED, secret=None)[0] == 401
    assert ask(gateway, "GET", "/v1/models", secret=None)[0] == 401
    status, _, raw = ask(gateway, "QUERY", "/v1/search", SEARCH | {"collection": "notes"}, secret=None)
    assert status == 403, raw
    # A wrong key is a wrong key.
    assert ask(gateway, "QUERY", "/v1/search", SEARCH, secret="tr-nobody")[0] == 401
    assert json.loads(gateway.log.getvalue().splitlines()[0])["key"] == "public"


def test_what_a_key_was_answered_stays_private_although_the_endpoint_is_public(gateway):
    _, headers, _ = ask(gateway, "QUERY", "/v1/search", SEARCH, secret=BOB)
    assert headers["cache-control"].startswith("private")


def test_a_query_whose_client_wants_nothing_stored_keeps_nothing(gateway):
    status, headers, _ = ask(gateway, "QUERY", "/v1/embeddings", EMBED, cache_control="no-store")
    assert status == 200
    assert "content-location" not in headers
    assert ask(gateway, "GET", f"/v1/embeddings/{headers['etag'][3:-1]}")[0] == 404


def test_a_search_with_something_left_out_has_no_tag_and_is_kept_by_nobody():
    class Backlogs:
        async def read(self):
            return {"search": 2.0}

        async def close(self):
            return None

    with FakeGateway(
        Echo(lambda call, model: []),
        keys=KEYS,
        file=FILE + "[degrade.search]\nno_reranking = 1.0",
        server=Server(),
        versions=Versions(),
        cache_store=MemoryCache(),
        backlogs=Backlogs(),
    ) as loaded:
        loaded.run(loaded.ports.degrade.look())
        for method in ("POST", "QUERY"):
            status, headers, _ = ask(loaded, method, "/v1/search", SEARCH)
            assert (status, headers["x-trireme-degraded"]) == (200, "no_reranking")
            assert headers["cache-control"] == "no-store"
            assert "etag" not in headers
            assert "content-location" not in headers
