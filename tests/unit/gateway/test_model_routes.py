"""Endpoints of models beside chats, over a server whose answers a person can predict."""

import base64
import json

import numpy as np
import pytest

from fakes.gateways import SECRET, Echo, FakeGateway
from trireme.access.keys import Key
from trireme.errors import NotFoundError
from trireme.providers.models import Embedded, Reranked, ServedModel
from trireme.types import Classified, Hit

MODELS = [
    ServedModel("embedding", "embed", True),
    ServedModel("reranker", "rerank", True),
    ServedModel("moods", "classify", True),
    ServedModel("search", "search", True),
    ServedModel("llm", "chat", True),
]
OTHER = "tr-other"
NOBODY = Echo(lambda call, model: [])


class Server:
    """Vectors [length, 1], a score for each passage by its length, one label; a passage of each search."""

    def __init__(self):
        self.asked = []
        self.over_length = []

    async def models(self):
        return MODELS

    async def embed(self, texts, model, input_type=None, dimensions=None, seconds=None, *, over_length=None):
        self.asked.append((model, input_type, dimensions))
        self.over_length.append(over_length)
        vectors = np.array([[len(text), 1] for text in texts], np.float32)
        return Embedded(vectors, np.full(len(texts), 3, np.int32), np.zeros(len(texts), np.int32))

    async def rerank(self, query, passages, model, seconds=None, over_length=None):
        self.over_length.append(over_length)
        scores = np.array([len(passage) for passage in passages], np.float32)
        return Reranked(scores, np.zeros(len(passages), np.int32))

    async def classify(self, texts, model, seconds=None, over_length=None):
        self.over_length.append(over_length)
        return [Classified(("glad", "sad"), np.array([0.75, 0.25], np.float32)) for _ in texts]

    async def search(self, call):
        self.asked.append(call)
        if call.collection == "gone":
            raise NotFoundError("no collection 'gone'")
        return [Hit("a#0", "Oars are of fir.", '{"position": 0}', 0.5)]


@pytest.fixture(scope="module")
def gateway():
    keys = {
        SECRET: Key("k", "acme", "ann"),
        OTHER: Key("o", "other", models=("embedding", "search"), collections=("notes",)),
    }
    file = '[defaults]\nclassify = "moods"\n[providers.openai]\nkind = "openai"\n'
    file += '[models.assistant]\nchain = ["openai:gpt"]'
    with FakeGateway(NOBODY, keys=keys, file=file, server=Server()) as running:
        yield running


def post(gateway, path, body, secret=SECRET):
    status, _, raw = gateway.ask("POST", path, body, secret=secret)
    return status, json.loads(raw)


def test_embeddings_come_in_the_order_of_their_inputs_as_floats_or_base64(gateway):
    body = {"model": "embedding", "input": ["aaa", "a"], "encoding_format": "float"}
    status, answer = post(gateway, "/v1/embeddings", body)
    assert status == 200
    assert [one["embedding"] for one in answer["data"]] == [[3, 1], [1, 1]]
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    _, packed = post(gateway, "/v1/embeddings", body | {"encoding_format": "base64"})
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4").tolist() == [3, 1]


def test_what_a_request_says_of_its_vectors_reaches_the_model(gateway):
    post(
        gateway,
        "/v1/embeddings",
        {"model": "embedding", "input": "a", "dimensions": 8, "input_type": "passage"},
    )
    assert gateway.model_server.asked[-1] == ("embedding", "passage", 8)


EMBED = {"model": "embedding", "input": "a"}
RANK = {"model": "reranker", "query": "q", "documents": ["a"]}


@pytest.mark.parametrize(
    ("path", "body", "said", "asked"),
    [
        ("/v1/embeddings", EMBED, {}, None),
        ("/v1/embeddings", EMBED, {"over_length": "split"}, "split"),
        ("/v1/embeddings", EMBED, {"truncate": "END"}, "truncate"),
        ("/v1/embeddings", EMBED, {"truncate_prompt_tokens": -1, "truncate": True}, "truncate"),
        ("/embed", {"inputs": "a"}, {"truncate": False}, None),
        ("/embed", {"inputs": "a"}, {"over_length": "split"}, "split"),
        ("/v2/rerank", RANK, {}, None),
        ("/v2/rerank", RANK, {"truncate": "NONE"}, "error"),
        ("/v1/rerank", RANK, {"truncate": False}, "error"),
        ("/v1/rerank", RANK, {"truncate_prompt_tokens": -1}, "truncate"),
        ("/rerank", {"query": "q", "texts": ["a"]}, {"over_length": "split"}, "split"),
        ("/predict", {"inputs": "a"}, {}, "error"),
        ("/predict", {"inputs": "a"}, {"truncate": True}, "truncate"),
    ],
)
def test_what_a_body_says_of_long_texts_reaches_the_model_in_each_wires_words(
    gateway, path, body, said, asked
):
    assert post(gateway, path, body | said)[0] == 200
    assert gateway.model_server.over_length[-1] == asked


