import pytest

from trireme.providers.anthropic_bodies import (
    find_fault,
    tool_id_of,
    write_body,
    write_count_body,
    write_headers,
)
from trireme.providers.chat import (
    ChatCall,
    Foreign,
    Image,
    Message,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)

ASK = Message("user", (Text("hello"),))


def call(*messages, **fields):
    return ChatCall("openai", "big", tuple(messages) or (ASK,), **fields)


def turns(*messages):
    return write_body(call(*messages), "claude-1")["messages"]


def test_a_body_of_its_own_goes_on_as_it_is_but_for_model_and_stream():
    own = {
        "model": "big",
        "max_tokens": 5,
        "messages": [],
        "cache_control": {"type": "ephemeral"},
        "temperature": 0.1,
        "trireme": {"collection": "x"},
    }
    given = ChatCall(
        "anthropic", "big", body=own, stream=True, betas=("a-1", "b-2"), api_version="2026-10-21"
    )
    assert write_body(given, "claude-1") == {
        "model": "claude-1",
        "max_tokens": 5,
        "messages": [],
        "cache_control": {"type": "ephemeral"},
        "temperature": 0.1,
        "stream": True,
    }
    assert own["model"] == "big"
    assert write_headers(given) == {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1,b-2"}
    assert find_fault(given) == ""


def test_of_other_surfaces_neither_betas_nor_unknown_fields_go_on():
    given = call(body={"model": "big", "prompt_cache_key": "k"}, unknown=("prompt_cache_key",), betas=("a",))
    assert write_body(given, "claude-1") == {
        "model": "claude-1",
        "max_tokens": 4096,
        "stream": False,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }
    assert write_headers(given) == {"anthropic-version": "2023-06-01"}


def test_every_sampling_field_has_its_twin():
    given = call(max_tokens=7, temperature=0.5, top_p=0.9, top_k=3, stop=("A", "B"), reasoning_effort="low")
    body = write_body(given, "claude-1")
    assert (body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) == (7, 0.5, 0.9, 3)
    assert body["stop_sequences"] == ["A", "B"]
    assert body["output_config"] == {"effort": "low"}


def test_system_messages_stand_in_front_of_all_turns_in_their_order():
    given = call(
        Message("system", (Text("A."),)),
        ASK,
        Message("system", (Text("B."),)),
        Message("system", (Text(" "),)),
        Message("user", (Text("more"),)),
    )
    body = write_body(given, "claude-1")
    assert body["system"] == [{"type": "text", "text": "A."}, {"type": "text", "text": "B."}]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["hello", "more"]


def test_turns_of_one_role_are_merged_and_results_come_first():
    found = turns(
        ASK,
        Message("assistant", (Text("I look."), ToolUse("call_a", "f", '{"x":1}'))),
        Message("assistant", (ToolUse("call_b", "g", ""),)),
        Message("user", (Text("hurry"),)),
        Message("tool", (ToolResult("call_a", "1"),)),
        Message("tool", (ToolResult("call_b", "no", (Image("https://x.test/a.png"),), True),)),
        Message("user", (Text("so?"),)),
    )
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert found[1]["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}},
    ]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_a", "content": [{"type": "text", "text": "1"}]},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_b",
            "content": [
                {"type": "text", "text": "no"},
                {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
            ],
            "is_error": True,
        },
        {"type": "text", "text": "hurry"},
        {"type": "text", "text": "so?"},
    ]


def test_an_image_in_the_body_becomes_base64():
    [turn] = turns(Message("user", (Image("data:image/png;base64,QUJD"), Text("what?"))))
    assert turn["content"][0] == {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"},
    }


def test_thinking_and_empty_texts_are_left_out():
    found = turns(ASK, Message("assistant", (Thinking("hm", "sig"), Text(""))), Message("user", (Text("x"),)))
    assert [block["text"] for turn in found for block in turn["content"]] == ["hello", "x"]


