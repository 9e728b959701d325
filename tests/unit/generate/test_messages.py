import json

import pytest

from trireme.errors import InvalidInputError
from trireme.generate.messages import Message, map_strings, parse_messages, parse_tools, strings_in


def read(*messages):
    return parse_messages(json.dumps(messages))


def test_good_messages_are_read():
    text = '[{"role": "system", "content": ""}, {"role": "user", "content": "é"}]'
    assert parse_messages(text) == (Message("system", ""), Message("user", "é"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        ('[{"role": "user", "content": "a", "name": NaN}]', "not valid JSON"),
        ("[]", "1 to 1000"),
        ("{}", "must be a JSON list"),
        ('["hi"]', "message 0 must be an object"),
        ('[{"role": "user"}]', 'message 0 must be an object with "role" and "content"'),
        ('[{"role": "user", "content": null}]', 'message 0 must be an object with "role" and "content"'),
        ('[{"role": "tool", "tool_call_id": "a"}]', 'message 0 must be an object with "role" and "content"'),
        ('[{"role": "user", "content": "a"}, {"role": "root", "content": "a"}]', "message 1: role"),
        (
            '[{"role": ["user"], "content": "a"}]',
            "role must be one of system, developer, user, assistant, tool",
        ),
        ('[{"role": "user", "content": 5}]', "content must be a string or a list of parts, got int"),
        ('[{"role": "user", "content": "a", "mood": "x"}]', "unknown key 'mood'; known: role, content, name"),
        ('[{"role": "user", "content": "a", "name": 5}]', "message 0: name must be a string, got int"),
        ('[{"role": "user", "content": "\\ud800"}]', "surrogate"),
        ('[{"role": "user", "content": "a", "audio": {"id": "x"}}]', "unknown key 'audio'"),
    ],
)
def test_a_bad_message_is_named(text, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_messages(text)
    assert said in str(caught.value)


def test_parts_of_text_are_joined_line_by_line():
    parts = [
        {"type": "text", "text": "a"},
        "b",
        {"type": "input_text", "text": ""},
        {"type": "output_text", "text": "c"},
    ]
    assert read({"role": "user", "content": parts}) == (Message("user", "a\nb\n\nc"),)
    assert read({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]})[0].content == "no"
    assert read({"role": "user", "content": []})[0].content == ""


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            {"type": "image_url", "image_url": {"url": "x"}},
            "part 1 is of type 'image_url', but this model reads text",
        ),
        ({"type": "input_audio", "input_audio": {}}, "part 1 is of type 'input_audio'"),
        ({"type": "file", "file": {}}, "part 1 is of type 'file'"),
        ({"type": "text"}, "part 1: text must be a string, got NoneType"),
        ({"text": "a"}, 'part 1 must be a string or an object with "type"'),
        (5, 'part 1 must be a string or an object with "type"'),
    ],
)
def test_a_part_that_is_no_text_is_refused_by_its_type(part, said):
    with pytest.raises(InvalidInputError) as caught:
        read({"role": "user", "content": [{"type": "text", "text": "see"}, part]})
    assert f"message 0, {said}" in str(caught.value)


def test_an_answers_message_may_be_sent_back_as_a_clients_library_writes_it():
    call = {"id": "call_1", "type": "function", "function": {"name": "depth", "arguments": '{"at": "quay"}'}}
    given = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
        "tool_calls": [call],
    }
    message = read(given)[0]
    called = {**call, "function": {"name": "depth", "arguments": {"at": "quay"}}}
    assert message == Message("assistant", None, {"tool_calls": [called]})
    assert message.as_json() == {"role": "assistant", "tool_calls": [called]}
    assert read({**given, "content": "", "tool_calls": []})[0] == Message("assistant", "")


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
def test_a_call_without_arguments_has_an_empty_object_of_them(arguments):
    call = {"function": {"name": "now", "arguments": arguments}}
    message = read({"role": "assistant", "tool_calls": [call]})[0]
    assert message.more["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ("x", "message 0: tool_calls must be a list"),
        ([{"id": "a"}], 'tool_calls 0 must be an object with "function"'),
        ([{"function": {"name": ""}}], 'tool_calls 0 must be an object with "function"'),
        (
            [{"type": "custom", "function": {"name": "f"}}],
            "tool_calls 0: type must be 'function', got 'custom'",
        ),
        ([{"function": {"name": "f", "arguments": "{"}}], "arguments are not valid JSON"),
        ([{"function": {"name": "f", "arguments": "[1]"}}], "arguments must be a JSON object, got list"),
        ([{"function": {"name": "f", "arguments": '{"a": "\\ud800"}'}}], "surrogate"),
        (
            [{"function": {"name": "f", "arguments": '{"a": ' * 40 + "1" + "}" * 40}}],
            "nested more than 32 deep",
        ),
    ],
)
def test_a_bad_call_is_named(calls, said):
    with pytest.raises(InvalidInputError) as caught:
        read({"role": "assistant", "tool_calls": calls})
    assert said in str(caught.value)


def test_only_an_assistant_calls_tools():
    call = {"function": {"name": "f"}}
    with pytest.raises(
        InvalidInputError, match="only an assistant's message has tool_calls, its role is 'user'"
    ):
        read({"role": "user", "content": "a", "tool_calls": [call]})


def test_a_tools_answer_keeps_its_id_and_name():
    message = read({"role": "tool", "content": "4 m", "tool_call_id": "call_1", "name": "depth"})[0]
    assert message.as_json() == {"role": "tool", "content": "4 m", "tool_call_id": "call_1", "name": "depth"}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_handed_on_under_the_names_that_templates_read(key):
    more = read({"role": "assistant", "content": "4", key: "2 and 2"})[0].more
    assert more == {"thinking": "2 and 2", "reasoning_content": "2 and 2", key: "2 and 2"}


TOOL = {"type": "function", "function": {"name": "depth", "parameters": {"type": "object", "properties": {}}}}


def test_tools_are_read():
    assert parse_tools(json.dumps([TOOL])) == (TOOL,)
    assert parse_tools("") == parse_tools("[]") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "tools must be a JSON list"),
        ("[", "tools is not valid JSON"),
        ('["depth"]', 'tool 0 must be an object with "function"'),
        ('[{"type": "web_search"}]', 'tool 0 must be an object with "function"'),
        (json.dumps([TOOL] * 129), "at most 128 tools"),
        (json.dumps([TOOL, {**TOOL, "more": "\ud800"}]), "tool 1 holds half a surrogate pair"),
    ],
)
def test_a_bad_tool_is_named(text, said):
    with pytest.raises(InvalidInputError) as caught:
        parse_tools(text)
    assert said in str(caught.value)


def test_strings_are_found_and_changed_wherever_they_are():
    value = {"a": ["b", {"c": "d"}, 5, None, True], "e": ("f",)}
    assert sorted(strings_in(value)) == ["a", "b", "c", "d", "e", "f"]
    assert map_strings(str.upper, value) == {"A": ["B", {"C": "D"}, 5, None, True], "E": ["F"]}
