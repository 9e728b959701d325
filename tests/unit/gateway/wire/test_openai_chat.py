"""OpenAI's chats as clients speak them: bodies, bytes of a stream, whole answers, errors; and there and back."""

import json
import re

import pytest

from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_chat import OPENAI
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Foreign,
    Image,
    Message,
    RefusalDelta,
    Source,
    Sources,
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
from trireme.providers.openai_events import OpenAIEvents
from trireme.providers.port import ProviderError
from trireme.providers.sse import SseReader

ENVELOPE = Envelope("1", 5, "gpt-5")
PLAIN = ChatCall("openai", "m", stream=True)
COUNTED = ChatCall("openai", "m", stream=True, include_usage=True)
LOGGED = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}


def read(**fields):
    return OPENAI.read({"model": "m", "messages": [{"role": "user", "content": "hi"}]} | fields, {})


def test_every_field_of_a_body_finds_its_place():
    call = read(
        messages=[
            {"role": "developer", "content": "Be short.", "name": "dev"},
            {"role": "system", "content": [{"type": "text", "text": "And kind."}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "AA=="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "42"}]},
        ],
        stream=True,
        stream_options={"include_usage": True},
        max_tokens=5,
        max_completion_tokens=7,
        temperature=0.5,
        top_p=0.9,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=3,
        stop="END",
        n=2,
        logprobs=True,
        top_logprobs=4,
        tools=[
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": {"a": 1}, "strict": True},
            }
        ],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        trireme={"collection": "c", "passages": 3, "answer_mode": "extractive"},
        verbosity="low",
        user="bob",
        metadata=None,
    )
    assert call.messages == (
        Message("system", (Text("Be short."),), "dev"),
        Message("system", (Text("And kind."),)),
        Message("user", (Text("Look:"), Image("https://x/y.png", "low"), Foreign("input_audio"))),
        Message("assistant", (Thinking("hm"), ToolUse("c1", "f", "{}"))),
        Message("tool", (ToolResult("c1", "42"),)),
    )
    assert (call.stream, call.include_usage, call.max_tokens, call.choices, call.logprobs) == (
        True,
        True,
        7,
        2,
        4,
    )
    assert (call.temperature, call.top_p, call.presence_penalty, call.frequency_penalty) == (0.5, 0.9, 1, -1)
    assert (call.seed, call.stop, call.reasoning_effort) == (3, ("END",), "low")
    assert call.tools == (Tool("f", "d", {"a": 1}, True),)
    assert (call.tool_choice, call.parallel_tool_calls) == ("tool:f", False)
    assert call.response_format == {"type": "json_object"}
    assert (call.collection, call.passages, call.answer_mode) == ("c", 3, "extractive")
    assert call.unknown == ("verbosity",)


def test_the_form_of_an_answer_may_be_named_as_vllm_names_it_but_not_twice():
    given = {"structured_outputs": {"choice": ["a", "b"]}}
    assert read(**given).response_format == {"type": "structured_outputs", **given}
    assert read(**given).unknown == ()
    with pytest.raises(InvalidInputError, match="structured_outputs: send it or response_format"):
        read(**given, response_format={"type": "text"})


def test_what_is_not_given_is_left_to_the_provider():
    call = read()
    assert (call.max_tokens, call.temperature, call.logprobs, call.choices, call.stop) == (
        None,
        None,
        None,
        1,
        (),
    )
    assert call.unknown == ()


def test_every_field_that_is_read_is_known_to_be():
    known = read().body
    assert set(known) == {"model", "messages"}
    assert read(logit_bias={"1": 2}, tools=[{"type": "web_search"}]).unknown == (
        "logit_bias",
        "tools.web_search",
    )


