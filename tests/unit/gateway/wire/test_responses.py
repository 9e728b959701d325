import json

import pytest

from fakes.anthropic_streams import data_of
from trireme.errors import InvalidInputError, UnavailableError
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.responses import read, stream, whole
from trireme.providers.chat import (
    Finished,
    Image,
    Message,
    RefusalDelta,
    Source,
    Sources,
    Started,
    Text,
    TextDelta,
    ThinkingDelta,
    Tool,
    ToolDelta,
    ToolResult,
    ToolStart,
    ToolUse,
    Usage,
)

ENVELOPE = Envelope("01x", 1_700_000_000, "gpt-test")
TOOL = {
    "type": "function",
    "name": "f",
    "description": "does f",
    "parameters": {"type": "object"},
    "strict": True,
}


def given(**fields):
    return read({"model": "m", "input": "hello", **fields}, {})


def refused(**fields):
    with pytest.raises(InvalidInputError) as caught:
        given(**fields)
    return caught.value.param


def written(*events, call=None):
    """All frames of an answer, decoded, and what each event brought."""
    writer = stream(call or given(), ENVELOPE)
    steps = [[json.loads(data) for data in data_of(writer.write(event))] for event in events]
    frames = [frame for step in steps for frame in step]
    return [*frames, *(json.loads(data) for data in data_of(writer.end()))], steps


def types(frames):
    return [frame["type"].removeprefix("response.") for frame in frames]


def test_a_text_is_a_turn_of_the_user_behind_the_instructions():
    call = given(
        instructions="Be true.",
        max_output_tokens=9,
        temperature=1.5,
        top_p=0.5,
        stream=True,
        store=False,
        reasoning={"effort": "low"},
    )
    assert call.messages == (Message("system", (Text("Be true."),)), Message("user", (Text("hello"),)))
    assert (call.surface, call.max_tokens, call.temperature, call.top_p) == ("responses", 9, 1.5, 0.5)
    assert (call.stream, call.reasoning_effort, call.unknown) == (True, "low", ())


def test_items_become_turns_and_neighbours_of_the_assistant_one_message():
    items = [
        {"role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": "https://x.test/a.png", "detail": "low"},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "call_b", "name": "g", "arguments": '{"x":1}'},
        {"type": "function_call_output", "call_id": "call_a", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "call_b",
            "output": [{"type": "input_text", "text": "2"}, {"type": "input_text", "text": "3"}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]
    assert given(input=items).messages == (
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("a"), Image("https://x.test/a.png", "low"))),
        Message(
            "assistant",
            (Text("I look."), ToolUse("call_a", "f", "{}"), ToolUse("call_b", "g", '{"x":1}')),
        ),
        Message("tool", (ToolResult("call_a", "1"),)),
        Message("tool", (ToolResult("call_b", "2\n3"),)),
        Message("assistant", (Text("no"),)),
    )


def test_tools_are_read_in_their_flat_form():
    call = given(
        tools=[TOOL, {"type": "function", "name": "g", "parameters": None}], parallel_tool_calls=False
    )
    assert call.tools == (Tool("f", "does f", {"type": "object"}, True), Tool("g"))
    assert call.parallel_tool_calls is False


@pytest.mark.parametrize(
    ("choice", "read_as"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "any"),
        ({"type": "function", "name": "f"}, "tool:f"),
        (None, None),
    ],
)
def test_the_choice_among_tools_is_read(choice, read_as):
    assert given(tool_choice=choice).tool_choice == read_as


def test_a_format_is_read_as_that_of_chats():
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert given(text={"format": form}).response_format == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    assert given(text={"format": {"type": "text"}}).response_format == {"type": "text"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"store": True}, "store"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"text": {"format": {"type": "yaml"}}}, "text.format.type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": None}, "input"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"trireme": {"x": 1}}, "trireme.x"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(fields, param):
    assert refused(**fields) == param


def test_what_asks_for_nothing_is_taken():
    call = given(
        previous_response_id=None, background=False, store=False, include=["reasoning.encrypted_content"]
    )
    assert call.unknown == ()
    assert given(include=[]).unknown == ()


def test_fields_that_no_provider_gets_are_named():
    call = given(prompt_cache_key="k", text={"verbosity": "low"}, reasoning={"summary": "auto"})
    assert call.unknown == ("prompt_cache_key", "text.verbosity", "reasoning.summary")


