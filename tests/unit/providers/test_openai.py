"""OpenAI's format as a provider speaks it: recorded streams of several servers, cut everywhere, and bodies."""

import json

import pytest

from trireme.providers.chat import (
    ChatCall,
    Finished,
    Foreign,
    Image,
    Message,
    RefusalDelta,
    Started,
    Text,
    TextDelta,
    Thinking,
    ThinkingDelta,
    Tool,
    ToolDelta,
    ToolResult,
    ToolStart,
    ToolUse,
    Usage,
)
from trireme.providers.openai_bodies import find_fault, write_body
from trireme.providers.openai_events import OpenAIEvents
from trireme.providers.port import ProviderError
from trireme.providers.sse import SseReader


def chunk(delta=None, reason=None, index=0, **more):
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": reason}]
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-5",
        "choices": choices,
        **more,
    }


def stream(*chunks, done=True):
    frames = [f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in chunks]
    return ("".join(frames) + ("data: [DONE]\n\n" if done else "")).encode()


def read(*pieces, choices=1, check=True):
    frames, reader = SseReader(), OpenAIEvents("asked", "openai", choices)
    events = [event for piece in pieces for frame in frames.feed(piece) for event in reader.read(frame)]
    if check:
        reader.check_end()
    return events


def call_piece(index, arguments="", **more):
    return {"tool_calls": [{"index": index, "function": {"arguments": arguments}, **more}]}


def call_start(index, key, name, arguments=""):
    return {
        "tool_calls": [
            {
                "index": index,
                "id": key,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
        ]
    }


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
TEXT = stream(
    chunk({"role": "assistant", "content": ""}, usage=None),
    chunk({"content": "Ru"}),
    chunk({"content": "dern ü\u20ac"}),
    chunk({}, "stop"),
    chunk(usage=USAGE),
)
TEXT_EVENTS = [
    Started("gpt-5"),
    TextDelta("Ru"),
    TextDelta("dern ü\u20ac"),
    Finished("stop"),
    Usage(9, 3, 4, None, 1),
]
TOOLS = stream(
    chunk({"role": "assistant", "content": None}),
    chunk({"content": "Let me see.", **call_start(0, "call_a", "row", '{"oa')}),
    chunk(call_piece(0, 'rs": ')),
    chunk(call_start(1, "call_b", "sail")),
    chunk(call_piece(1, "{}")),
    chunk(call_piece(0, "3}")),
    chunk({"tool_calls": []}),
    chunk({}, "tool_calls"),
)
TOOLS_EVENTS = [
    Started("gpt-5"),
    TextDelta("Let me see."),
    ToolStart(0, "call_a", "row"),
    ToolDelta(0, '{"oa'),
    ToolDelta(0, 'rs": '),
    ToolStart(1, "call_b", "sail"),
    ToolDelta(1, "{}"),
    ToolDelta(0, "3}"),
    Finished("tool_use"),
]


@pytest.mark.parametrize(("raw", "events"), [(TEXT, TEXT_EVENTS), (TOOLS, TOOLS_EVENTS)])
def test_a_stream_is_its_events_wherever_it_is_cut(raw, events):
    assert read(raw) == events
    for cut in range(len(raw)):
        assert read(raw[:cut], raw[cut:]) == events
    assert read(*(raw[place : place + 1] for place in range(len(raw)))) == events


@pytest.mark.parametrize(
    ("usage_chunk", "usage"),
    [
        (chunk(usage={"prompt_tokens": 1, "completion_tokens": 2}), Usage(1, 2)),
        (chunk(choices=None, usage={"prompt_tokens": 1, "completion_tokens": 2}), Usage(1, 2)),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 0}}, Usage(1, 0)),
        (chunk(usage={"prompt_tokens": "many", "completion_tokens": -1}), Usage()),
    ],
)
def test_usage_is_read_from_whatever_chunk_has_it(usage_chunk, usage):
    events = read(stream(chunk({"content": "x"}), chunk({}, "stop"), usage_chunk))
    assert [event for event in events if isinstance(event, Usage)] == [usage]


def test_of_usages_on_each_chunk_the_last_one_comes_last():
    one, two = ({"prompt_tokens": 5, "completion_tokens": count} for count in (1, 2))
    events = read(stream(chunk({"content": "x"}, usage=one), chunk({}, "stop", usage=two)))
    assert [event.output_tokens for event in events if isinstance(event, Usage)] == [1, 2]


def test_a_new_id_is_a_new_call_even_at_an_old_index():
    events = read(
        stream(
            chunk(call_start(0, "call_a", "row", "{}")),
            chunk(call_start(0, "call_b", "sail", "{}")),
            chunk({}, "tool_calls"),
        )
    )
    assert [event for event in events if isinstance(event, ToolStart)] == [
        ToolStart(0, "call_a", "row"),
        ToolStart(1, "call_b", "sail"),
    ]
    assert ToolDelta(1, "{}") in events