@pytest.mark.parametrize(
    ("id_", "mapped"),
    [("call_a-1", "toolu_a-1"), ("toolu_a", "toolu_a"), ("abc", "abc")],
)
def test_ids_of_tools_are_mapped_one_to_one(id_, mapped):
    assert tool_id_of(id_) == mapped


def test_an_id_that_the_api_does_not_take_becomes_one_that_it_takes_always_the_same():
    first, second = tool_id_of("a:b"), tool_id_of("a.b")
    assert first != second
    assert first == tool_id_of("a:b")
    assert first.removeprefix("toolu_").isalnum()
    assert tool_id_of("").startswith("toolu_")


def test_arguments_that_are_no_object_are_marked():
    [_, turn] = turns(ASK, Message("assistant", (ToolUse("a", "f", "{oops"),)))
    assert turn["content"][0]["input"] == {"_invalid_json": "{oops"}


TOOL = Tool("f", "does f", {"properties": {"x": {"type": "integer"}}}, strict=True)


def test_a_tool_has_a_schema_of_an_object():
    body = write_body(call(tools=(TOOL, Tool("g"))), "claude-1")
    assert body["tools"] == [
        {
            "name": "f",
            "description": "does f",
            "input_schema": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "strict": True,
        },
        {"name": "g", "input_schema": {"type": "object"}},
    ]
    assert "tool_choice" not in body


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        ("auto", None, {"type": "auto"}),
        ("any", True, {"type": "any"}),
        ("none", False, {"type": "none"}),
        ("tool:f", None, {"type": "tool", "name": "f"}),
        ("tool:f", False, {"type": "tool", "name": "f", "disable_parallel_tool_use": True}),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_among_tools_is_told_in_its_words(choice, parallel, written):
    given = call(tools=(TOOL,), tool_choice=choice, parallel_tool_calls=parallel)
    assert write_body(given, "claude-1")["tool_choice"] == written


def test_no_choice_is_sent_where_there_are_no_tools():
    assert "tool_choice" not in write_body(call(tool_choice="none"), "claude-1")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"choices": 2}, "n"),
        ({"logprobs": 0}, "logprobs"),
        ({"seed": 0}, "seed"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1.0}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"temperature": 1.5}, "temperature"),
        ({"stop": ("END", " \n")}, "stop"),
        ({"reasoning_effort": "minimal"}, "reasoning_effort"),
        ({"prompt": "Once"}, "prompt"),
    ],
)
def test_what_the_api_lacks_is_refused_by_name(fields, field):
    assert find_fault(call(**fields)).partition(":")[0] == field


@pytest.mark.parametrize(
    "parts",
    [
        (Foreign("input_audio"),),
        (Image("data:image/png,raw"),),
        (Image("ftp://x.test/a.png"),),
        (Text(" "),),
        (),
    ],
)
def test_messages_that_it_cannot_read_are_refused(parts):
    assert find_fault(call(Message("user", parts))).startswith("messages:")


def test_an_image_among_results_that_it_cannot_read_is_refused():
    result = ToolResult("call_a", "x", (Image("file:///etc/hosts"),))
    assert find_fault(call(ASK, Message("tool", (result,)))).startswith("messages:")


def test_values_that_ask_for_nothing_are_no_fault():
    given = call(
        presence_penalty=0.0,
        frequency_penalty=0.0,
        response_format={"type": "text"},
        temperature=1.0,
        stop=("\nQ:",),
    )
    assert find_fault(given) == ""


def test_counting_sends_what_tokens_are_counted_of():
    own = {"model": "m", "messages": [], "max_tokens": 1, "thinking": {"type": "adaptive"}, "metadata": {}}
    assert write_count_body(ChatCall("anthropic", "m", body=own), "claude-1") == {
        "model": "claude-1",
        "messages": [],
        "thinking": {"type": "adaptive"},
    }
    assert set(write_count_body(call(max_tokens=3, temperature=0.5, stop=("A",)), "claude-1")) == {
        "model",
        "messages",
    }
