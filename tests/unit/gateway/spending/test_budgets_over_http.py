"""Budgets as clients see them: each surface's words, headers, and readiness."""

import asyncio
import http.client
import json
import time

import numpy as np
import pytest

from fakes.gateways import SECRET, Echo, FakeGateway
from fakes.spending import INPUT, World, cap
from trireme.access.keys import Key
from trireme.providers.chat import Finished, Started, TextDelta, Usage
from trireme.providers.models import Embedded, Reranked, ServedModel

MODELS = '[models.m]\nchain = ["a:m"]\n'
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = CHAT | {"max_tokens": 50}
RESPONSES = {"model": "m", "input": "hi", "max_output_tokens": 50}


def script(call, model):
    return [Started(model), TextDelta("one "), TextDelta("two"), Usage(3, 2), Finished("stop")]


class Server:
    """Embeds and ranks, and says what an embedding has read: 3 tokens a text."""

    async def models(self):
        abilities = {"embedding": "embed", "reranker": "rerank", "search": "search", "llm": "chat"}
        return [ServedModel(name, ability, True) for name, ability in abilities.items()]

    async def embed(self, texts, model, input_type=None, dimensions=None, seconds=None, *, over_length=None):
        rows = len(texts)
        return Embedded(np.ones((rows, 2), np.float32), np.full(rows, 3, np.int32), np.zeros(rows, np.int32))

    async def rerank(self, query, passages, model, seconds=None, over_length=None):
        return Reranked(np.ones(len(passages), np.float32), np.zeros(len(passages), np.int32))

    async def search(self, call):
        return []

    async def close(self):
        return None


def gateway_of(world):
    return FakeGateway(Echo(script), file=world.file, spending=world.spending, server=Server())


