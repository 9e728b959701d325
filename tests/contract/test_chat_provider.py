"""The port of chat providers: one suite over every implementation, and over the fake of unit tests."""

import asyncio
from contextlib import contextmanager

import pytest

from fakes import upstreams
from fakes.gateways import Echo
from fakes.grpc_server import config_of, response_of
from fakes.grpc_server import serving as serving_grpc
from trireme.errors import UnsupportedError
from trireme.providers.chat import ChatCall, Finished, Message, Started, Text, TextDelta, Usage
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.registry import PROVIDERS, ProviderOptions, open_provider

LIMITS = AttemptLimits(first=60.0, between=60.0, total=120.0)
NOBODY = {"triton": "127.0.0.1:1", "openai": "http://127.0.0.1:1/v1", "anthropic": "http://127.0.0.1:1"}


@contextmanager
def http(kind, path=""):
    with upstreams.serving() as upstream:
        yield (
            lambda: open_provider(kind, ProviderOptions(kind, upstream.url + path, "sk-test")),
            lambda: upstream.answering,
        )


@contextmanager
def triton():
    running = []

    def stream(request, context):
        counts = {"num_input_tokens": [2], "num_output_tokens": [3]}
        if "count_tokens" in request.parameters:
            yield response_of({"text_output": [""], "finish_reason": ["stop"], **counts}, is_last=True)
            return
        running.append(request)
        context.add_callback(lambda: running.remove(request))
        text = next(
            raw
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
            if tensor.name == "messages"
        )
        words = text[4:].decode().partition('"content": "')[2].partition('"')[0].split(" ")
        for place, word in enumerate(words):
            yield response_of(
                {"text_output": [word if place == 0 else f" {word}"], "finish_reason": [""]}, is_last=False
            )
        yield response_of({"text_output": [""], "finish_reason": ["stop"], **counts}, is_last=True)

    with serving_grpc() as (server, url):
        server.configs = {"echo": config_of("echo", backend="generator")}
        server.stream = stream
        yield lambda: open_provider("triton", ProviderOptions("triton", url)), lambda: len(running)


@contextmanager
def fake():
    def script(call, model):
        yield Started(model)
        yield TextDelta(call.messages[-1].text)
        yield Usage(1, 1)
        yield Finished("stop")

    echo = Echo(script)
    yield lambda: echo, lambda: echo.open


# A new provider is one line here.
OPENERS = {
    "fake": fake,
    "triton": triton,
    "openai": lambda: http("openai", "/v1"),
    "anthropic": lambda: http("anthropic"),
}


def test_every_provider_of_the_registry_is_in_this_suite():
    assert set(PROVIDERS) == set(OPENERS) - {"fake"}


@pytest.fixture(params=sorted(OPENERS))
def opened(request):
    with OPENERS[request.param]() as (open_one, running):
        yield open_one, running


def call_of(text="one two three four five six seven", **changes):
    values = {
        "surface": "responses",
        "model": "m",
        "messages": (Message("user", (Text(text),)),),
        "max_tokens": 50,
    }
    return ChatCall(**{**values, **changes})


def run(open_one, act):
    async def inner():
        provider = open_one()
        try:
            return await act(provider)
        finally:
            await provider.close()
            await provider.close()

    return asyncio.run(inner())


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_begins_with_started_and_ends_with_its_reason(opened, stream):
    async def act(provider):
        return [event async for event in provider.chat(call_of(stream=stream), "echo", LIMITS)]

    events = run(opened[0], act)
    assert isinstance(events[0], Started)
    assert sum(isinstance(event, Started) for event in events) == 1
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == "one two three four five six seven"
    ends = [place for place, event in enumerate(events) if isinstance(event, Finished)]
    assert len(ends) == 1
    assert all(isinstance(event, Usage) for event in events[ends[0] + 1 :])
    usage = [event for event in events if isinstance(event, Usage)][-1]
    assert usage.input_tokens >= 1
    assert usage.output_tokens >= 1


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_an_answer_that_nobody_wants_on_is_ended(opened, way):
    open_one, running = opened

    async def act(provider):
        events = provider.chat(call_of(stream=True), "echo", LIMITS)
        assert isinstance(await anext(events), Started)
        if way == "cancel":
            task = asyncio.ensure_future(anext(events))
            task.cancel()
            await asyncio.wait([task])
        await events.aclose()
        for _ in range(6000):
            if running() == 0:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the call goes on")

    run(open_one, act)


def test_whether_a_call_can_be_taken_is_said_without_asking_anybody(opened):
    async def act(provider):
        return provider.find_fault(call_of(), "echo")

    assert run(opened[0], act) == ""


def test_tokens_are_counted_or_the_provider_says_that_it_cannot(opened):
    async def act(provider):
        try:
            return await provider.count_tokens(call_of(), "echo")
        except (UnsupportedError, ProviderError) as error:
            assert str(error)
            return 1

    assert run(opened[0], act) >= 1


@pytest.mark.parametrize("kind", sorted(PROVIDERS))
def test_a_provider_that_is_not_there_is_no_connection(kind):
    async def act(provider):
        return [event async for event in provider.chat(call_of(stream=True), "echo", LIMITS)]

    with pytest.raises(ProviderError) as caught:
        run(lambda: open_provider(kind, ProviderOptions(kind, NOBODY[kind])), act)
    assert caught.value.kind == "connect"
    assert caught.value.remedy in ("again", "next")