def test_an_id_repeated_on_each_piece_is_one_call():
    events = read(
        stream(
            chunk(call_start(0, "call_a", "row", '{"a":')),
            chunk(call_start(0, "call_a", "row", "1}")),
            chunk({}, "tool_calls"),
        )
    )
    assert [event for event in events if isinstance(event, ToolStart)] == [ToolStart(0, "call_a", "row")]


def test_calls_that_end_with_stop_end_as_calls():
    events = read(stream(chunk(call_start(0, "call_a", "row", "{}")), chunk({}, "stop")))
    assert events[-1] == Finished("tool_use")


def test_an_empty_list_of_calls_is_no_call():
    events = read(stream(chunk({"content": "x", "tool_calls": []}), chunk({}, "stop")))
    assert events[-1] == Finished("stop")


def test_choices_end_one_by_one():
    raw = stream(
        chunk({"content": "a"}, index=0),
        chunk({"content": "b"}, index=1),
        chunk({}, "stop", index=1),
        chunk({}, "length", index=0),
    )
    assert read(raw, choices=2)[-2:] == [Finished("stop", 1), Finished("length", 0)]
    with pytest.raises(ProviderError) as caught:
        read(raw, choices=3)
    assert caught.value.kind == "cut"


@pytest.mark.parametrize("done", [True, False])
def test_a_stream_without_a_reason_is_cut_whatever_it_ends_with(done):
    with pytest.raises(ProviderError) as caught:
        read(stream(chunk({"content": "half"}), done=done))
    assert caught.value.kind == "cut"


def test_a_stream_with_a_reason_is_whole_without_its_last_word():
    assert read(stream(chunk({"content": "x"}), chunk({}, "stop"), done=False))[-1] == Finished("stop")


@pytest.mark.parametrize(
    "raw", [b"data: {\n\n", b"data: 7\n\n", b"data: []\n\n", b'data: {"choices": [3]}\n\n']
)
def test_a_frame_that_cannot_be_read_is_a_fault(raw):
    with pytest.raises(ProviderError) as caught:
        read(raw)
    assert (caught.value.kind, caught.value.remedy) == ("malformed", "next")


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        ({"message": "overloaded", "type": "overloaded_error"}, "overloaded", "again"),
        ({"message": "slow down", "code": 429}, "rate_limit", "again"),
        ({"message": "too fast", "type": "rate_limit_error"}, "rate_limit", "next"),
        ({"message": "bad", "type": "invalid_request_error"}, "invalid", "give_up"),
        ({"message": "x", "code": "context_length_exceeded"}, "too_long", "larger"),
        ("something broke", "server", "again"),
        ({}, "server", "again"),
    ],
)
def test_an_error_within_a_200_is_an_error(error, kind, remedy):
    for raw in (
        stream({"error": error} if error else {"error": {"message": ""}}),
        stream(chunk({"content": "x"}), {"error": error or {"message": ""}}),
    ):
        with pytest.raises(ProviderError) as caught:
            read(raw)
        assert (caught.value.kind, caught.value.remedy) == (kind, remedy)


def test_an_error_event_is_an_error():
    with pytest.raises(ProviderError, match="gone"):
        read(b'event: error\ndata: {"message": "gone"}\n\n')


def test_reasoning_refusals_and_log_probabilities_pass():
    entry = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
    logged = chunk({"content": "x"})
    logged["choices"][0]["logprobs"] = {"content": [entry], "refusal": None}
    events = read(
        stream(chunk({"reasoning_content": "hm"}), logged, chunk({"refusal": "no"}), chunk({}, "stop"))
    )
    assert events[1:] == [
        ThinkingDelta("hm"),
        TextDelta("x", 0, (entry,)),
        RefusalDelta("no"),
        Finished("refusal"),
    ]


def test_a_whole_answer_is_the_same_events():
    message = {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "row", "arguments": "{}"}}],
    }
    answer = {
        "model": "gpt-5",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": USAGE,
    }
    reader = OpenAIEvents("asked", "openai")
    events = reader.read_whole(json.dumps(answer).encode())
    reader.check_end()
    assert events == [
        Started("gpt-5"),
        TextDelta("Hi"),
        ToolStart(0, "call_a", "row"),
        ToolDelta(0, "{}"),
        Finished("tool_use"),
        Usage(9, 3, 4, None, 1),
    ]


@pytest.mark.parametrize("body", [b"<html>", b"", b"{", b"\xff"])
def test_a_whole_answer_that_is_no_json_is_malformed(body):
    with pytest.raises(ProviderError) as caught:
        OpenAIEvents("asked", "openai").read_whole(body)
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize("answer", [None, [], "x", {"choices": "x"}, {"error": {"message": "no"}}, {}])
def test_a_whole_answer_that_is_none_is_a_fault(answer):
    reader = OpenAIEvents("asked", "openai")
    with pytest.raises(ProviderError):
        reader.read_whole(json.dumps(answer).encode())
        reader.check_end()


