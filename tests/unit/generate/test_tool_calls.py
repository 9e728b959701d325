import json
import random
import re
from pathlib import Path

import pytest

from trireme.generate.tool_calls import ToolCallParser, schemas_of
from trireme.generate.tool_calls_formats import FORMATS, find_format

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string"},
                    "days": {"type": "integer"},
                    "wide": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                    "places": {"type": "array"},
                },
            },
        },
    },
    {"type": "function", "function": {"name": "now"}},
]
BERLIN = ("get_weather", {"city": "Berlin", "days": 2})
NOW = ("now", {})

# Format, answer, its text, its calls.
ANSWERS = {
    "text alone": ("hermes", "Berlin is <b>big</b>.  \n", "Berlin is <b>big</b>.  \n", []),
    "hermes": (
        "hermes",
        'I look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Berlin", "days": 2}}\n</tool_call>',
        "I look.",
        [BERLIN],
    ),
    "hermes twice, text behind": (
        "hermes",
        '<tool_call>{"name": "now", "arguments": {}}</tool_call>\n<tool_call>\n'
        '{"arguments": {"city": "Berlin", "days": 2}, "name": "get_weather"}\n</tool_call>\n\nDone.',
        "Done.",
        [NOW, BERLIN],
    ),
    "a brace that is missing": (
        "hermes",
        '<tool_call>{"name": "now", "arguments": {}</tool_call>',
        "",
        [NOW],
    ),
    "no arguments": ("hermes", '<tool_call>{"name": "now"}</tool_call>', "", [NOW]),
    "arguments as a string": (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Berlin\\", \\"days\\": 2}"}</tool_call>',
        "",
        [BERLIN],
    ),
    "a line break in a string": (
        "hermes",
        '<tool_call>{"name": "get_weather", "arguments": {"city": "a\nb\t\\u00e9\\n"}}</tool_call>',
        "",
        [("get_weather", {"city": "a\nb\té\n"})],
    ),
    "qwen3_coder": (
        "qwen3_coder",
        "Now:\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nBerlin\n</parameter>\n"
        "<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>",
        "Now:",
        [BERLIN],
    ),
    "qwen3_coder without its outer tag, values of several kinds": (
        "qwen3_coder",
        '<function=get_weather>\n<parameter=city>\n<p>\n"x"\n\n</parameter>\n<parameter=wide>\nTrue\n</parameter>\n'
        '<parameter=places>\n["a", 1]\n</parameter>\n<parameter=days>\nmany\n</parameter>\n'
        "<parameter=other>\n1\n</parameter>\n</function>",
        "",
        [
            (
                "get_weather",
                {"city": '<p>\n"x"\n', "wide": True, "places": ["a", 1], "days": "many", "other": "1"},
            )
        ],
    ),
    "glm45": (
        "glm45",
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Berlin</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
        "",
        [BERLIN, NOW],
    ),
    "functionary": (
        "functionary",
        '<function=get_weather>{"city": "Berlin", "days": 2}</function>',
        "",
        [BERLIN],
    ),
    "granite": (
        "granite",
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Berlin", "days": 2}}, {"name": "now"}]',
        "",
        [BERLIN, NOW],
    ),
    "phi4_mini_json": (
        "phi4_mini_json",
        '<|tool_call|>[{"type": "function", "function": {"name": "get_weather", "arguments":'
        ' {"city": "Berlin", "days": 2}}}]<|/tool_call|>',
        "",
        [BERLIN],
    ),
    "phi4_mini_json, functools": (
        "phi4_mini_json",
        'functools[{"name": "now", "arguments": {}}]',
        "",
        [NOW],
    ),
    "llama3_json": (
        "llama3_json",
        '{"name": "get_weather", "parameters": {"city": "Berlin", "days": 2}}; {"name": "now", "parameters": {}}',
        "",
        [BERLIN, NOW],
    ),
    "llama3_json with its tag": (
        "llama3_json",
        '<|python_tag|>{"type": "function", "name": "get_weather", "parameters": {"city": "Berlin", "days": 2}}',
        "",
        [BERLIN],
    ),
    "llama4_pythonic": (
        "llama4_pythonic",
        "<|python_start|>[get_weather(city='Berlin', days=2), now()]<|python_end|>",
        "",
        [BERLIN, NOW],
    ),
    "pythonic": (
        "pythonic",
        "[get_weather(city='it\\'s \"\\u00e9\"', days=-2.5, wide=None, places=[1, ('a',), {\"b\": True}]), now()]",
        "",
        [
            (
                "get_weather",
                {"city": 'it\'s "é"', "days": -2.5, "wide": None, "places": [1, ["a"], {"b": True}]},
            ),
            NOW,
        ],
    ),
    "mistral": (
        "mistral",
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Berlin", "days": 2}, "id": "abcdefghi"}]',
        "",
        [BERLIN],
    ),
    "mistral, newer": (
        "mistral",
        'Yes.[TOOL_CALLS]get_weather[CALL_ID]abc[ARGS]{"city": "Berlin", "days": 2}[TOOL_CALLS]now{}',
        "Yes.",
        [BERLIN, NOW],
    ),
    "deepseek_v3": (
        "deepseek_v3",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
        '{"city": "Berlin", "days": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>now<｜tool▁sep｜>{}'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "",
        [BERLIN, NOW],
    ),
    "kimi_k2": (
        "kimi_k2",
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
        '{"city": "Berlin", "days": 2}<|tool_call_end|><|tool_calls_section_end|>',
        "",
        [BERLIN],
    ),
}

