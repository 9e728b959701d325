"""The documented ways to search, against the real server."""

import json
import re
import urllib.request

import numpy as np
import pytest
from stacks import ROOT, wait_until

from trireme.artifacts.manifest import read_manifest
from trireme.errors import InvalidInputError, UnavailableError
from trireme.triton.metrics import read_metrics


def post(settings, path, body):
    request = urllib.request.Request(
        f"http://{settings.host}:{settings.http_port}{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("what does the dynamic batcher wait for?", "batching.md"),
        ("which database keeps the passages?", "storage.txt"),
        ("how many rows of oars did the ship have?", "rowing.html"),
        ("how long to cook lentils", "cooking.txt"),
    ],
)
def test_the_best_passage_answers_the_question(client, question, source):
    hits = client.search(question)
    assert json.loads(hits[0].metadata)["source"].endswith(source)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_fewer_than_top_k_come_back_when_there_are_fewer(client):
    assert len(client.search("oars", top_k=1000)) == 4


def test_top_k_limits_the_answer(client):
    assert len(client.search("oars", top_k=2)) == 2


def test_http_gives_the_same_answer_as_grpc(client, settings):
    hits = client.search("oars", top_k=3)
    answer = post(settings, "/v2/models/search/generate", {"query": "oars", "top_k": 3})
    assert answer["id"] == [hit.id for hit in hits]
    assert answer["score"] == pytest.approx([hit.score for hit in hits], abs=0.02)
    inputs = [{"name": "query", "shape": [1, 1], "datatype": "BYTES", "data": ["oars"]}]
    answer = post(settings, "/v2/models/search/infer", {"inputs": inputs})
    ids = next(output for output in answer["outputs"] if output["name"] == "id")
    assert ids["data"][:3] == [hit.id for hit in hits]


def test_the_retriever_takes_an_embedding_of_the_client(client):
    vector = client.embed(["banks of oars"], "query")
    inputs = {"embedding": vector.tolist(), "query": [["banks of oars"]], "top_k": [[1]]}
    outputs = client.infer("retriever", inputs)
    assert "trireme" in outputs["text"][0][0].decode()
    passage = client.embed([outputs["text"][0][0].decode()], "passage")
    assert outputs["score"][0][0] == pytest.approx(float(vector[0] @ passage[0]), abs=0.02)


def test_a_filter_keeps_the_passages_whose_metadata_contains_it(client, settings):
    everything = client.search("oars", top_k=10)
    source = json.loads(everything[-1].metadata)["source"]
    wanted = json.dumps({"source": source})
    found = client.search("oars", top_k=10, filter=wanted)
    assert found
    assert {json.loads(hit.metadata)["source"] for hit in found} == {source}
    answer = post(settings, "/v2/models/search/generate", {"query": "oars", "filter": wanted})
    assert answer["id"] == [hit.id for hit in found] or answer["id"] == found[0].id
    assert client.search("oars", filter='{"source": "nowhere"}') == []


def test_words_that_no_passage_holds_find_nothing_in_mode_text(client):
    assert client.search("zeppelin", search_mode="text") == []
    assert "oars" in client.search("oars", search_mode="text")[0].text
    assert len(client.search("zeppelin", top_k=4, search_mode="hybrid")) == 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"filter": "{"}, "filter is not JSON"),
        ({"filter": "[]"}, "JSON object"),
        ({"search_mode": "nearest"}, "dense, text, sparse, hybrid"),
        ({"search_mode": "sparse"}, "needs the query's sparse weights"),
    ],
)
def test_a_filter_or_mode_that_cannot_be_is_refused_by_name(client, options, words):
    with pytest.raises(InvalidInputError, match=words):
        client.search("oars", **options)


def test_tenants_do_not_see_each_other(client):
    from trireme.errors import NotFoundError

    with pytest.raises(NotFoundError, match="no collection 'default'"):
        client.search("oars", tenant="someone else")


