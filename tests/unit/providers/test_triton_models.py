"""What our own server does beside chats, against a server that a person can predict."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from fakes.grpc_server import config_of, response_of, serving
from trireme.errors import (
    DeadlineError,
    InvalidInputError,
    NotFoundError,
    OverLengthError,
    TriremeError,
    UnavailableError,
)
from trireme.providers import triton_models
from trireme.providers.models import SearchCall, ServedModel
from trireme.providers.triton_models import BATCHES_AT_ONCE, TritonModels
from trireme.triton import served_models
from trireme.triton.async_client import AsyncTritonClient


@pytest.fixture
def server():
    with serving() as (scripted, url):
        scripted.url = url
        scripted.configs = {
            "embedding": config_of("embedding", backend="text_encoder", inputs=["text"], rows=4),
            "reranker": config_of("reranker", backend="cross_encoder", inputs=["query", "passages"], rows=16),
            "classes": config_of("classes", backend="cross_encoder", inputs=["text"], rows=2),
            "search": config_of("search", platform="ensemble", inputs=["query", "tenant"], rows=1),
            "search__sort": config_of("search__sort", backend="sort", inputs=["id"], rows=1),
        }
        yield scripted


def run(server, act):
    async def whole():
        models = TritonModels(AsyncTritonClient(server.url, 10.0), "127.0.0.1", 1, 2)
        try:
            return await act(models)
        finally:
            await models.close()

    return asyncio.run(whole())


def texts_of(request, name="text"):
    """The rows of a STRING input."""
    for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True):
        if tensor.name == name:
            texts, at = [], 0
            while at < len(raw):
                size = int.from_bytes(raw[at : at + 4], "little")
                texts.append(raw[at + 4 : at + 4 + size].decode())
                at += 4 + size
            return texts
    return None


def embed_lengths(request, context):
    """A vector of each text's length, its tokens one more, and as many cut as it has spaces."""
    texts = texts_of(request)
    lengths = [len(text) for text in texts]
    return response_of(
        {
            "embedding": [[float(n), 0.5] for n in lengths],
            "token_count": [[n + 1] for n in lengths],
            "truncated_tokens": [[text.count(" ")] for text in texts],
        }
    )


@pytest.mark.parametrize(
    ("outputs", "asked"),
    [
        (("embedding", "token_count", "truncated_tokens"), set()),
        (
            ("embedding", "token_count", "truncated_tokens", "token_vectors", "vector_count"),
            {"embedding", "token_count", "truncated_tokens"},
        ),
    ],
)
def test_of_a_model_with_several_outputs_the_vectors_alone_are_asked_for(server, outputs, asked):
    server.infer = embed_lengths
    server.configs["embedding"] = config_of(
        "embedding", backend="text_encoder", inputs=["text"], outputs=outputs, rows=4
    )
    run(server, lambda models: models.embed(["a"] * 6, "embedding"))
    assert [{one.name for one in request.outputs} for request in server.requests] == [asked, asked]


def test_an_answer_that_the_servers_cache_made_for_a_search_is_an_error_that_says_so(server):
    server.infer = lambda request, context: response_of({"embedding": [[1.0, 0.5]]})
    with pytest.raises(TriremeError, match="did not say token_count: the server's response cache"):
        run(server, lambda models: models.embed(["a"], "embedding"))


def test_texts_of_many_batches_come_back_in_order_with_their_counts(server):
    server.infer = embed_lengths
    texts = ["x" * n + " " * (n % 2) for n in range(10)]
    found = run(server, lambda models: models.embed(texts, "embedding", "passage", 2))
    assert found.vectors[:, 0].tolist() == [len(text) for text in texts]
    assert found.vectors.dtype == np.float32
    assert found.tokens.tolist() == [len(text) + 1 for text in texts]
    assert found.truncated.tolist() == [n % 2 for n in range(10)]
    assert sorted(len(texts_of(request)) for request in server.requests) == [2, 4, 4]
    request = server.requests[0]
    assert {tensor.name for tensor in request.inputs} == {"text", "input_type", "dimensions"}
    assert set(texts_of(request, "input_type")) == {"passage"}


def test_what_was_not_given_is_not_sent_and_no_texts_are_no_request(server):
    server.infer = embed_lengths
    assert run(server, lambda models: models.embed([], "embedding")).vectors.shape == (0, 0)
    assert server.requests == []
    run(server, lambda models: models.embed(["a"], "embedding"))
    assert [tensor.name for tensor in server.requests[0].inputs] == ["text"]


