import json
import random

import msgspec
import pytest

from fakes.anthropic_streams import data_of
from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.anthropic import ANTHROPIC, read, read_count, stream, whole, whole_count
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Foreign,
    Image,
    Message,
    Native,
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
from trireme.providers.port import ProviderError

ENVELOPE = Envelope("01x", 1_700_000_000, "claude-test-1")
CALL = ChatCall("anthropic", "claude-test-1")
USER = {"role": "user", "content": "hello"}
NEW = {"anthropic-version": "2026-10-21"}


def body(*turns, **fields):
    return {"model": "m", "max_tokens": 9, "messages": list(turns) or [USER], **fields}


def refused(headers=(), **fields):
    """The error of a body, and the field that it names."""
    with pytest.raises(InvalidInputError) as caught:
        read(body(**fields), dict(headers))
    return str(caught.value), caught.value.param


def written(*events, ends=True):
    """The frames of each event in turn, decoded, and those of the end."""
    writer = stream(CALL, ENVELOPE)
    steps = [[json.loads(data) for data in data_of(writer.write(event))] for event in events]
    return [*steps, [json.loads(data) for data in data_of(writer.end())]] if ends else steps


def flat(steps):
    return [frame for step in steps for frame in step]


def blocks_of(frames):
    """The blocks as a client puts them together; fails where they overlap or their indices jump."""
    blocks, is_open = [], False
    for frame in frames:
        match frame["type"]:
            case "content_block_start":
                assert not is_open and frame["index"] == len(blocks)
                blocks.append({**frame["content_block"]})
                is_open = True
            case "content_block_delta":
                assert is_open and frame["index"] == len(blocks) - 1
                add(blocks[-1], frame["delta"])
            case "content_block_stop":
                assert is_open and frame["index"] == len(blocks) - 1
                is_open = False
    assert not is_open
    return blocks


def add(block, delta):
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])
        case "input_json_delta":
            block["json"] = block.get("json", "") + delta["partial_json"]


def test_a_plain_body_becomes_a_call():
    call = read(
        body(
            stream=True,
            system="Be true.",
            stop_sequences=["END"],
            temperature=0.5,
            top_p=0.9,
            top_k=40,
            metadata={"user_id": "u"},
            thinking={"type": "adaptive"},
        ),
        {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1, b-2"},
    )
    assert call.messages == (Message("system", (Text("Be true."),)), Message("user", (Text("hello"),)))
    assert (call.surface, call.model, call.stream, call.max_tokens) == ("anthropic", "m", True, 9)
    assert (call.temperature, call.top_p, call.top_k, call.stop) == (0.5, 0.9, 40, ("END",))
    assert call.unknown == ("metadata", "thinking")
    assert call.body["metadata"] == {"user_id": "u"}
    assert (call.betas, call.api_version) == (("a-1", "b-2"), "2023-06-01")


def test_a_system_prompt_may_be_blocks_and_a_system_turn_keeps_its_place():
    call = read(
        body(
            USER,
            {"role": "system", "content": "Now in French."},
            system=[{"type": "text", "text": "A.", "cache_control": {"type": "ephemeral"}}],
        ),
        {},
    )
    assert [(message.role, message.text) for message in call.messages] == [
        ("system", "A."),
        ("user", "hello"),
        ("system", "Now in French."),
    ]


def test_images_come_as_bytes_or_by_url_and_other_parts_are_foreign():
    blocks = [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "text", "data": "x"}},
    ]
    [message] = read(body({"role": "user", "content": blocks}), {}).messages
    assert message.parts == (
        Image("data:image/png;base64,QUJD"),
        Image("https://x.test/a.png"),
        Foreign("image"),
        Foreign("document"),
    )


def test_results_of_tools_are_messages_of_their_own_before_the_rest_of_the_turn():
    turn = [
        {"type": "text", "text": "And then?"},
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "12 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_2",
            "is_error": True,
            "content": [
                {"type": "text", "text": "a"},
                {"type": "text", "text": "b"},
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
                {"type": "document", "source": {}},
            ],
        },
        {"type": "tool_result", "tool_use_id": "toolu_3"},
    ]
    assert read(body({"role": "user", "content": turn}), {}).messages == (
        Message("tool", (ToolResult("toolu_1", "12 degrees"),)),
        Message("tool", (ToolResult("toolu_2", "a\nb", (Image("https://x.test/a.png"),), True),)),
        Message("tool", (ToolResult("toolu_3", ""),)),
        Message("user", (Text("And then?"), Foreign("document"))),
    )