def test_dimensions_truncate_and_restore_unit_length(client):
    full = client.infer("embedding", {"text": [["three banks of oars"]]})["embedding"][0]
    short = client.infer("embedding", {"text": [["three banks of oars"]], "dimensions": [[64]]})["embedding"][
        0
    ]
    assert short.shape == (64,)
    assert np.linalg.norm(short) == pytest.approx(1, abs=1e-5)
    assert short @ full[:64] / np.linalg.norm(full[:64]) > 0.999


def test_token_counts_are_true(client):
    outputs = client.infer("embedding", {"text": [["oars"], ["oars " * 300]]})
    assert outputs["token_count"].tolist() == [[4], [256]]
    assert outputs["truncated_tokens"].tolist() == [[0], [2 * 300 - 254]]


def test_input_types_may_differ_between_rows(client):
    inputs = {"text": [["oars"], ["oars"]], "input_type": [["query"], ["passage"]]}
    assert client.infer("embedding", inputs)["embedding"].shape == (2, 384)


def test_a_collection_by_an_embedder_that_is_not_here_is_refused_and_named(client, stack):
    from contextlib import closing

    from trireme.storage import open_store
    from trireme.types import Embedder, Passage

    vectors = np.ones((1, 384), np.float32)
    with closing(open_store(stack.database_url)) as store:
        store.put("default", "foreign", Embedder("f" * 64, 384), [Passage("a", "text")], vectors)
        try:
            with pytest.raises(UnavailableError, match=r"digest ffffffffffff.*does not hold"):
                client.search("oars", collection="foreign")
        finally:
            store.drop("default", "foreign")


def test_tokens_padding_and_micro_batches_are_counted(client, settings):
    counted = ("tokens_total", "pad_tokens_total", "micro_batches_total", "request_seconds_total")

    def read(name):
        page = read_metrics(settings.host, settings.metrics_port)
        return float(re.search(rf'^trireme_{name}\{{[^}}]*model="embedding"[^}}]*\}} (\S+)$', page, re.M)[1])

    def settle():
        """The counters once the backend has told what it knew: it does when it finds out whether it is ready."""
        # One may have begun before.
        for _ in range(2):
            known = read("model_checked_seconds")
            wait_until(lambda known=known: read("model_checked_seconds") > known)
        return [read(f"encoder_{name}") for name in counted]

    before = settle()
    # Rows of five, five and seven tokens. Padded, widths are even: together as wide as eight, apart six and eight.
    client.infer("embedding", {"text": [["a b c"], ["d e f"], ["a b c d e"]]})
    tokens, padding, batches, seconds = (new - old for new, old in zip(settle(), before, strict=True))
    assert 0 < seconds < 10
    assert tokens == 5 + 5 + 7
    pads = read_manifest(ROOT / "model_repository" / "embedding" / "1").engine != "vnni"
    assert (batches, padding) in ({(1, 7), (2, 3)} if pads else {(1, 0)})


def test_without_reranking_the_order_of_the_retriever_stays(client):
    question = "what does the dynamic batcher wait for?"
    vector = client.embed([question], "query")[0]
    found = client.infer("search__retrieve", {"embedding": [vector.tolist()], "query": [[question]]})
    plain = client.infer("search", {"query": [[question]], "rerank_depth": [[0]]})
    assert plain["id"].tolist() == found["id"][:, : plain["id"].shape[1]].tolist()
    assert plain["score"][0].tolist() == pytest.approx(
        found["rank_score"][0].tolist()[: plain["score"].shape[1]]
    )
    fewer = client.infer("search", {"query": [[question]], "rerank_depth": [[1]]})
    # The one that is read is the best by the retriever, and stays above the others.
    assert fewer["id"].tolist() == plain["id"].tolist()
    with pytest.raises(InvalidInputError, match="rerank_depth must be at least 0"):
        client.infer("search", {"query": [[question]], "rerank_depth": [[-1]]})