def test_the_older_endpoint_is_read_too():
    raw = stream(
        {"model": "m", "choices": [{"index": 0, "text": "Ru", "finish_reason": None}]},
        {"model": "m", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
    )
    assert read(raw) == [Started("m"), TextDelta("Ru"), Finished("length")]


def own(**fields):
    return {"model": "assistant", "messages": [{"role": "user", "content": "x"}], **fields}


def test_a_body_of_the_same_format_keeps_what_nobody_knows():
    body = own(verbosity="low", prediction={"type": "content"}, stream_options={"x": 1})
    call = ChatCall("openai", "assistant", body=body, stream=True)
    assert write_body(call, "gpt-5", "off") == {
        **body,
        "model": "gpt-5",
        "stream": True,
        "stream_options": {"x": 1, "include_usage": True},
    }


@pytest.mark.parametrize("mode", ["off", "vllm", "openai"])
def test_a_clients_own_salt_never_reaches_a_provider(mode):
    body = own(cache_salt="mine", prompt_cache_key="mine", trireme={"collection": "c"})
    sent = write_body(ChatCall("openai", "assistant", body=body, salt="ours"), "gpt-5", mode)
    assert "mine" not in json.dumps(sent)
    assert "trireme" not in sent
    salted = {name: value for name, value in sent.items() if value == "ours"}
    assert salted == {"off": {}, "vllm": {"cache_salt": "ours"}, "openai": {"prompt_cache_key": "ours"}}[mode]


def test_usage_is_asked_for_in_every_stream_and_in_no_whole_answer():
    whole = write_body(
        ChatCall("openai", "m", body=own(stream_options={"include_usage": True})), "gpt-5", "off"
    )
    assert "stream_options" not in whole
    assert whole["stream"] is False


def test_one_prompt_of_several_is_sent_alone():
    call = ChatCall("completions", "m", body={"prompt": ["a", "b"], "model": "m"}, prompt="b")
    assert write_body(call, "gpt-5", "off")["prompt"] == "b"


def test_a_call_of_another_format_is_written_anew():
    call = ChatCall(
        "anthropic",
        "claude",
        messages=(
            Message("system", (Text("Be short."),)),
            Message("user", (Text("What is it?"), Image("data:image/png;base64,AA==", "low"))),
            Message(
                "assistant",
                (Thinking("hm", "signed"), Text("I look."), ToolUse("toolu_1", "look", '{"at": 1}')),
            ),
            Message("tool", (ToolResult("toolu_1", "an oar", is_error=True),)),
        ),
        body={"secret": "of the other format"},
        tools=(Tool("look", "looks", {"type": "object"}, True),),
        tool_choice="any",
        parallel_tool_calls=False,
        max_tokens=50,
        stop=("END",),
        temperature=0.5,
    )
    assert write_body(call, "gpt-5", "off") == {
        "model": "gpt-5",
        "stream": False,
        "messages": [
            {"role": "system", "content": "Be short."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is it?"},
                    {
                        "type": "image_url",
                        "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": "I look.",
                "tool_calls": [
                    {
                        "id": "toolu_1",
                        "type": "function",
                        "function": {"name": "look", "arguments": '{"at": 1}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: an oar"},
        ],
        "temperature": 0.5,
        "max_completion_tokens": 50,
        "stop": ["END"],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look",
                    "parameters": {"type": "object"},
                    "description": "looks",
                    "strict": True,
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    }


@pytest.mark.parametrize(("choice", "sent"), [("auto", "auto"), ("none", "none"), ("any", "required")])
def test_the_choice_of_tools_is_said_in_its_words(choice, sent):
    call = ChatCall("anthropic", "m", tools=(Tool("f"),), tool_choice=choice)
    assert write_body(call, "gpt-5", "off")["tool_choice"] == sent
    named = ChatCall("anthropic", "m", tools=(Tool("f"),), tool_choice="tool:f")
    assert write_body(named, "g", "off")["tool_choice"] == {"type": "function", "function": {"name": "f"}}


def test_what_the_format_cannot_say_is_named():
    foreign = ChatCall("anthropic", "m", (Message("user", (Foreign("document"),)),))
    assert "document" in find_fault(foreign)
    assert "top_k" in find_fault(ChatCall("anthropic", "m", top_k=3))
    assert not find_fault(ChatCall("openai", "m", (Message("user", (Foreign("input_audio"),)),)))


@pytest.mark.parametrize("surface", ["openai", "completions"])
def test_whose_cache_is_read_is_never_the_clients_choice(surface):
    chosen = {"cache_salt": "mine", "prompt_cache_key": "mine", "tenant": "other", "trireme": {}}
    call = ChatCall(surface, "m", body={"model": "m", "top_k": 3, **chosen}, salt="ours")
    assert write_body(call, "m", "off") == {"model": "m", "top_k": 3, "stream": False}
    assert write_body(call, "m", "vllm")["cache_salt"] == "ours"
    assert write_body(call, "m", "openai")["prompt_cache_key"] == "ours"