def test_a_turn_of_results_alone_has_no_empty_message_behind_it():
    turn = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]
    assert [m.role for m in read(body({"role": "user", "content": turn}), {}).messages] == ["tool"]


def test_what_the_assistant_thought_and_called_is_read():
    turn = [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "redacted_thinking", "data": "opaque"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "ü"]}},
        {"type": "tool_use", "id": "toolu_2", "name": "f", "input": {}},
        {"type": "tool_use", "id": "toolu_3", "name": "f", "input": {"_invalid_json": "{oops"}},
    ]
    assert read(body(USER, {"role": "assistant", "content": turn}), {}).messages[1].parts == (
        Thinking("hm", "sig"),
        Thinking("", "opaque"),
        Text("I look."),
        ToolUse("toolu_1", "f", '{"a":[1,"ü"]}'),
        ToolUse("toolu_2", "f", "{}"),
        ToolUse("toolu_3", "f", "{oops"),
    )


def test_tools_and_the_choice_among_them_are_read():
    schema = {"type": "object", "properties": {}}
    call = read(
        body(
            tools=[
                {"name": "f", "description": "does f", "input_schema": schema, "strict": True},
                {"type": "custom", "name": "g", "input_schema": {}},
                {"type": "web_search_20260318", "name": "web_search"},
            ],
            tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        ),
        {},
    )
    assert call.tools == (Tool("f", "does f", schema, True), Tool("g"))
    assert (call.tool_choice, call.parallel_tool_calls) == ("tool:f", False)
    assert call.unknown == ("tools.web_search_20260318",)


@pytest.mark.parametrize("kind", ["auto", "any", "none"])
def test_a_choice_without_a_name_is_its_type(kind):
    call = read(body(tool_choice={"type": kind}), {})
    assert (call.tool_choice, call.parallel_tool_calls) == (kind, None)


def test_what_a_rag_answer_needs_stands_in_a_field_of_ours():
    call = read(body(trireme={"collection": "ships", "passages": 4, "answer_mode": "extractive"}), {})
    assert (call.collection, call.passages, call.answer_mode) == ("ships", 4, "extractive")
    assert call.unknown == ()


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k"])
def test_the_new_version_takes_no_sampling_fields(field):
    text, param = refused(NEW, **{field: 1})
    assert param == field and "2026-10-21" in text
    assert getattr(read(body(**{field: 1}), {}), field) == 1
    assert read(body(), NEW).api_version == "2026-10-21"


def test_the_new_version_takes_no_documents_of_the_assistant_and_no_citations_on_a_users_text():
    document = {"role": "assistant", "content": [{"type": "document", "source": {}}]}
    cited = {"role": "user", "content": [{"type": "text", "text": "a", "citations": [{}]}]}
    for turn in (document, cited):
        assert read(body(turn), {}).messages
        with pytest.raises(InvalidInputError, match="2026-10-21"):
            read(body(turn), NEW)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}
                ]
            },
            "messages[0].content",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "1"}]}]},
            "messages[0].content",
        ),
        ({"temperature": 1.5}, "temperature"),
        ({"stop_sequences": "END"}, "stop_sequences"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"trireme": {"collections": "x"}}, "trireme.collections"),
    ],
)
def test_a_wrong_field_is_named(fields, param):
    text, named = refused(**fields)
    assert named == param
    assert param in text


def test_an_unknown_version_is_refused_by_name():
    text, param = refused({"anthropic-version": "2024-01-01"})
    assert param == "anthropic-version" and "'2024-01-01'" in text


def test_counting_needs_no_max_tokens():
    call = read_count({"model": "m", "messages": [USER]}, {})
    assert call.max_tokens is None
    assert whole_count(17) == {"input_tokens": 17}