# Format and an answer without a call: all of it is text.
TEXTS = {
    "a function that is not offered": ("hermes", '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'),
    "a name that is no string": ("hermes", '<tool_call>{"name": 3, "arguments": {}}</tool_call>'),
    "no object": ("hermes", "<tool_call> [1, 2] </tool_call> and <tool_call>"),
    "arguments that are a list": ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    "an unknown word": ("hermes", '<tool_call>{"arguments": {"a": NaN}, "name": "now"}</tool_call>'),
    "depth": ("hermes", '<tool_call>{"name": "now", "x": ' + "[" * 40 + "]" * 40 + "}</tool_call>"),
    "a mark that only begins": ("hermes", "look <tool_ca"),
    "two texts with tags": ("qwen3_coder", "<function=get_weather> is what I would call"),
    "an answer in JSON": ("llama3_json", '{"name": "Berlin", "parameters": {"people": 3}}'),
    "an answer in brackets": ("pythonic", "[see(page=1), then stop]"),
    "positional arguments": ("pythonic", "[now(1)]"),
    "code": ("pythonic", "[now(a=__import__('os').getcwd())]"),
    "an infinite number": ("pythonic", "[now(a=1e999)]"),
    "words behind the mark": ("mistral", "[TOOL_CALLS] are a mark"),
}


def parse(form, pieces, *, is_streamed=True):
    """Text, calls as (name, arguments' text), and the ids."""
    parser = ToolCallParser(FORMATS[form], schemas_of(TOOLS), is_streamed=is_streamed)
    text, names, arguments, ids = "", [], [], []
    for part, deltas in [*map(parser.push, pieces), parser.finish()]:
        text += part
        for delta in deltas:
            if delta.id:
                assert delta.index == len(names), "a new call has the next index"
                names.append(delta.name)
                arguments.append("")
                ids.append(delta.id)
            arguments[delta.index] += delta.arguments
    return text, list(zip(names, arguments, strict=True)), ids, parser.whole_calls


def cuts_of(answer):
    """Ways to cut a text: not at all, at each place, into characters, and at places drawn."""
    drawn = random.Random(len(answer))
    yield [answer]
    yield list(answer)
    for at in range(1, len(answer)):
        yield [answer[:at], answer[at:]]
    for _ in range(10):
        places = sorted(drawn.sample(range(len(answer) + 1), min(5, len(answer))))
        yield [answer[a:b] for a, b in zip([0, *places], [*places, len(answer)], strict=True)]


@pytest.mark.parametrize("name", ANSWERS)
def test_calls_are_taken_out_of_the_text_however_it_is_cut(name):
    form, answer, text, calls = ANSWERS[name]

    for is_streamed in (True, False):
        found = {
            (said, tuple(given))
            for said, given, *_ in (parse(form, cut, is_streamed=is_streamed) for cut in cuts_of(answer))
        }

        ((said, given),) = found
        assert said == text
        assert [(one, json.loads(arguments)) for one, arguments in given] == calls


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_call_is_text_to_the_letter_however_it_is_cut(name):
    form, answer = TEXTS[name]

    for is_streamed in (True, False):
        for cut in cuts_of(answer):
            assert parse(form, cut, is_streamed=is_streamed)[:2] == (answer, [])


@pytest.mark.parametrize("form", FORMATS)
def test_an_answer_of_any_marks_never_fails_and_reads_alike_however_it_is_cut(form):
    drawn = random.Random(form)
    words = [
        *FORMATS[form].marks,
        *'{}[]()<>":,=\\\n',
        "now",
        "get_weather",
        '"name"',
        '"arguments"',
        "a=1",
        "u12",
    ]
    words += [
        "</tool_call>",
        "<parameter=city>",
        "</parameter>",
        "<arg_key>",
        "</arg_key>",
        '"now"',
        "```json",
    ]

    for _ in range(120):
        answer = "".join(drawn.choices(words, k=20))
        whole, characters = parse(form, [answer]), parse(form, list(answer))

        assert whole[:2] + whole[3:] == characters[:2] + characters[3:], answer
        assert all(
            isinstance(json.loads(text), dict) for _, text in parse(form, [answer], is_streamed=False)[1]
        )