@pytest.mark.parametrize(
    ("given", "said"), [("auto", "auto"), ("none", "none"), ("required", "any"), (None, None)]
)
def test_the_choice_of_tools_is_read(given, said):
    assert read(tool_choice=given).tool_choice == said


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        (
            {
                "messages": [
                    {"role": "user", "content": "x", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
                ]
            },
            "messages[0].tool_calls",
        ),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": "hot"}, "temperature"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"stop": 7}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"top_logprobs": 50}, "top_logprobs"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"functions": []}, "functions"),
        ({"trireme": {"colection": "x"}}, "trireme.colection"),
        ({"trireme": {"passages": 0}}, "trireme.passages"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(fields, param):
    with pytest.raises(InvalidInputError) as caught:
        read(**fields)
    assert caught.value.param == param
    assert param.rpartition(".")[2].rpartition("]")[2] in str(caught.value)


def stream_of(events, call=PLAIN):
    writer = OPENAI.stream(call, ENVELOPE)
    return b"".join(writer.write(event) for event in events) + writer.end()


def chunks_of(raw):
    frames = raw.decode().split("\n\n")
    assert frames[-2:] == ["data: [DONE]", ""]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames[:-2]]


SIMPLE = [Started("gpt-5"), TextDelta("Ru"), TextDelta("dern"), Usage(9, 3, 4, None, 1), Finished("stop")]


def test_a_stream_is_a_role_then_deltas_then_a_reason_then_done():
    assert (
        stream_of(SIMPLE).decode()
        == "".join(
            'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"gpt-5","choices":'
            f'[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}]}}\n\n'
            for delta, reason in (
                ('{"role":"assistant","content":""}', "null"),
                ('{"content":"Ru"}', "null"),
                ('{"content":"dern"}', "null"),
                ("{}", '"stop"'),
            )
        )
        + "data: [DONE]\n\n"
    )


def test_usage_is_sent_only_to_who_asked_for_it_in_a_chunk_without_choices():
    assert "usage" not in stream_of(SIMPLE).decode()
    chunks = chunks_of(stream_of(SIMPLE, COUNTED))
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }


def test_usage_that_nobody_told_is_not_made_up():
    events = [Started("m"), TextDelta("x"), Finished("stop")]
    assert "completion_tokens" not in stream_of(events, COUNTED).decode()
    assert "usage" not in OPENAI.whole(PLAIN, ENVELOPE, events)


def test_nothing_is_sent_before_content():
    writer = OPENAI.stream(PLAIN, ENVELOPE)
    assert writer.write(Started("m")) == b""
    assert writer.write(Usage(1, None)) == b""
    assert writer.write(TextDelta("")) == b""
    assert writer.write(TextDelta("x")).startswith(b"data: ")


TOOL_EVENTS = [
    Started("gpt-5"),
    ThinkingDelta("hm"),
    TextDelta("Let me see."),
    ToolStart(0, "call_a", "row"),
    ToolDelta(0, '{"oars":'),
    ToolStart(1, "call_b", "sail"),
    ToolDelta(1, "{}"),
    ToolDelta(0, "3}"),
    Finished("tool_use"),
]


def test_calls_of_tools_name_id_and_function_once_and_arguments_in_pieces():
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks_of(stream_of(TOOL_EVENTS))]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0] == {
        "index": 0,
        "id": "call_a",
        "type": "function",
        "function": {"name": "row", "arguments": ""},
    }
    assert calls[1] == {"index": 0, "function": {"arguments": '{"oars":'}}
    assert [call["index"] for call in calls] == [0, 0, 1, 1, 0]
    assert "tool_calls" not in json.dumps(chunks_of(stream_of(SIMPLE)))


@pytest.mark.parametrize("events", [SIMPLE, TOOL_EVENTS])
def test_what_was_written_is_read_back_as_the_same_events(events):
    raw = stream_of(events, COUNTED)
    frames, reader = SseReader(), OpenAIEvents("asked", "x")
    back = [event for frame in frames.feed(raw) for event in reader.read(frame)]
    assert sorted(map(repr, back)) == sorted(map(repr, events))
    whole = OpenAIEvents("asked", "x").read_whole(json.dumps(OPENAI.whole(PLAIN, ENVELOPE, events)).encode())
    texts = [event for event in whole if isinstance(event, TextDelta | ToolStart)]
    assert texts


def test_each_choice_has_a_role_of_its_own():
    events = [
        Started("m"),
        TextDelta("a", 0),
        TextDelta("b", 1),
        Finished("stop", 1),
        Finished("length", 0),
    ]
    said = [
        (one["index"], one["delta"], one["finish_reason"])
        for chunk in chunks_of(stream_of(events))
        for one in chunk["choices"]
    ]
    role = {"role": "assistant", "content": ""}
    assert said == [
        (0, role, None),
        (0, {"content": "a"}, None),
        (1, role, None),
        (1, {"content": "b"}, None),
        (1, {}, "stop"),
        (0, {}, "length"),
    ]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("stop", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "stop"),
        ("filter", "content_filter"),
        ("pause", "stop"),
    ],
)
def test_every_reason_has_its_word(reason, said):
    events = [Started("m"), TextDelta("x"), Finished(reason)]
    assert chunks_of(stream_of(events))[-1]["choices"][0]["finish_reason"] == said
    assert OPENAI.whole(PLAIN, ENVELOPE, events)["choices"][0]["finish_reason"] == said