def test_batches_of_one_request_run_side_by_side_within_a_bound(server):
    together, lock, most = [0], threading.Lock(), []
    all_here = threading.Barrier(BATCHES_AT_ONCE)

    def infer(request, context):
        with lock:
            together[0] += 1
            most.append(together[0])
        all_here.wait(30)
        with lock:
            together[0] -= 1
        return embed_lengths(request, context)

    server.infer = infer
    run(server, lambda models: models.embed(["x"] * 4 * 2 * BATCHES_AT_ONCE, "embedding"))
    assert max(most) == BATCHES_AT_ONCE


def test_an_error_of_one_batch_is_the_requests(server):
    def infer(request, context):
        if "bad" in texts_of(request):
            import grpc

            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "[INVALID_ARG] a text is bad")
        return embed_lengths(request, context)

    server.infer = infer
    with pytest.raises(InvalidInputError, match="a text is bad"):
        run(server, lambda models: models.embed(["x"] * 9 + ["bad"] + ["x"] * 9, "embedding"))


def test_passages_are_scored_in_one_request(server):
    server.infer = lambda request, context: response_of(
        {"score": [[0.5, -1.5]], "truncated_tokens": [[0, 3]]}
    )
    found = run(server, lambda models: models.rerank("q", ["a", "b"], "reranker"))
    assert (found.scores.tolist(), found.truncated.tolist()) == ([0.5, -1.5], [0, 3])
    (request,) = server.requests
    assert (texts_of(request, "query"), texts_of(request, "passages")) == (["q"], ["a", "b"])
    assert run(server, lambda models: models.rerank("q", [], "reranker")).scores.shape == (0,)


def test_texts_are_classified_in_batches(server):
    def infer(request, context):
        rows = len(texts_of(request))
        return response_of({"label": [["good", "bad"]] * rows, "score": [[0.75, 0.25]] * rows})

    server.infer = infer
    found = run(server, lambda models: models.classify(["a", "b", "c"], "classes"))
    assert [(one.labels, one.score.tolist()) for one in found] == [(("good", "bad"), [0.75, 0.25])] * 3
    assert sorted(len(texts_of(request)) for request in server.requests) == [1, 2]


def test_what_becomes_of_long_texts_is_said_to_a_model_that_takes_it(server):
    server.configs["embedding"] = config_of(
        "embedding", backend="text_encoder", inputs=["text", "over_length"], rows=4
    )
    server.infer = embed_lengths
    run(server, lambda models: models.embed(["a", "b"], "embedding", over_length="split"))
    assert texts_of(server.requests[0], "over_length") == ["split", "split"]


def test_a_model_of_an_older_configuration_is_not_told_and_splits_nothing(server):
    server.infer = embed_lengths
    for policy in ("error", "truncate"):
        found = run(server, lambda models, said=policy: models.embed(["a b"], "embedding", over_length=said))
        assert found.truncated.tolist() == [1]
    assert {tensor.name for request in server.requests for tensor in request.inputs} == {"text"}
    for act in ("classify", "rerank"):
        asked = {"classify": (["a"], "classes"), "rerank": ("q", ["a"], "reranker")}[act]
        with pytest.raises(InvalidInputError, match="does not take it; write it anew"):
            run(
                server, lambda models, name=act, said=asked: getattr(models, name)(*said, over_length="split")
            )


def test_a_text_that_is_too_long_is_named_by_its_place_in_the_request_whatever_batch_it_is_in(server):
    def infer(request, context):
        if "long" in texts_of(request):
            import grpc

            row = f"row {texts_of(request).index('long')}: " if len(texts_of(request)) > 1 else ""
            said = f"[INVALID_ARG] [OVER_LENGTH] {row}text has 9 tokens"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, said)
        return embed_lengths(request, context)

    server.infer = infer
    for texts in (["x"] * 5 + ["long", "x"], ["x"] * 4 + ["long"]):
        with pytest.raises(OverLengthError, match=rf"^row {texts.index('long')}: text has 9 tokens"):
            run(server, lambda models, given=texts: models.embed(given, "embedding"))