def test_a_stream_has_its_frames_in_the_order_of_the_api():
    steps = written(
        Started("claude-test-1", 25),
        Usage(input_tokens=25),
        TextDelta("Hel"),
        TextDelta("lo"),
        Usage(input_tokens=25, output_tokens=2),
        Finished("stop"),
    )
    assert steps[:2] == [[], []]
    assert flat(steps) == [
        {
            "type": "message_start",
            "message": {
                "id": "msg_01x",
                "type": "message",
                "role": "assistant",
                "model": "claude-test-1",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 25, "output_tokens": 0},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None},
            "usage": {"input_tokens": 25, "output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


def test_every_frame_has_an_event_line_since_the_official_client_ignores_others():
    writer = stream(CALL, ENVELOPE)
    sent = writer.write(TextDelta("a\nb")) + writer.write(Finished("stop")) + writer.end()
    frames = sent.split(b"\n\n")[:-1]
    for one in frames:
        event, data = one.split(b"\n")
        assert event == b"event: " + json.loads(data.removeprefix(b"data: "))["type"].encode()


def test_an_empty_answer_is_still_a_whole_message():
    frames = flat(written(Started("m"), Finished("length")))
    assert [frame["type"] for frame in frames] == ["message_start", "message_delta", "message_stop"]
    assert frames[0]["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert frames[1]["delta"]["stop_reason"] == "max_tokens"


def test_cached_tokens_are_told_apart_from_the_others():
    usage = Usage(
        input_tokens=147, output_tokens=9, cached_tokens=100, cache_write_tokens=7, reasoning_tokens=3
    )
    told = {
        "input_tokens": 40,
        "cache_creation_input_tokens": 7,
        "cache_read_input_tokens": 100,
        "output_tokens": 9,
        "output_tokens_details": {"thinking_tokens": 3},
    }
    events = [Started("m"), TextDelta("x"), Finished("stop"), usage]
    assert flat(written(*events))[-2]["usage"] == told
    assert whole(CALL, ENVELOPE, events)["usage"] == told


def test_counts_that_nobody_made_are_not_made_up():
    events = [Started("m", 5), TextDelta("x"), Finished("stop")]
    assert flat(written(*events))[-2]["usage"] == {"input_tokens": 5, "output_tokens": None}
    assert whole(CALL, ENVELOPE, [TextDelta("x"), Finished("stop")])["usage"] == {
        "input_tokens": None,
        "output_tokens": None,
    }


@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        (Finished("stop"), "end_turn", None),
        (Finished("stop_sequence", stop_sequence="END"), "stop_sequence", "END"),
        (Finished("length"), "max_tokens", None),
        (Finished("refusal"), "refusal", None),
        (Finished("filter"), "refusal", None),
        (Finished("pause"), "pause_turn", None),
        # No call of a tool was seen.
        (Finished("tool_use"), "end_turn", None),
    ],
)
def test_the_reason_of_the_end_is_told_in_the_words_of_the_api(finished, reason, sequence):
    told = {"stop_reason": reason, "stop_sequence": sequence, "stop_details": None}
    events = [Started("m"), TextDelta("x"), finished]
    assert flat(written(*events))[-2]["delta"] == told
    assert whole(CALL, ENVELOPE, events).items() >= told.items()


@pytest.mark.parametrize("said", ["stop", "tool_use"])
def test_an_answer_with_a_call_of_a_tool_ends_by_it_whatever_the_provider_says(said):
    events = [Started("m"), ToolStart(0, "toolu_1", "f"), Finished(said)]
    assert flat(written(*events))[-2]["delta"]["stop_reason"] == "tool_use"
    assert whole(CALL, ENVELOPE, events)["stop_reason"] == "tool_use"


def test_a_call_of_a_tool_that_the_limit_cut_is_no_tool_use():
    events = [Started("m"), ToolStart(0, "toolu_1", "f"), ToolDelta(0, '{"a'), Finished("length")]
    assert whole(CALL, ENVELOPE, events)["stop_reason"] == "max_tokens"


def test_a_refusal_is_text_and_its_own_reason():
    events = [Started("m"), RefusalDelta("I can"), RefusalDelta("not."), Finished("stop")]
    message = whole(CALL, ENVELOPE, events)
    assert message["content"] == [{"type": "text", "text": "I cannot."}]
    assert message["stop_reason"] == "refusal"
    assert blocks_of(flat(written(*events))) == message["content"]


INTERLEAVED = [
    Started("m"),
    TextDelta("I look."),
    ToolStart(0, "call_a", "weather"),
    ToolStart(1, "call_b", "now"),
    ToolDelta(0, '{"city":'),
    ToolDelta(1, '{"zone":'),
    ToolDelta(0, '"Bern"}'),
    ToolDelta(1, '"CET"}'),
    TextDelta("Both."),
    Finished("tool_use"),
]


def test_calls_that_come_interleaved_go_out_one_after_the_other():
    blocks = blocks_of(flat(written(*INTERLEAVED)))
    assert [block.get("id", block.get("text")) for block in blocks] == [
        "I look.",
        "toolu_a",
        "toolu_b",
        "Both.",
    ]
    assert [block.get("json") for block in blocks] == [None, '{"city":"Bern"}', '{"zone":"CET"}', None]
    assert whole(CALL, ENVELOPE, INTERLEAVED)["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_a", "name": "weather", "input": {"city": "Bern"}},
        {"type": "tool_use", "id": "toolu_b", "name": "now", "input": {"zone": "CET"}},
        {"type": "text", "text": "Both."},
    ]


