"""Anthropic's API as a provider: recorded streams cut everywhere, and calls over HTTP on 127.0.0.1."""

import asyncio
import json
from contextlib import aclosing

import pytest

from fakes import anthropic_streams as streams
from fakes.upstreams import serving
from trireme.gateway.surface import Envelope
from trireme.gateway.wire import openai_chat
from trireme.gateway.wire.anthropic import read, whole
from trireme.providers.anthropic import AnthropicProvider
from trireme.providers.anthropic_bodies import write_body
from trireme.providers.anthropic_events import AnswerReader
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Message,
    Started,
    Text,
    TextDelta,
    ToolDelta,
    ToolStart,
    Usage,
)
from trireme.providers.openai_bodies import write_body as write_openai_body
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.registry import ProviderOptions
from trireme.providers.sse import SseReader

LIMITS = AttemptLimits(first=20.0, between=20.0, total=60.0)
ASK = (Message("user", (Text("one two three four"),)),)


def read_pieces(*pieces):
    """The events of a stream that comes in these pieces, and whether it ended well."""
    frames, reader = SseReader(), AnswerReader(keeps_ids=True)
    events = [event for piece in pieces for frame in frames.feed(piece) for event in reader.read(frame.data)]
    return events, reader.is_stopped


@pytest.mark.parametrize("name", streams.WHOLE)
def test_a_stream_reads_the_same_wherever_it_is_cut_in_two(name):
    sent = streams.WHOLE[name]
    expected = read_pieces(sent)
    assert expected[1]
    for place in range(len(sent) + 1):
        assert read_pieces(sent[:place], sent[place:]) == expected


@pytest.mark.parametrize("name", streams.WHOLE)
def test_a_stream_reads_the_same_byte_by_byte_and_with_other_line_ends(name):
    sent = streams.WHOLE[name]
    expected = read_pieces(sent)
    assert read_pieces(*(sent[place : place + 1] for place in range(len(sent)))) == expected
    for end in (b"\r\n", b"\r"):
        # A lone CR at the end may be half of CRLF: the next byte tells.
        assert read_pieces(sent.replace(b"\n", end), b":\n") == expected


@pytest.mark.parametrize("name", streams.WHOLE)
def test_a_stream_that_breaks_off_at_any_byte_never_looks_whole(name):
    sent = streams.WHOLE[name]
    events, _ = read_pieces(sent)
    for place in range(len(sent) - 1):
        got, is_stopped = read_pieces(sent[:place])
        assert not is_stopped
        assert got == events[: len(got)]
        assert not any(isinstance(event, Finished) for event in got)


async def gather(provider, call, model):
    try:
        async with aclosing(provider.chat(call, model, LIMITS)) as coming:
            return [event async for event in coming]
    finally:
        await provider.close()


def ask(call, model="echo", key="sk-test"):
    """The events of a call, and the request that the provider made for it."""
    with serving() as upstream:
        provider = AnthropicProvider(ProviderOptions("big", upstream.url, key))
        events = asyncio.run(gather(provider, call, model))
        return events, upstream.calls[-1]