def test_a_search_goes_out_with_its_tenant_and_its_user(server):
    server.infer = lambda request, context: response_of(
        {"id": [["a#0"]], "text": [["oars"]], "metadata": [["{}"]], "score": [[0.5]]}
    )
    call = SearchCall("q", "acme", "docs", user="ann", top_k=3, filter='{"a": 1}', mode="text")
    (hit,) = run(server, lambda models: models.search(call))
    assert (hit.id, hit.text, hit.score) == ("a#0", "oars", 0.5)
    (request,) = server.requests
    assert request.parameters["trireme_user"].string_param == "ann"
    assert [
        texts_of(request, name) for name in ("query", "tenant", "collection", "filter", "search_mode")
    ] == [
        ["q"],
        ["acme"],
        ["docs"],
        ['{"a": 1}'],
        ["text"],
    ]
    run(server, lambda models: models.search(SearchCall("q", "acme", "docs")))
    assert {tensor.name for tensor in server.requests[1].inputs} == {"query", "tenant", "collection"}
    run(server, lambda models: models.search(SearchCall("q", "acme", "docs", rerank_depth=0)))
    sent = dict(
        zip(
            (one.name for one in server.requests[2].inputs),
            server.requests[2].raw_input_contents,
            strict=True,
        )
    )
    assert int.from_bytes(sent["rerank_depth"], "little") == 0


def test_the_server_is_told_how_long_the_client_waits(server):
    left = []

    def answer(outputs):
        def act(request, context):
            left.append(context.time_remaining())
            return outputs(request, context) if callable(outputs) else response_of(outputs)

        return act

    server.infer = answer(embed_lengths)
    run(server, lambda models: models.embed(["a"], "embedding", seconds=5.0))
    # Two batches of four rows have it together.
    run(server, lambda models: models.embed(["a"] * 8, "embedding", seconds=4.0))
    server.infer = answer({"score": [[0.5]], "truncated_tokens": [[0]]})
    run(server, lambda models: models.rerank("q", ["p"], "reranker", seconds=3.0))
    server.infer = answer({"id": [["a"]], "text": [["b"]], "metadata": [["{}"]], "score": [[0.5]]})
    run(server, lambda models: models.search(SearchCall("q", "acme", "docs", seconds=2.0)))
    run(server, lambda models: models.search(SearchCall("q", "acme", "docs", seconds=99.0)))
    most = [5.0, 4.0, 4.0, 3.0, 2.0, 10.0]
    # gRPC rounds up.
    assert all(0 < seconds <= limit + 0.2 for seconds, limit in zip(left, most, strict=True))


def test_a_batch_whose_time_is_over_is_not_sent(server):
    server.infer = embed_lengths
    with pytest.raises(UnavailableError):
        run(server, lambda models: models.embed(["a"] * 8, "embedding", seconds=1e-9))
    assert server.requests == []


def test_a_model_for_something_else_is_refused_and_one_that_is_private_is_not_there(server):
    with pytest.raises(InvalidInputError, match="reranks passages") as found:
        run(server, lambda models: models.embed(["a"], "reranker"))
    assert found.value.param == "model"
    for name in ("none", "search__sort"):
        with pytest.raises(NotFoundError, match=f"no model '{name}' is served here"):
            run(server, lambda models, name=name: models.embed(["a"], name))
    assert server.requests == []


def test_a_models_configuration_is_asked_once_in_a_while(server, monkeypatch):
    server.infer = embed_lengths

    async def twice(models):
        await models.embed(["a"], "embedding")
        await models.embed(["a"], "embedding")

    run(server, twice)
    assert server.config_questions == ["embedding"]
    monkeypatch.setattr(triton_models, "FACTS_SECONDS", 0.0)
    run(server, twice)
    assert server.config_questions == ["embedding"] * 3


SERVED = [
    served_models.ServedModel("embedding", "text_encoder", True, inputs=("text",)),
    served_models.ServedModel("ingest", "ingester", True),
    served_models.ServedModel("llm", "generator", False, "no weights"),
    served_models.ServedModel(
        "newer", "generator", True, inputs=("return_num_cached_tokens",), alternatives=20
    ),
    served_models.ServedModel(
        "rag", "rag", True, inputs=("text_input",), version="r", steps=("search__sort",)
    ),
    served_models.ServedModel("rag2", "rag", True, inputs=("text_input", "return_evidence", "return_prompt")),
    served_models.ServedModel("search__sort", "sort", True, version="s"),
]
LISTED = [
    ServedModel("embedding", "embed", True, versions=(("embedding", ""),)),
    ServedModel("llm", "chat", False, versions=(("llm", ""),)),
    ServedModel("newer", "chat", True, takes_cached_flag=True, alternatives=20, versions=(("newer", ""),)),
    # A step that clients may not name has a version all the same.
    ServedModel("rag", "answer", True, versions=(("rag", "r"), ("search__sort", "s"))),
    ServedModel("rag2", "answer", True, versions=(("rag2", ""),), says_findings=True),
]