def random_answer(rng):
    """Text, thinking, and calls of tools whose arguments come in pieces and interleaved."""
    events, calls = [Started("m")], []
    for _ in range(rng.randrange(1, 25)):
        match rng.randrange(5):
            case 0:
                events.append(TextDelta(rng.choice("ab")))
            case 1:
                events.append(ThinkingDelta(rng.choice(["", "t"]), rng.choice(["", "s"])))
            case 2:
                events.append(ToolStart(len(calls), f"toolu_{len(calls)}", "f"))
                calls.append(json.dumps({"x": "}" * rng.randrange(3), "y": {"z": rng.randrange(9)}}))
            case _:
                left = [index for index, text in enumerate(calls) if text]
                if left:
                    index = rng.choice(left)
                    size = rng.randrange(1, 9)
                    events.append(ToolDelta(index, calls[index][:size]))
                    calls[index] = calls[index][size:]
    events += [ToolDelta(index, text) for index, text in enumerate(calls) if text]
    return [*events, Finished("tool_use" if calls else "stop")]


@pytest.mark.parametrize("seed", range(150))
def test_however_an_answer_comes_its_stream_has_the_blocks_of_the_whole(seed):
    events = random_answer(random.Random(seed))
    streamed = blocks_of(flat(written(*events)))
    for block in streamed:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block.pop("json"))
    assert streamed == whole(CALL, ENVELOPE, events)["content"]


def test_a_call_behind_a_whole_one_waits_for_nothing():
    steps = written(
        ToolStart(0, "toolu_a", "f"),
        ToolDelta(0, '{"a":{"b":1}}'),
        ToolStart(1, "toolu_b", "g"),
        TextDelta("so"),
        ends=False,
    )
    assert [frame["type"] for frame in steps[2]] == ["content_block_stop", "content_block_start"]
    # g has no arguments yet: the text cannot go before them.
    assert steps[3] == []


def test_a_new_id_at_an_old_index_is_a_new_call():
    events = [
        ToolStart(0, "toolu_a", "f"),
        ToolDelta(0, "{}"),
        ToolStart(0, "toolu_b", "f"),
        ToolDelta(0, '{"x":1}'),
        Finished("tool_use"),
    ]
    assert [block["json"] for block in blocks_of(flat(written(*events)))] == ["{}", '{"x":1}']


@pytest.mark.parametrize("text", ["{oops", "[1]", '{"a":1} {"b":2}'])
def test_arguments_that_are_no_object_are_kept_and_marked(text):
    events = [ToolStart(0, "toolu_a", "f"), ToolDelta(0, text), Finished("tool_use")]
    [block] = whole(CALL, ENVELOPE, events)["content"]
    assert block["input"] == {"_invalid_json": text}
    [streamed] = blocks_of(flat(written(*events)))
    assert streamed["json"] == text
    back = read(body(USER, {"role": "assistant", "content": [block]}), {})
    assert back.messages[1].parts == (ToolUse("toolu_a", "f", text),)


def test_a_call_without_arguments_has_an_empty_object():
    [block] = whole(CALL, ENVELOPE, [ToolStart(0, "toolu_a", "f"), Finished("tool_use")])["content"]
    assert block["input"] == {}


def test_thinking_ends_with_its_signature():
    events = [
        ThinkingDelta("a"),
        ThinkingDelta("b"),
        ThinkingDelta(signature="s1"),
        ThinkingDelta("c", "s2"),
        TextDelta("x"),
        Finished("stop"),
    ]
    content = [
        {"type": "thinking", "thinking": "ab", "signature": "s1"},
        {"type": "thinking", "thinking": "c", "signature": "s2"},
        {"type": "text", "text": "x"},
    ]
    assert blocks_of(flat(written(*events))) == content
    assert whole(CALL, ENVELOPE, events)["content"] == content