def test_arguments_go_out_as_they_come_once_their_function_is_known():
    parser = ToolCallParser(FORMATS["hermes"], schemas_of(TOOLS), is_streamed=True)

    pieces = [
        '<tool_call>{"name": "get_',
        'weather", "arguments": {"ci',
        'ty": "Ber',
        'lin"}',
        "}</tool_call>",
    ]
    said = [[(one.name, one.arguments) for one in parser.push(piece)[1]] for piece in pieces]

    assert said == [[], [("get_weather", '{"ci')], [("", 'ty": "Ber')], [("", 'lin"}')], []]


def test_a_string_between_tags_goes_out_as_it_comes():
    parser = ToolCallParser(FORMATS["qwen3_coder"], schemas_of(TOOLS), is_streamed=True)

    pieces = ["<function=get_weather><parameter=city>\nBer", "lin\n", "</para", "meter></function>"]
    said = ["".join(one.arguments for one in parser.push(piece)[1]) for piece in pieces]

    assert said == ['{"city": "Ber', "lin", "", '"}']


def test_a_call_that_is_cut_off_stays_one_in_a_stream_and_is_text_in_a_whole_answer():
    answer = 'So: <tool_call>{"name": "get_weather", "arguments": {"city": "Ber'

    text, calls, _, whole = parse("hermes", [answer])
    assert (text, calls, whole) == ("So:", [("get_weather", '{"city": "Ber')], 0)

    assert parse("hermes", [answer], is_streamed=False)[:2] == (answer, [])


def test_what_follows_a_whole_call_and_breaks_is_text_alone():
    answer = '[TOOL_CALLS][{"name": "now", "arguments": {}}, {"name": oh'

    text, calls, _, whole = parse("mistral", [answer])

    assert (text, calls, whole) == (', {"name": oh', [("now", "{}")], 1)


def test_ids_differ_and_have_the_form_that_the_template_wants():
    twice = '<tool_call>{"name": "now"}</tool_call>' * 2
    first, second = parse("hermes", [twice])[2]
    assert first != second
    assert re.fullmatch(r"call_[A-Za-z0-9]{24}", first)

    (short,) = parse("mistral", ["[TOOL_CALLS]now{}"])[2]
    assert re.fullmatch(r"[A-Za-z0-9]{9}", short)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_no_mark_begins_within_another(form):
    for mark in form.openings:
        for other in form.openings:
            assert all(not mark.startswith(other[at:]) for at in range(1, len(other))), (mark, other)
            assert mark == other or not mark.startswith(other)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ('For each call return <tool_call>\n{"name": <function-name>}', "hermes"),
        ("<tool_call>\n<function=example>\n<parameter=a>", "qwen3_coder"),
        ("<tool_call>{function-name}\n<arg_key>{key}</arg_key>", "glm45"),
        ("{{ '[TOOL_CALLS] [' }}", "mistral"),
        ("<|python_tag|>", "llama3_json"),
        ("{{ '<|tool|>' + message['tools'] + '<|/tool|>' }}", "phi4_mini_json"),
        ("[func_name1(params_name1=params_value1)]", "pythonic"),
        ("{{ '<｜tool▁calls▁begin｜>' }}", "deepseek_v3"),
    ],
)
def test_a_template_names_its_format(template, form):
    assert find_format(template) is FORMATS[form]


def test_a_template_without_calls_names_none():
    assert find_format("<|im_start|>{{ message.role }}") is None


def test_the_page_has_a_row_for_each_format_with_a_call_that_it_reads():
    page = (Path(__file__).parents[3] / "docs" / "generation.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| `tool_parser` |")
    rows = re.findall(r"^\| `(\w+)` \| .*? \| `(.*?)`", table.partition("\n\n")[0], re.MULTILINE)

    assert [name for name, _ in rows] == list(FORMATS)
    for name, call in rows:
        schemas = {"f": {"properties": {"a": {"type": "integer"}}}, "g": {}}
        parser = ToolCallParser(FORMATS[name], schemas, is_streamed=False)
        parts = [parser.push(call.replace("\\|", "|")), parser.finish()]
        assert "".join(text for text, _ in parts) == ""
        first, *_ = [delta for _, deltas in parts for delta in deltas]
        assert (first.name, json.loads(first.arguments)) == ("f", {"a": 1})