def test_callers_share_one_question_and_its_answer_for_a_while(server, monkeypatch):
    asked, all_wait = [], threading.Event()

    def read(host, http_port, metrics_port):
        asked.append((host, http_port, metrics_port))
        assert all_wait.wait(30)
        return SERVED

    monkeypatch.setattr(triton_models, "read_served_models", read)

    async def act(models):
        tasks = [asyncio.create_task(models.models()) for _ in range(5)]
        await asyncio.sleep(0)
        # One that goes away leaves the answer to the others.
        tasks[0].cancel()
        all_wait.set()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        return [*found[1:], await models.models()]

    assert run(server, act) == [LISTED] * 5
    assert asked == [("127.0.0.1", 1, 2)]


def test_a_failed_question_is_everybodys_error_and_is_asked_again(server, monkeypatch):
    answers = iter([UnavailableError("no tritonserver answers"), SERVED])

    def read(*_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(triton_models, "read_served_models", read)

    async def act(models):
        with pytest.raises(UnavailableError):
            await models.models()
        return await models.models()

    assert run(server, act) == LISTED


def test_while_near_servers_are_silent_models_are_another_regions_and_of_no_known_version(
    server, monkeypatch
):
    def read(*_):
        raise UnavailableError("no tritonserver answers")

    monkeypatch.setattr(triton_models, "read_served_models", read)

    async def act():
        client = AsyncTritonClient(server.url, 10.0)
        models = TritonModels(client, "127.0.0.1", 1, 2, far_names=["embedding", "none"])
        try:
            return await models.models()
        finally:
            await models.close()

    found = {model.name: model for model in asyncio.run(act())}
    assert found.keys() == {"embedding", "reranker", "classes", "search"}
    assert found["embedding"] == ServedModel(
        "embedding", "embed", True, versions=(("embedding", ""),), is_far=True
    )
    assert all(model.is_far and not model.digest for model in found.values())
    assert [model.name for model in found.values() if model.is_ready] == ["embedding"]


def test_an_answer_that_is_old_is_asked_again(server, monkeypatch):
    asked = []
    monkeypatch.setattr(triton_models, "read_served_models", lambda *_: asked.append(1) or SERVED)
    monkeypatch.setattr(triton_models, "INDEX_SECONDS", 0.0)

    async def act(models):
        await models.models()
        await models.models()

    run(server, act)
    assert len(asked) == 2


def test_a_models_configuration_is_waited_for_no_longer_than_the_answer_may_take():
    asked = []

    class Client:
        async def read_facts(self, model, seconds=0.0):
            asked.append((model, seconds))
            raise DeadlineError("late")

    async def act():
        models = TritonModels(Client(), "127.0.0.1", 1, 1)
        for call in (
            models.embed(["a"], "embedding", seconds=2.0),
            models.rerank("q", ["a"], "reranker", seconds=3.0),
            models.classify(["a"], "labels", seconds=4.0),
            models.search(SearchCall("q", "acme", "docs", seconds=5.0)),
            models.search(SearchCall("q", "acme", "docs")),
        ):
            with pytest.raises(DeadlineError):
                await call

    asyncio.run(act())
    assert asked == [("embedding", 2.0), ("reranker", 3.0), ("labels", 4.0), ("search", 5.0), ("search", 0.0)]


def test_each_adapter_of_a_generator_is_a_model_that_clients_may_name(server, monkeypatch):
    llm = served_models.ServedModel(
        "llm", "generator", True, digest="d", version="v", alternatives=20, adapters=("law", "art")
    )
    monkeypatch.setattr(triton_models, "read_served_models", lambda *_: [llm])
    found = run(server, lambda models: models.models())
    base = ServedModel("llm", "chat", True, "d", alternatives=20, versions=(("llm", "v"),))
    assert found == [base, *(replace(base, name=name) for name in ("llm:law", "llm:art"))]