def fault(call, model):
    with pytest.raises(ProviderError) as caught:
        ask(call, model)
    return caught.value


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_comes_over_http(stream):
    events, made = ask(ChatCall("openai", "any", ASK, stream=stream))
    assert isinstance(events[0], Started)
    assert text_of(events) == "one two three four"
    assert [event for event in events if isinstance(event, Usage)][-1].output_tokens
    assert isinstance(events[-1], Finished)
    assert made.path == "/v1/messages"
    assert made.headers["x-api-key"] == "sk-test"
    assert made.headers["anthropic-version"] == "2023-06-01"
    assert "anthropic-beta" not in made.headers
    assert "authorization" not in made.headers
    assert (made.body["model"], made.body["stream"]) == ("echo", stream)


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_of_its_own_arrives_as_the_client_wrote_it(stream):
    body = {
        "model": "any",
        "max_tokens": 9,
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}],
            }
        ],
        "stream": stream,
        "metadata": {"user_id": "u"},
        "trireme": {"collection": "x"},
    }
    call = read(body, {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"})
    _, made = ask(call)
    assert made.body == {field: value for field, value in body.items() if field != "trireme"} | {
        "model": "echo"
    }
    assert made.headers["anthropic-version"] == "2026-10-21"
    assert made.headers["anthropic-beta"] == "a-1,b-2"


@pytest.mark.parametrize("stream", [True, False])
def test_calls_of_tools_come_over_http(stream):
    body = {
        "model": "any",
        "messages": [{"role": "user", "content": "go"}],
        "tools": [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("f", "g")],
        "stream": stream,
    }
    events, made = ask(openai_chat.read(body, {}))
    starts = [event for event in events if isinstance(event, ToolStart)]
    assert [start.name for start in starts] == ["f", "g"]
    assert all(start.id.startswith("call_") for start in starts)
    for start in starts:
        arguments = [e.arguments for e in events if isinstance(e, ToolDelta) and e.index == start.index]
        assert isinstance(json.loads("".join(arguments)), dict)
    assert events[-1].reason == "tool_use"
    assert [tool["name"] for tool in made.body["tools"]] == ["f", "g"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("model", "remedy", "kind"),
    [
        ("fault-status_400", "give_up", "invalid"),
        ("fault-status_401", "rotate", "auth"),
        ("fault-status_429", "again", "rate_limit"),
        ("fault-status_529", "again", "overloaded"),
        ("fault-too_long", "larger", "too_long"),
        ("fault-cut-middle", "again", "cut"),
        ("fault-malformed-middle", "next", "malformed"),
    ],
)
def test_a_fault_says_what_may_help(stream, model, remedy, kind):
    error = fault(ChatCall("openai", "any", ASK, stream=stream), model)
    assert (error.remedy, error.kind) == (remedy, kind)


@pytest.mark.parametrize(("stream", "kind"), [(True, "overloaded"), (False, "server")])
def test_an_error_within_a_200_is_an_error(stream, kind):
    error = fault(ChatCall("openai", "any", ASK, stream=stream), "fault-error_in_200-before_content")
    assert (error.remedy, error.kind) == ("again", kind)


def test_a_stream_that_http_ends_before_its_own_end_was_cut():
    error = fault(ChatCall("openai", "any", ASK, stream=True), "fault-end-after_content")
    assert error.kind == "cut"


def test_tokens_are_counted_by_the_api():
    async def count(url):
        provider = AnthropicProvider(ProviderOptions("big", f"{url}/v1", "sk-test"))
        try:
            return await provider.count_tokens(ChatCall("openai", "any", ASK, max_tokens=5), "claude-1")
        finally:
            await provider.close()

    with serving() as upstream:
        assert asyncio.run(count(upstream.url)) > 0
        [made] = upstream.calls
    assert made.path == "/v1/messages/count_tokens"
    assert set(made.body) == {"model", "messages"}


def test_what_the_client_thought_of_as_openai_s_is_told_to_anthropic_in_its_own_words():
    body = {
        "model": "any",
        "messages": [
            {"role": "system", "content": "Be true."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_a", "type": "function", "function": {"name": "w", "arguments": '{"x":1}'}},
                    {"id": "call_b", "type": "function", "function": {"name": "w", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "12"},
            {"role": "tool", "tool_call_id": "call_b", "content": "13"},
            {"role": "user", "content": "So?"},
        ],
        "tools": [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_completion_tokens": 50,
        "stop": "END",
        "temperature": 0.5,
    }
    assert write_body(openai_chat.read(body, {}), "claude-1") == {
        "model": "claude-1",
        "max_tokens": 50,
        "stream": False,
        "system": [{"type": "text", "text": "Be true."}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "toolu_a", "name": "w", "input": {"x": 1}},
                    {"type": "tool_use", "id": "toolu_b", "name": "w", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_a",
                        "content": [{"type": "text", "text": "12"}],
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_b",
                        "content": [{"type": "text", "text": "13"}],
                    },
                    {"type": "text", "text": "So?"},
                ],
            },
        ],
        "tools": [{"name": "w", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "stop_sequences": ["END"],
        "temperature": 0.5,
    }


def test_what_comes_from_anthropic_s_client_is_told_to_openai_in_its_own_words():
    turns = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "tool_use", "id": "toolu_a", "name": "w", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_a", "content": "12"},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    tools = [{"name": "w", "input_schema": {"type": "object"}}]
    call = read(
        {
            "model": "any",
            "max_tokens": 50,
            "system": "Be true.",
            "messages": turns,
            "tools": tools,
            "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
            "stop_sequences": ["END"],
        },
        {},
    )
    body = write_openai_body(call, "gpt-5", "off")
    assert [message["role"] for message in body["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "user",
    ]
    [tool_call] = body["messages"][2]["tool_calls"]
    assert json.loads(tool_call["function"]["arguments"]) == {"x": 1}
    assert tool_call["id"] == body["messages"][3]["tool_call_id"]
    assert "hm" not in json.dumps(body)
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "stop"),
    ],
)
def test_a_reason_of_anthropic_s_has_its_twin_at_openai(said, told):
    sent = streams.start() + streams.ended(
        said, {"output_tokens": 1}, "END" if said == "stop_sequence" else None
    )
    events, _ = read_pieces(sent)
    call, envelope = ChatCall("openai", "any"), Envelope("1", 1, "m")
    assert openai_chat.OPENAI.whole(call, envelope, events)["choices"][0]["finish_reason"] == told


def test_the_same_answer_goes_to_both_kinds_of_clients():
    events, _ = read_pieces(streams.TOOLS)
    envelope = Envelope("1", 1, "m")
    ours = openai_chat.OPENAI.whole(ChatCall("openai", "any"), envelope, events)
    theirs = whole(ChatCall("anthropic", "any"), envelope, events)
    assert ours["choices"][0]["finish_reason"] == "tool_calls"
    assert theirs["stop_reason"] == "tool_use"
    calls = ours["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == [
        block["input"] for block in theirs["content"] if block["type"] == "tool_use"
    ]
    # OpenAI's count has the cached tokens in it, Anthropic's leaves them out.
    assert ours["usage"]["prompt_tokens"] == 147
    assert ours["usage"]["prompt_tokens_details"]["cached_tokens"] == 100
    assert theirs["usage"]["input_tokens"] == 40
