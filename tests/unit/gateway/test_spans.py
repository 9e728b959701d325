"""Spans and GenAI metrics of requests over HTTP: the right tree, OpenTelemetry's names, no secrets."""

import json
import re

import numpy as np
import pytest

from fakes.gateways import SECRET, Echo, FakeGateway, Models
from fakes.spans import KeptSpans
from trireme.errors import UnavailableError
from trireme.observe import metrics as names
from trireme.observe.trace import CURRENT, read_span
from trireme.providers.chat import Finished, Started, TextDelta, Usage
from trireme.providers.models import Embedded, ServedModel
from trireme.providers.port import ProviderError

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FILE = """
[providers.first]
kind = "openai"
url = "https://api.first.test/v1"

[providers.second]
kind = "anthropic"
url = "http://second.test:8443"

[models.assistant]
chain = ["first:small", "second:large"]

[models.alone]
chain = ["first:small"]
"""
CANARY = "canary-4711"
BODY = {"model": "assistant", "messages": [{"role": "user", "content": f"a secret: {CANARY}"}]}


def answered(call, model):
    return [
        Started(f"{model}-2026"),
        TextDelta(f"about {CANARY}"),
        Usage(7, 5, cached_tokens=3, reasoning_tokens=2),
        Finished("stop"),
    ]


class Seen(Echo):
    """Also keeps the traceparent that each call would send."""

    def __init__(self, script):
        super().__init__(script)
        self.told = []

    async def chat(self, call, model, limits):
        self.told.append(CURRENT.get().child())
        async for event in super().chat(call, model, limits):
            yield event


class Embedders(Models):
    def __init__(self, trouble=None):
        super().__init__([ServedModel("llm", "chat", True), ServedModel("embedding", "embed", True)])
        self.trouble = trouble

    async def embed(self, texts, model, input_type, dimensions, seconds=None, *, over_length=None):
        if self.trouble:
            raise self.trouble
        self.told = CURRENT.get().child()
        return Embedded(
            np.ones((len(texts), 4), np.float32), np.array([3] * len(texts)), np.zeros(len(texts))
        )


def served(script=answered, spans=None, **more):
    kept = spans or KeptSpans()
    return kept, FakeGateway(Seen(script), file=FILE, spans=kept, **more)


def chat(gateway, headers=None, **more):
    return gateway.ask("POST", "/v1/chat/completions", {**BODY, **more}, headers)


def page(gateway):
    return gateway.ask("GET", "/metrics")[2].decode()


def test_a_chat_is_a_server_span_with_a_client_span_below_it():
    kept, opened = served()
    with opened as gateway:
        assert chat(gateway, {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "follow-1"})[0] == 200
        (told,) = gateway.provider.told
    request, call = kept.named("POST /v1/chat/completions"), kept.named("chat small")
    assert (request.trace, request.parent, request.kind) == (TRACE, PARENT, "server")
    assert (call.trace, call.parent, call.kind) == (TRACE, request.span, "client")
    # What the provider is told is the call's span.
    assert read_span(told) == (TRACE, call.span, True)
    assert request.began <= call.began <= call.ended <= request.ended
    assert request.error == call.error == ""
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "trireme.request": "follow-1",
        "trireme.endpoint": "chat",
        "trireme.outcome": "ok",
        "trireme.tenant": "acme",
        "trireme.model": "assistant",
        "trireme.served_by": "first:small",
        "trireme.attempts": 1,
    }
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small-2026",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "server.address": "api.first.test",
        "server.port": 443,
    }


def test_each_attempt_is_a_span_and_the_one_that_failed_says_why():
    def script(call, model):
        if model == "small":
            return [ProviderError("overloaded", "next", "overloaded", status=503)]
        return answered(call, model)

    kept, opened = served(script)
    with opened as gateway:
        assert chat(gateway)[0] == 200
        told = [read_span(one)[1] for one in gateway.provider.told]
    failed, good = kept.named("chat small"), kept.named("chat large")
    assert (failed.error, good.error) == ("overloaded", "")
    assert failed.attributes["http.response.status_code"] == 503
    assert good.attributes["gen_ai.provider.name"] == "anthropic"
    assert (good.attributes["server.address"], good.attributes["server.port"]) == ("second.test", 8443)
    assert told == [failed.span, good.span]
    request = kept.named("POST /v1/chat/completions")
    assert {failed.parent, good.parent} == {request.span}
    assert request.attributes["trireme.attempts"] == 2