def test_pieces_that_only_these_clients_read_stand_where_they_came():
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    details = {"type": "refusal", "category": None, "explanation": "no"}
    events = [
        TextDelta("a"),
        Native("anthropic", {"type": "content_block_stop"}),
        TextDelta("b"),
        Native("anthropic", {"type": "citations_delta", "citation": {"type": "page_location"}}),
        Native("anthropic", result),
        Native("openai", {"type": "audio"}),
        Native("anthropic", details),
        Finished("refusal"),
    ]
    content = [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": [{"type": "page_location"}]},
        result,
    ]
    message = whole(CALL, ENVELOPE, events)
    assert message["content"] == content
    assert message["stop_details"] == details
    frames = flat(written(*events))
    assert blocks_of(frames) == content
    assert frames[-2]["delta"]["stop_details"] == details


def test_sources_are_citations_of_the_text_and_a_field_of_ours():
    sources = (
        Source(1, "p7", "ships.md", 3, 9, 4.5, 1.0, "banks."),
        Source(2, "p9", "oars.md", 0, 5, 2.5, 0.5, "Oars.", "oars"),
        Source(3, "p7", "ships.md", 0, 2, 1.5, 0.5, "It"),
    )
    events = [TextDelta("Three [1]."), Sources(sources, {"answer_mode": "extractive"}), Finished("stop")]
    message = msgspec.to_builtins(whole(CALL, ENVELOPE, events))
    [block] = message["content"]
    assert block["citations"][0] == {
        "type": "char_location",
        "cited_text": "banks.",
        "document_index": 0,
        "document_title": "ships.md",
        "start_char_index": 3,
        "end_char_index": 9,
        "file_id": None,
    }
    assert [citation["document_index"] for citation in block["citations"]] == [0, 1, 0]
    assert message["trireme"]["sources"][1] == {
        "number": 2,
        "passage": "p9",
        "source": "oars.md",
        "start": 0,
        "end": 5,
        "score": 2.5,
        "support": 0.5,
        "text": "Oars.",
        "document": "oars",
    }
    assert message["trireme"]["details"] == {"answer_mode": "extractive"}
    frames = flat(written(*events))
    assert blocks_of(frames) == message["content"]
    assert frames[-2]["trireme"] == message["trireme"]


def test_an_answer_that_breaks_off_ends_with_an_error_event_and_no_stop():
    writer = stream(CALL, ENVELOPE)
    writer.write(TextDelta("Half"))
    error = ProviderError("the provider's answer broke off", "next", "cut")
    assert writer.fail(error, "req_1") == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error",'
        b'"message":"the provider\'s answer broke off"},"request_id":"req_1"}\n\n'
    )


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (InvalidInputError("x"), 400, "invalid_request_error"),
        (UnauthenticatedError("x"), 401, "authentication_error"),
        (PermissionDeniedError("x"), 403, "permission_error"),
        (NotFoundError("x"), 404, "not_found_error"),
        (TooLargeError("x"), 413, "request_too_large"),
        (ResourceExhaustedError("x", 3.0), 429, "rate_limit_error"),
        (ProviderError("x", "rotate", "rate_limit"), 429, "rate_limit_error"),
        (UnavailableError("x"), 503, "api_error"),
        (ProviderError("x", "again", "connect"), 503, "api_error"),
        (ProviderError("x", "next", "malformed"), 502, "api_error"),
        (ProviderError("x", "again", "timeout"), 504, "timeout_error"),
        (ProviderError("x", "again", "overloaded"), 529, "overloaded_error"),
    ],
)
def test_an_error_has_the_type_of_its_status(error, status, kind):
    failure = ANTHROPIC.fail(error, "req_1")
    assert failure.status == status
    assert failure.body == {
        "type": "error",
        "error": {"type": kind, "message": "x"},
        "request_id": "req_1",
    }
    assert ("request-id", "req_1") in failure.headers


def test_a_limit_says_when_to_come_back():
    assert ("retry-after", "3") in ANTHROPIC.fail(ResourceExhaustedError("x", 2.5), "r").headers