def test_calls_that_end_with_stop_end_as_calls():
    events = [Started("m"), ToolStart(0, "c", "f"), Finished("stop")]
    assert chunks_of(stream_of(events))[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert OPENAI.whole(PLAIN, ENVELOPE, events)["choices"][0]["finish_reason"] == "tool_calls"


def test_a_whole_answer_is_all_of_its_events():
    answer = OPENAI.whole(PLAIN, ENVELOPE, [*TOOL_EVENTS[:3], RefusalDelta("no"), *TOOL_EVENTS[3:]])
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Let me see.",
                "refusal": "no",
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "row", "arguments": '{"oars":3}'},
                    },
                    {"id": "call_b", "type": "function", "function": {"name": "sail", "arguments": "{}"}},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert (answer["id"], answer["object"], answer["created"], answer["model"]) == (
        "chatcmpl-1",
        "chat.completion",
        5,
        "gpt-5",
    )


def test_calls_alone_leave_the_content_null_and_an_empty_answer_leaves_it_empty():
    calls = OPENAI.whole(PLAIN, ENVELOPE, [Started("m"), ToolStart(0, "c", "f"), Finished("tool_use")])
    assert calls["choices"][0]["message"]["content"] is None
    empty = OPENAI.whole(PLAIN, ENVELOPE, [Started("m"), Finished("stop")])
    assert empty["choices"][0]["message"]["content"] == ""


def test_log_probabilities_pass_in_both_forms():
    events = [Started("m"), TextDelta("x", 0, (LOGGED,)), TextDelta("x", 0, (LOGGED,)), Finished("stop")]
    assert chunks_of(stream_of(events))[1]["choices"][0]["logprobs"] == {"content": [LOGGED], "refusal": None}
    whole = OPENAI.whole(PLAIN, ENVELOPE, events)["choices"][0]["logprobs"]
    assert whole == {"content": [LOGGED, LOGGED], "refusal": None}


def source(number, text="Oars are of fir."):
    return Source(number, "a.md#0", "a.md", 3, 19, 1.5, 1.0, text)


@pytest.mark.parametrize(
    ("text", "spans"),
    [("Fir [1], says [1].", [(4, 7), (14, 17)]), ("Oars are of fir.", [(0, 16)]), ("See [2].", [(0, 8)])],
)
def test_sources_are_annotations_where_the_text_cites_them(text, spans):
    events = [Started("rag"), TextDelta(text), Sources((source(1),), {"answer_mode": "x"}), Finished("stop")]
    answer = OPENAI.whole(PLAIN, ENVELOPE, events)
    annotations = answer["choices"][0]["message"]["annotations"]
    assert [
        (one["url_citation"]["start_index"], one["url_citation"]["end_index"]) for one in annotations
    ] == spans
    assert {one["url_citation"]["url"] for one in annotations} == {"a.md"}
    assert answer["trireme"]["details"] == {"answer_mode": "x"}
    chunks = chunks_of(stream_of(events))
    assert [c["choices"][0]["delta"]["annotations"] for c in chunks if "trireme" in c] == [annotations]
    assert [c["trireme"]["sources"][0]["text"] for c in chunks if "trireme" in c] == ["Oars are of fir."]


def test_a_fault_in_the_middle_is_one_frame_and_no_end():
    writer = OPENAI.stream(PLAIN, ENVELOPE)
    writer.write(Started("m"))
    writer.write(TextDelta("half"))
    raw = writer.fail(ProviderError("it broke", "again", "cut"), "req_1").decode()
    assert re.fullmatch(r'data: \{"error":\{.*\}\}\n\n', raw)
    error = json.loads(raw.removeprefix("data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == "it broke"


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidInputError("x", "n"), 400, "invalid_request_error", None),
        (UnauthenticatedError("x"), 401, "invalid_request_error", "invalid_api_key"),
        (NotFoundError("x"), 404, "invalid_request_error", "not_found"),
        (ResourceExhaustedError("x", 3), 429, "rate_limit_error", "rate_limit_exceeded"),
        (ResourceExhaustedError("x"), 429, "insufficient_quota", "insufficient_quota"),
        (UnavailableError("x"), 503, "server_error", None),
        (ProviderError("x", "next", "overloaded", status=529), 503, "server_error", None),
        (ProviderError("x", "next", "cut"), 502, "server_error", None),
    ],
)
def test_an_error_has_status_type_and_code(error, status, kind, code):
    failure = OPENAI.fail(error, "req_1")
    assert failure.status == status
    assert failure.body["error"] == {
        "message": "x",
        "type": kind,
        "param": getattr(error, "param", None),
        "code": code,
    }