def test_a_streamed_answer_says_when_its_first_content_came():
    kept, opened = served()
    with opened as gateway:
        assert chat(gateway, stream=True)[0] == 200
        text = page(gateway)
    call = kept.named("chat small")
    assert call.attributes["gen_ai.request.stream"] is True
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] <= (call.ended - call.began) / 1e9
    assert f"{names.CLIENT_FIRST_CHUNK.name}_count{{" in text


def test_an_answer_that_fails_is_an_error_of_the_request_and_a_clients_own_is_not():
    kept, opened = served(lambda call, model: [ProviderError("broken", "next", "server", status=500)])
    with opened as gateway:
        assert chat(gateway)[0] >= 500
        assert chat(gateway, messages=[])[0] == 400
    bad, wrong = (span for span in kept.kept if span.kind == "server")
    assert bad.error == "server"
    assert (wrong.error, wrong.attributes["http.response.status_code"]) == ("", 400)


def test_embeddings_are_a_call_of_our_own_server_and_a_failed_one_says_so():
    server = Embedders()
    kept, opened = served(server=server)
    with opened as gateway:
        body = {"model": "embedding", "input": ["a", "b"]}
        assert gateway.ask("POST", "/v1/embeddings", body)[0] == 200
        server.trouble = UnavailableError("away")
        assert gateway.ask("POST", "/v1/embeddings", {**body, "input": "c"})[0] == 503
    first, second = (span for span in kept.kept if span.kind == "client")
    assert first.name == "embeddings embedding"
    assert read_span(server.told)[1] == first.span
    assert first.attributes == {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "triton",
        "gen_ai.request.model": "embedding",
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.embeddings.dimension.count": 4,
        "server.address": "127.0.0.1",
        "server.port": 8001,
    }
    assert second.error == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("percent", "flags", "is_kept"), [(0, "", False), (100, "", True), (0, "01", True), (100, "00", False)]
)
def test_who_began_the_trace_decides_and_else_the_share(percent, flags, is_kept):
    kept, opened = served(spans=KeptSpans(percent))
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"} if flags else {}
    with opened as gateway:
        assert chat(gateway, headers)[0] == 200
        (told,) = gateway.provider.told
    assert bool(kept.kept) == is_kept
    assert read_span(told)[2] == is_kept


def test_no_span_and_no_metric_holds_a_prompt_an_answer_or_a_key():
    kept, opened = served()
    with opened as gateway:
        chat(gateway, {"x-canary": CANARY, "cookie": CANARY})
        gateway.ask("GET", f"/nowhere/{CANARY}?q={CANARY}")
        text = page(gateway)
    said = json.dumps([[span.name, dict(span.attributes)] for span in kept.kept])
    assert "POST /v1/chat/completions" in said
    assert CANARY not in said + text
    assert SECRET not in said + text


def test_open_paths_leave_no_span_unless_somebody_asks():
    kept, opened = served()
    with opened as gateway:
        gateway.ask("GET", "/healthz")
        page(gateway)
        assert kept.kept == []
        gateway.ask("GET", "/healthz", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        assert [span.name for span in kept.kept] == ["GET /healthz"]


def test_the_metrics_of_calls_have_opentelemetrys_names_with_bounded_labels():
    def script(call, model):
        if "unheard" in model:
            return [ProviderError("unknown", "next", "not_found", status=404)]
        return answered(call, model)

    _, opened = served(script)
    with opened as gateway:
        chat(gateway)
        for number in range(20):
            gateway.ask("POST", "/v1/chat/completions", {**BODY, "model": f"unheard-{number}"})
            gateway.ask("POST", "/v1/chat/completions", {**BODY, "model": f"first/unheard-{number}"})
        text = page(gateway)
    whom = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="small"'
    assert re.search(rf'gen_ai_client_token_usage_sum{{{whom},gen_ai_token_type="input"}} 7.0', text)
    assert re.search(rf'gen_ai_client_token_usage_sum{{{whom},gen_ai_token_type="output"}} 5.0', text)
    assert re.search(rf'gen_ai_client_operation_duration_seconds_count{{error_type="",{whom}}} 1.0', text)
    assert "unheard" not in "".join(line for line in text.splitlines() if line.startswith("gen_ai_"))


def test_the_page_says_what_became_of_spans_where_some_are_sent():
    _, opened = served()
    with opened as gateway:
        chat(gateway)
        assert f'{names.SPANS.name}{{outcome="sent"}} 2.0' in page(gateway)
    with FakeGateway(Seen(answered), file=FILE) as gateway:
        chat(gateway)
        assert f"{names.SPANS.name}{{" not in page(gateway)