def test_a_stream_of_text_has_the_events_of_the_api_in_their_order():
    frames, steps = written(
        Started("m", 5),
        TextDelta("Hel"),
        TextDelta("lo"),
        Usage(5, 2),
        Finished("stop"),
    )
    assert steps[0] == []
    assert types(frames) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [frame["sequence_number"] for frame in frames] == list(range(10))
    assert frames[0]["response"]["status"] == "in_progress"
    assert frames[0]["response"]["output"] == []
    assert frames[4] == {
        "type": "response.output_text.delta",
        "sequence_number": 4,
        "item_id": "msg_01x0",
        "output_index": 0,
        "content_index": 0,
        "delta": "Hel",
        "logprobs": [],
    }
    assert frames[6]["text"] == "Hello"
    assert frames[8]["item"] == {
        "type": "message",
        "id": "msg_01x0",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
    }
    assert frames[9]["response"]["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


ANSWERS = {
    "text": [TextDelta("a"), Usage(1, 2), Finished("stop")],
    "tools": [
        TextDelta("I look."),
        ToolStart(0, "call_a", "f"),
        ToolStart(1, "call_b", "g"),
        ToolDelta(0, '{"x":'),
        ToolDelta(1, "{}"),
        ToolDelta(0, "1}"),
        TextDelta("So."),
        Finished("tool_use"),
    ],
    "refusal": [TextDelta("a"), RefusalDelta("no"), RefusalDelta("."), Finished("stop")],
    "thinking": [ThinkingDelta("hm"), TextDelta("a"), Finished("stop")],
    "empty": [Finished("stop")],
    "cut": [TextDelta("a"), Finished("length")],
    "filtered": [TextDelta("a"), Finished("filter")],
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_last_event_of_a_stream_has_the_whole_answer(name):
    frames, _ = written(*ANSWERS[name])
    assert frames[-1]["response"] == whole(given(), ENVELOPE, ANSWERS[name])


def outputs(name):
    return whole(given(), ENVELOPE, ANSWERS[name])["output"]


def test_calls_of_functions_are_items_that_may_interleave():
    frames, _ = written(*ANSWERS["tools"])
    deltas = [frame for frame in frames if frame["type"] == "response.function_call_arguments.delta"]
    assert [(delta["output_index"], delta["delta"]) for delta in deltas] == [
        (1, '{"x":'),
        (2, "{}"),
        (1, "1}"),
    ]
    done = [frame for frame in frames if frame["type"] == "response.function_call_arguments.done"]
    assert [(one["output_index"], one["name"], one["arguments"]) for one in done] == [
        (1, "f", '{"x":1}'),
        (2, "g", "{}"),
    ]
    assert [item["type"] for item in outputs("tools")] == [
        "message",
        "function_call",
        "function_call",
        "message",
    ]
    assert outputs("tools")[1] == {
        "type": "function_call",
        "id": "fc_01x1",
        "call_id": "call_a",
        "name": "f",
        "arguments": '{"x":1}',
        "status": "completed",
    }


@pytest.mark.parametrize("name", ANSWERS)
def test_every_item_and_part_that_is_added_is_done_once(name):
    frames, _ = written(*ANSWERS[name])
    for kind, index in (
        ("output_item", ("output_index",)),
        ("content_part", ("output_index", "content_index")),
    ):
        places = {
            verb: sorted(
                tuple(frame[field] for field in index)
                for frame in frames
                if frame["type"] == f"response.{kind}.{verb}"
            )
            for verb in ("added", "done")
        }
        assert places["added"] == places["done"]


def test_a_refusal_is_a_part_of_its_own():
    assert outputs("refusal")[0]["content"] == [
        {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
        {"type": "refusal", "refusal": "no."},
    ]


def test_thinking_is_not_handed_out_but_shows_that_an_answer_comes():
    frames, steps = written(*ANSWERS["thinking"])
    assert types(steps[0]) == ["created", "in_progress"]
    assert [item["type"] for item in frames[-1]["response"]["output"]] == ["message"]


@pytest.mark.parametrize(("name", "reason"), [("cut", "max_output_tokens"), ("filtered", "content_filter")])
def test_an_answer_that_a_limit_cut_is_incomplete(name, reason):
    frames, _ = written(*ANSWERS[name])
    assert frames[-1]["type"] == "response.incomplete"
    assert frames[-1]["response"]["incomplete_details"] == {"reason": reason}
    assert frames[-1]["response"]["output"][0]["status"] == "incomplete"


def test_counts_that_nobody_made_are_not_made_up():
    assert whole(given(), ENVELOPE, [TextDelta("a"), Usage(5, None), Finished("stop")])["usage"] is None


def test_what_was_asked_for_comes_back():
    call = given(tools=[TOOL], tool_choice="required", instructions="Be true.", text={"verbosity": "low"})
    response = whole(call, ENVELOPE, ANSWERS["text"])
    assert (response["tools"], response["tool_choice"]) == ([TOOL], "required")
    assert (response["instructions"], response["store"]) == ("Be true.", False)
    assert response["text"] == {"verbosity": "low", "format": {"type": "text"}}


def test_sources_are_annotations_and_a_field_of_ours():
    source = Source(1, "p7", "ships.md", 3, 9, 4.5, 1.0, "banks.")
    events = [TextDelta("Three [1]."), Sources((source,), {"answer_mode": "extractive"}), Finished("stop")]
    frames, _ = written(*events)
    citation = {"type": "file_citation", "file_id": "p7", "filename": "ships.md", "index": 10}
    added = [frame for frame in frames if frame["type"] == "response.output_text.annotation.added"]
    assert [(one["annotation_index"], one["annotation"]) for one in added] == [(0, citation)]
    response = frames[-1]["response"]
    assert response["output"][0]["content"][0]["annotations"] == [citation]
    assert response["trireme"]["sources"][0]["text"] == "banks."
    assert response["trireme"]["details"] == {"answer_mode": "extractive"}


def test_an_answer_that_breaks_off_is_failed_and_an_error_that_the_official_client_raises_for():
    writer = stream(given(), ENVELOPE)
    sent = len(data_of(writer.write(TextDelta("Half"))))
    failed, error = (json.loads(data) for data in data_of(writer.fail(UnavailableError("gone"), "req_1")))
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")
    assert failed["response"]["error"] == {"code": "server_error", "message": "gone"}
    assert (error["type"], error["message"], error["error"]["message"]) == ("error", "gone", "gone")
    assert [failed["sequence_number"], error["sequence_number"]] == [sent, sent + 1]


def test_an_error_before_the_first_event_is_an_error_alone():
    [error] = data_of(stream(given(), ENVELOPE).fail(UnavailableError("gone"), "req_1"))
    assert json.loads(error)["type"] == "error"