def test_reranking_is_the_same_in_three_formats(gateway):
    documents = ["a", "aaa", "aa"]
    body = {"model": "reranker", "query": "q", "documents": documents}
    _, cohere = post(gateway, "/v2/rerank", body | {"top_n": 2})
    _, jina = post(gateway, "/v1/rerank", body)
    _, tei = post(gateway, "/rerank", {"query": "q", "texts": documents})
    assert [one["index"] for one in cohere["results"]] == [1, 2]
    assert [one["index"] for one in jina["results"]] == [1, 2, 0]
    assert [one["index"] for one in tei] == [1, 2, 0]
    assert 0 < tei[2]["score"] < tei[1]["score"] < tei[0]["score"] < 1


def test_models_that_a_request_does_not_name_are_those_of_the_file(gateway):
    assert post(gateway, "/embed", {"inputs": "aa"}) == (200, [[2, 1]])
    assert post(gateway, "/predict", {"inputs": "aa"})[1][0] == {"score": 0.75, "label": "glad"}
    with FakeGateway(NOBODY, server=Server()) as plain:
        status, answer = post(plain, "/predict", {"inputs": "aa"})
    assert status == 422
    assert "defaults.classify" in answer["error"]


def test_a_search_is_the_keys(gateway):
    status, answer = post(gateway, "/v1/search", {"query": "oars", "collection": "x", "top_k": 2})
    assert status == 200
    assert answer["passages"][0]["text"] == "Oars are of fir."
    call = gateway.model_server.asked[-1]
    assert (call.tenant, call.user, call.collection, call.top_k) == ("acme", "ann", "x", 2)


@pytest.mark.parametrize(
    "body", [{"query": "q", "tenant": "other"}, {"query": "q", "user": "bob"}, {"query": ""}]
)
def test_a_search_cannot_name_a_tenant(gateway, body):
    assert post(gateway, "/v1/search", body)[0] == 400


def test_a_key_of_one_collection_searches_it_and_no_other(gateway):
    assert post(gateway, "/v1/search", {"query": "q"}, OTHER)[1]["collection"] == "notes"
    for path, body in (
        ("/v1/search", {"query": "q", "collection": "default"}),
        ("/v1/vector_stores/default/search", {"query": "q"}),
    ):
        status, answer = post(gateway, path, body, OTHER)
        assert status == 403
        assert "notes" in answer["error"]["message"]


def test_a_collection_of_another_type_is_refused_and_not_taken_for_none(gateway):
    assert post(gateway, "/v1/search", {"query": "q", "collection": 7}, OTHER)[0] == 400


def test_a_key_of_some_models_may_use_no_other(gateway):
    status, answer = post(
        gateway, "/v2/rerank", {"model": "reranker", "query": "q", "documents": ["a"]}, OTHER
    )
    assert status == 403
    assert "embedding, search" in answer["message"]


def test_vector_stores_are_searched_as_collections(gateway):
    status, answer = post(gateway, "/v1/vector_stores/notes/search", {"query": ["oars", "fir"]})
    assert status == 200
    assert answer["object"] == "vector_store.search_results.page"
    assert len(answer["data"]) == 1


def test_what_is_not_there_is_not_found(gateway):
    assert post(gateway, "/v1/search", {"query": "q", "collection": "gone"})[0] == 404


def test_models_are_those_that_the_key_may_use(gateway):
    def names(secret):
        return [one["id"] for one in json.loads(gateway.ask("GET", "/v1/models", secret=secret)[2])["data"]]

    assert names(SECRET) == ["assistant", "embedding", "reranker", "moods", "search", "llm"]
    assert names(OTHER) == ["embedding", "search"]
    assert gateway.ask("GET", "/v1/models/assistant")[0] == 200
    assert json.loads(gateway.ask("GET", "/v1/models/assistant")[2])["owned_by"] == "openai"
    assert gateway.ask("GET", "/v1/models/assistant", secret=OTHER)[0] == 404
    version = {"anthropic-version": "2023-06-01"}
    page = json.loads(gateway.ask("GET", "/v1/models", headers=version, secret=OTHER)[2])
    assert [(one["type"], one["display_name"]) for one in page["data"]] == [
        ("model", "embedding"),
        ("model", "search"),
    ]
    assert json.loads(gateway.ask("GET", "/v1/models/llm", headers=version)[2])["type"] == "model"
    assert gateway.ask("GET", "/info")[0] == 200


def test_a_tenant_that_forbids_our_own_models_gets_none_of_them():
    with FakeGateway(NOBODY, server=Server(), file='[tenants.acme]\nforbid_providers = ["local"]') as own:
        status, answer = post(own, "/v1/embeddings", {"model": "embedding", "input": "a"})
    assert status == 403
    assert "'acme'" in answer["error"]["message"]


def test_an_error_is_told_in_the_words_of_the_clients_format(gateway):
    assert set(post(gateway, "/v2/rerank", {"model": "reranker"})[1]) == {"id", "message"}
    assert set(post(gateway, "/embed", {})[1]) == {"error", "error_type"}
    assert set(post(gateway, "/v1/embeddings", {})[1]) == {"error"}
    assert post(gateway, "/v1/messages", {})[1]["type"] == "error"
