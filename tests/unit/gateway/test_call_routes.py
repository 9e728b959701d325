"""What our own server hears of each request's tenant and priority, over the gateway's real providers."""

import json

import pytest

from fakes.gateways import SECRET, FakeGateway
from fakes.grpc_server import config_of, response_of, serving
from trireme.access.keys import Key
from trireme.providers.models import ServedModel
from trireme.providers.triton_chat import TritonChat
from trireme.providers.triton_models import TritonModels
from trireme.triton.async_client import AsyncTritonClient

STAYS, BULK = "tr-stays", "tr-bulk"
MODELS = [
    ServedModel("embedding", "embed", True),
    ServedModel("reranker", "rerank", True),
    ServedModel("moods", "classify", True),
    ServedModel("search", "search", True),
    ServedModel("llm", "chat", True),
    ServedModel("rag", "answer", True),
]
FILE = """
[local]
region = "eu-west"
other_regions = ["us-east", "ap-south"]

[defaults]
classify = "moods"

[tenants.bank]
forbid_regions = ["US-East"]

[tenants.shop]
forbid_regions = ["mars"]
"""
CONFIGS = {
    "embedding": config_of("embedding", backend="text_encoder", inputs=["text"], rows=1),
    "reranker": config_of("reranker", backend="cross_encoder", inputs=["query", "passages"], rows=16),
    "moods": config_of("moods", backend="cross_encoder", inputs=["text"], rows=2),
    "search": config_of("search", platform="ensemble", inputs=["query", "tenant"], rows=1),
    "llm": config_of("llm", backend="generator"),
    "rag": config_of("rag", backend="rag", inputs=["text_input"]),
}


def infer(request, context):
    rows = request.inputs[0].shape[0]
    if request.model_name == "embedding":
        made = {"embedding": [[1.0]] * rows, "token_count": [[1]] * rows, "truncated_tokens": [[0]] * rows}
    elif request.model_name == "reranker":
        made = {"score": [[1.0]], "truncated_tokens": [[0]]}
    elif request.model_name == "moods":
        made = {"label": [["glad"]] * rows, "score": [[1.0]] * rows}
    else:
        made = {"id": [["a#0"]], "text": [["Oars"]], "metadata": [["{}"]], "score": [[1.0]]}
    return response_of(made)


def stream(request, context):
    if request.model_name == "llm":
        counts = {"num_input_tokens": [1], "num_output_tokens": [1]}
        return iter([response_of({"text_output": ["x"], "finish_reason": ["stop"], **counts})])
    usage = json.dumps({"answer_mode": "extractive", "prompt_tokens": 0, "completion_tokens": 0})
    made = {"text_output": ["x"], "citations": ["[]"], "usage": [usage], "finish_reason": ["stop"]}
    return iter([response_of(made)])


class Lazy:
    """What `make` makes once the gateway's loop runs."""

    def __init__(self, make):
        self._make = make
        self._made = None

    def __getattr__(self, name):
        if self._made is None:
            self._made = self._make()
        return getattr(self._made, name)


class KnownModels(TritonModels):
    async def models(self):
        return MODELS


@pytest.fixture(scope="module")
def heard():
    """Model and metadata of each call that the server gets."""
    return []


@pytest.fixture(scope="module")
def gateway(heard):
    with serving() as (server, url):
        server.configs = CONFIGS

        def listen(answer):
            def hear(request, context):
                heard.append((request.model_name, dict(context.invocation_metadata())))
                return answer(request, context)

            return hear

        server.infer, server.stream = listen(infer), listen(stream)
        keys = {
            SECRET: Key("k", "shop"),
            STAYS: Key("s", "bank"),
            BULK: Key("b", "bank", priority="batch"),
        }
        own = Lazy(lambda: KnownModels(AsyncTritonClient(url, 30.0), "127.0.0.1", 1, 2))
        chats = Lazy(lambda: TritonChat(AsyncTritonClient(url, 30.0)))
        with FakeGateway(chats, keys=keys, file=FILE, server=own) as running:
            yield running
            running.run(own.close())


MESSAGES = [{"role": "user", "content": "Oars?"}]
REQUESTS = {
    "chat": ("/v1/chat/completions", {"model": "llm", "messages": MESSAGES}),
    "streamed chat": ("/v1/chat/completions", {"model": "llm", "messages": MESSAGES, "stream": True}),
    "completions": ("/v1/completions", {"model": "llm", "prompt": ["a", "b"]}),
    "responses": ("/v1/responses", {"model": "llm", "input": "Oars?"}),
    "messages": ("/v1/messages", {"model": "llm", "messages": MESSAGES, "max_tokens": 5}),
    "count": ("/v1/messages/count_tokens", {"model": "llm", "messages": MESSAGES}),
    "rag": ("/v1/chat/completions", {"model": "rag", "messages": MESSAGES}),
    "embeddings": ("/v1/embeddings", {"model": "embedding", "input": ["a", "b", "c"]}),
    "rerank": ("/v1/rerank", {"model": "reranker", "query": "q", "documents": ["a"]}),
    "classify": ("/predict", {"inputs": "a"}),
    "search": ("/v1/search", {"query": "q"}),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_tenant_that_forbids_another_region_has_every_call_stay_and_others_do_not(gateway, heard, name):
    path, body = REQUESTS[name]
    for secret, headers, said in (
        (STAYS, {}, {"trireme-residency": "near"}),
        (STAYS, {"x-trireme-priority": "batch"}, {"trireme-residency": "near", "trireme-priority": "batch"}),
        (BULK, {"x-trireme-priority": "high"}, {"trireme-residency": "near", "trireme-priority": "batch"}),
        (SECRET, {"x-trireme-priority": "batch"}, {"trireme-priority": "batch"}),
        (SECRET, {}, {}),
    ):
        heard.clear()
        status, _, raw = gateway.ask("POST", path, body, headers=headers, secret=secret)
        assert status == 200, raw
        assert heard
        for model, metadata in heard:
            assert metadata["trireme-model"] == model
            assert ours_of(metadata) == said


def test_a_client_cannot_say_where_its_calls_may_go(gateway, heard):
    heard.clear()
    path, body = REQUESTS["embeddings"]
    headers = {"trireme-residency": "everywhere", "trireme-priority": "high"}
    gateway.ask("POST", path, body, headers=headers, secret=BULK)
    assert {json.dumps(ours_of(metadata), sort_keys=True) for _, metadata in heard} == {
        '{"trireme-priority": "batch", "trireme-residency": "near"}'
    }


def ours_of(metadata):
    return {name: metadata[name] for name in ("trireme-priority", "trireme-residency") if name in metadata}
