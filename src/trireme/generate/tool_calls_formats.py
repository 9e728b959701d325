"""How families of models write calls of tools: a row for each, and which row a checkpoint's template names."""

from __future__ import annotations

from trireme.generate.tool_calls import ToolCallParser, ToolFormat
from trireme.generate.tool_calls_json import (
    read_arguments,
    read_calls,
    read_calls_apart,
    read_closings,
)
from trireme.generate.tool_calls_python import read_python_calls
from trireme.generate.tool_calls_tags import read_function, read_tagged
from trireme.generate.tool_calls_text import Wait

_objects_apart = read_calls_apart(";")


def _read_mistral(parser: ToolCallParser) -> Wait[None]:
    """Behind [TOOL_CALLS]: a list of objects, or NAME[ARGS]{...}, as newer tokenizers write it."""
    incoming = parser.incoming
    yield from incoming.skip_space()
    character = yield from incoming.peek()
    if character and character in "[{":
        yield from read_calls()(parser)
        return
    name = yield from incoming.name()
    if (yield from incoming.ahead("[CALL_ID]")):
        yield from incoming.name()
    yield from incoming.ahead("[ARGS]")
    yield from read_arguments(parser, name)


def _read_deepseek(parser: ToolCallParser) -> Wait[None]:
    """NAME, a mark and the arguments; before V3.1 "function", a mark, NAME and a fenced block."""
    incoming = parser.incoming
    name = yield from incoming.name()
    yield from incoming.expect("<｜tool▁sep｜>")
    closings = ["<｜tool▁call▁end｜>"]
    if name == "function" and (yield from incoming.peek()) != "{":
        name = yield from incoming.name()
        yield from incoming.skip_space()
        yield from incoming.expect("```json")
        closings.insert(0, "```")
    yield from read_arguments(parser, name)
    yield from read_closings(parser, tuple(closings))


def _read_kimi(parser: ToolCallParser) -> Wait[None]:
    """functions.NAME:NUMBER, a mark and the arguments."""
    name = yield from parser.incoming.until("<|tool_call_argument_begin|>")
    name = name.strip().removeprefix("functions.").rsplit(":", 1)[0]
    yield from read_arguments(parser, name)
    yield from read_closings(parser, ("<|tool_call_end|>",))


def _read_llama4(parser: ToolCallParser) -> Wait[None]:
    """Python or JSON, between marks of its own or without."""
    yield from parser.incoming.skip_space()
    if (yield from parser.incoming.peek()) == "[":
        yield from read_python_calls(parser)
    else:
        yield from _objects_apart(parser)
    yield from read_closings(parser, ("<|python_end|>",))


_TAGGED = {"<tool_call>": read_tagged, "<function=": read_function}
_PHI = {"<|tool_call|>": read_calls("<|/tool_call|>"), "functools": read_calls()}

FORMATS = {
    row.name: row
    for row in (
        ToolFormat("hermes", _TAGGED),
        ToolFormat("qwen3_coder", _TAGGED),
        ToolFormat("glm45", _TAGGED),
        ToolFormat("functionary", _TAGGED),
        ToolFormat("granite", {"<|tool_call|>": read_calls(), "<tool_call>": read_tagged}),
        ToolFormat("phi4_mini_json", _PHI),
        ToolFormat("llama3_json", {"<|python_tag|>": _objects_apart}, {"{": _objects_apart}),
        ToolFormat(
            "llama4_pythonic", {"<|python_start|>": _read_llama4}, {"[": _read_llama4, "{": _read_llama4}
        ),
        ToolFormat("pythonic", {}, {"[": read_python_calls}),
        ToolFormat("mistral", {"[TOOL_CALLS]": _read_mistral}, {}, 9, ("[ARGS]", "[CALL_ID]")),
        ToolFormat(
            "deepseek_v3",
            {
                "<｜tool▁calls▁begin｜>": None,
                "<｜tool▁call▁begin｜>": _read_deepseek,
                "<｜tool▁calls▁end｜>": None,
            },
            special=("<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
        ),
        ToolFormat(
            "kimi_k2",
            {
                "<|tool_calls_section_begin|>": None,
                "<|tool_call_begin|>": _read_kimi,
                "<|tool_calls_section_end|>": None,
            },
            special=("<|tool_call_argument_begin|>", "<|tool_call_end|>"),
        ),
    )
}

# What the text of a template says, the first that fits.
_SIGNS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<｜tool▁calls▁begin｜>",), "deepseek_v3"),
    (("<|tool_calls_section_begin|>",), "kimi_k2"),
    (("[TOOL_CALLS]",), "mistral"),
    (("<arg_key>",), "glm45"),
    (("<parameter=",), "qwen3_coder"),
    (("<function=",), "functionary"),
    (("<|tool_call|>", "<|tool|>"), "phi4_mini_json"),
    (("functools[",), "phi4_mini_json"),
    (("<|tool|>",), "phi4_mini_json"),
    (("<|tool_call|>",), "granite"),
    (("<tool_call>",), "hermes"),
    (("<|python_start|>",), "llama4_pythonic"),
    (("<|header_start|>",), "llama4_pythonic"),
    (("<|python_tag|>",), "llama3_json"),
    (('"parameters": dictionary of argument name',), "llama3_json"),
    (("params_name1=",), "pythonic"),
)


def find_format(template: str) -> ToolFormat | None:
    """The row of the calls that a chat template shows the model; None where it shows none that is known."""
    for signs, name in _SIGNS:
        if all(sign in template for sign in signs):
            return FORMATS[name]
    return None