@pytest.mark.parametrize("window", ["minute", "day", "month"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/completions"])
def test_a_budget_that_is_used_up_is_told_in_the_words_of_each_surface(path, window):
    world = World(cap(INPUT, window=window), file=MODELS)
    bodies = {
        "/v1/chat/completions": CHAT | {"max_tokens": 50},
        "/v1/messages": MESSAGES,
        "/v1/responses": RESPONSES,
        "/v1/completions": {"model": "m", "prompt": "hi", "max_tokens": 300},
    }
    with gateway_of(world) as gateway:
        status, headers, body = gateway.ask("POST", path, bodies[path])
    said = json.loads(body)
    assert status == 429
    assert f"budget of this {window}" in said["error"]["message"]
    # It never fits: even a new minute does not help.
    assert "retry-after" not in headers and headers["x-should-retry"] == "false"
    if path == "/v1/messages":
        assert said["error"]["type"] == "rate_limit_error"
    else:
        assert said["error"]["code"] == "insufficient_quota"
    assert gateway.provider.calls == []


def test_a_minute_that_is_used_up_is_worth_waiting_for():
    world = World(cap(INPUT + 52, window="minute"), file=MODELS)
    with gateway_of(world) as gateway:
        first = gateway.ask("POST", "/v1/chat/completions", CHAT | {"max_tokens": 50})
        status, headers, body = gateway.ask("POST", "/v1/chat/completions", CHAT | {"max_tokens": 50})
    assert (first[0], status) == (200, 429)
    assert 1 <= int(headers["retry-after"]) <= 60
    assert "x-should-retry" not in headers
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


def test_an_answer_whose_max_tokens_was_lowered_says_so():
    world = World(cap(INPUT + 30), file="shrink = true\n" + MODELS)
    with gateway_of(world) as gateway:
        status, headers, _ = gateway.ask("POST", "/v1/chat/completions", CHAT | {"max_tokens": 5000})
        # From here on it is below the least.
        later = gateway.ask("POST", "/v1/chat/completions", CHAT | {"max_tokens": 5000, "stream": True})
    assert (status, headers["x-trireme-max-tokens"]) == (200, "30")
    assert gateway.provider.calls[0].max_tokens == 30
    assert (later[0], later[1]["x-trireme-max-tokens"]) == (200, "25")


def test_what_models_of_our_own_use_counts_and_is_refused_in_their_words():
    world = World(cap(2_000), file=MODELS)
    with gateway_of(world) as gateway:
        texts = ["x" * 100] * 2
        assert gateway.ask("POST", "/v1/embeddings", {"model": "embedding", "input": texts})[0] == 200
        assert gateway.ask("POST", "/v1/search", {"query": "x" * 100})[0] == 200
        ranking = {"model": "reranker", "query": "x" * 100, "documents": ["y" * 100] * 3}
        assert gateway.ask("POST", "/v2/rerank", ranking)[0] == 200
        refused = [
            gateway.ask("POST", "/v1/embeddings", {"model": "embedding", "input": "x" * 9_000}),
            gateway.ask("POST", "/embed", {"inputs": "x" * 9_000}),
            gateway.ask("POST", "/v2/rerank", ranking | {"documents": ["y" * 9_000]}),
        ]
    assert [answer[0] for answer in refused] == [429] * 3
    assert all(b"budget of this day" in answer[2] for answer in refused)
    assert all(b"shorter texts need less" in answer[2] for answer in refused)
    rows = sorted(
        (one.row.endpoint, one.row.tokens, one.row.counted_by) for one in world.ledger.rows.values()
    )
    assert rows == [
        ("embeddings", 6, "provider"),
        ("rerank", 3 * (200 + 32), "bound"),
        ("search", 132, "bound"),
    ]


def test_without_the_store_a_gateway_with_budgets_is_not_ready_and_one_without_is():
    for caps, status in (((cap(1000),), 503), ((), 200)):
        world = World(*caps, file=MODELS)
        with gateway_of(world) as gateway:
            assert gateway.ask("GET", "/readyz")[0] == 200
            world.budgets.is_away = True
            answer = gateway.ask("POST", "/v1/chat/completions", CHAT)
            ready = gateway.ask("GET", "/readyz")
            world.budgets.is_away = False
        assert (answer[0], ready[0]) == (status, status)
        if caps:
            assert "budget store" in json.loads(ready[2])["reasons"][0]
        else:
            assert len(world.ledger.rows) == 1


def test_each_prompt_of_one_request_is_paid_for_by_itself():
    world = World(cap(2_000), file=MODELS)
    body = {"model": "m", "prompt": ["hi", "ho", "hu"], "max_tokens": 10}
    with gateway_of(world) as gateway:
        assert gateway.ask("POST", "/v1/completions", body)[0] == 200
    rows = [one.row for one in world.ledger.rows.values()]
    assert [row.tokens for row in rows] == [5, 5, 5]
    assert len({row.request for row in rows}) == 1 and len({row.attempt for row in rows}) == 3


def test_rows_say_whose_key_it_was():
    world = World(file=MODELS)
    keys = {SECRET: Key("key_1", "acme", "ann"), "tr-bob": Key("key_2", "beta")}
    gateway = FakeGateway(Echo(script), file=world.file, spending=world.spending, keys=keys)
    with gateway:
        for secret in keys:
            gateway.ask("POST", "/v1/chat/completions", CHAT, {"x-request-id": f"of-{secret}"}, secret)
    rows = {
        (one.row.tenant, one.row.user, one.row.key, one.row.request) for one in world.ledger.rows.values()
    }
    assert rows == {("acme", "ann", "key_1", f"of-{SECRET}"), ("beta", "", "key_2", "of-tr-bob")}


LONG = [TextDelta(f"This is sentence {n}. ") for n in range(50)]


def test_a_client_that_does_not_stream_gets_a_sufficient_answer_and_pays_for_no_more():
    def long_script(call, model):
        return [Started(model, 7), *LONG, Usage(7, 250), Finished("stop")]

    world = World(cap(5_000), file=MODELS)
    gateway = FakeGateway(Echo(long_script), file=world.file, spending=world.spending)
    with gateway:
        body = CHAT | {"max_tokens": 500, "trireme": {"stop_when": {"sentences": 2}}}
        status, _, answer = gateway.ask("POST", "/v1/chat/completions", body)
    choice = json.loads(answer)["choices"][0]
    assert (status, choice["finish_reason"]) == (200, "stop")
    assert choice["message"]["content"] == "This is sentence 0. This is sentence 1. "
    assert gateway.provider.calls[0].stream and gateway.provider.open == 0
    (row,) = [one.row for one in world.ledger.rows.values()]
    assert (row.outcome, row.counted_by) == ("stopped", "counted")
    assert row.tokens < 7 + 30


def test_a_client_that_leaves_pays_for_what_had_come():
    def slow_script(call, model):
        return [Started(model, 7), *LONG[:3], asyncio.sleep(30), Finished("stop")]

    world = World(cap(5_000), file=MODELS)
    gateway = FakeGateway(Echo(slow_script), file=world.file, spending=world.spending)
    with gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        headers = {"authorization": f"Bearer {SECRET}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(CHAT | {"stream": True}), headers)
        answer = connection.getresponse()
        answer.read(20)
        answer.close()
        connection.close()
        while not world.budgets.rows and not world.ledger.rows:
            time.sleep(0.01)
    (row,) = [one.row for one in world.ledger.rows.values()]
    # 60 bytes, 3 to a token.
    assert (row.outcome, row.input_tokens, row.output_tokens) == ("client_gone", 7, 20)
