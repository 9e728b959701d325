"""Calls whose parameters stand between tags, as Qwen3-Coder and GLM write them, and what else <tool_call> holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trireme.generate.tool_calls import ToolCallParser
from trireme.generate.tool_calls_json import read_arguments, read_calls, read_closings
from trireme.generate.tool_calls_text import Wait

_END = "</tool_call>"
_FUNCTION = "<function="
# JSON schema's names of what json.loads gives.
_TYPES: tuple[tuple[type, tuple[str, ...]], ...] = (
    (bool, ("boolean",)),
    (int, ("integer", "number")),
    (float, ("number",)),
    (str, ("string",)),
    (list, ("array",)),
    (dict, ("object",)),
    (type(None), ("null",)),
)
_PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}

_read_json = read_calls(_END)


@dataclass(frozen=True, slots=True)
class _Tags:
    """Around a parameter's name, around its value, and behind the last. value "": it follows the name at once."""

    key: str
    key_end: str
    value: str
    value_end: str
    end: str


_QWEN = _Tags("<parameter=", ">", "", "</parameter>", "</function>")
_GLM = _Tags("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", _END)


def read_tagged(parser: ToolCallParser) -> Wait[None]:
    """Behind <tool_call>: JSON, <function=NAME>, or a name and pairs of <arg_key> and <arg_value>."""
    incoming = parser.incoming
    yield from incoming.skip_space()
    character = yield from incoming.peek()
    if character and character in "{[":
        yield from _read_json(parser)
    elif character == "<":
        yield from incoming.expect(_FUNCTION)
        yield from read_function(parser)
    else:
        name = yield from incoming.name()
        yield from incoming.skip_space()
        yield from _read_parameters(parser, name, _GLM)


def read_function(parser: ToolCallParser) -> Wait[None]:
    """Behind <function=: NAME>, then JSON or <parameter=KEY>VALUE</parameter>, and </function>."""
    incoming = parser.incoming
    name = (yield from incoming.until(">")).strip()
    yield from incoming.skip_space()
    if (yield from incoming.peek()) == "{":
        yield from read_arguments(parser, name)
        yield from read_closings(parser, ("</function>", _END))
        return
    yield from _read_parameters(parser, name, _QWEN)
    yield from read_closings(parser, (_END,))


def _read_parameters(parser: ToolCallParser, name: str, tags: _Tags) -> Wait[None]:
    """Parameters between tags, and the tag that ends the call. Only a string goes out as it comes."""
    incoming = parser.incoming
    separator = "{"
    while (yield from incoming.ahead(tags.key)):
        if separator == "{":
            parser.begin(name)
        key = (yield from incoming.until(tags.key_end)).strip()
        if tags.value:
            yield from incoming.skip_space()
            yield from incoming.expect(tags.value)
        parser.put(f"{separator}{json.dumps(key, ensure_ascii=False)}: ")
        separator = ", "
        kinds = _kinds(parser.schema_of(key))
        # A line of its own for the value, which is the template's.
        yield from incoming.ahead("\n")
        if kinds <= {"string"}:
            parser.put('"')
            value = _Lines(lambda text: parser.put(json.dumps(text, ensure_ascii=False)[1:-1]))
            yield from incoming.until_streamed(tags.value_end, value.say)
            parser.put('"')
        else:
            parts: list[str] = []
            value = _Lines(parts.append)
            yield from incoming.until_streamed(tags.value_end, value.say)
            parser.put(_typed("".join(parts), kinds))
        yield from incoming.skip_space()
    # A call that nothing ends is text that speaks of one.
    if tags.end == _END or not (yield from incoming.ahead(tags.end)):
        yield from incoming.expect(_END)
    if separator == "{":
        parser.begin(name)
        parser.put("{")
    parser.put("}")
    parser.complete()


class _Lines:
    """Text without the line break at its end."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._held = ""

    def say(self, text: str) -> None:
        """More of it, cut anywhere."""
        text = self._held + text
        self._held = "\n" if text.endswith("\n") else ""
        if shown := text.removesuffix("\n"):
            self._say(shown)


def _kinds(schema: Mapping[str, Any]) -> set[str]:
    """The types that a parameter may have; none where its schema does not say."""
    choices = [schema]
    for key in ("anyOf", "oneOf"):
        more = schema.get(key)
        choices += [one for one in more if isinstance(one, dict)] if isinstance(more, list) else []
    kinds: set[str] = set()
    for one in choices:
        said = one.get("type")
        kinds.update(kind for kind in (said if isinstance(said, list) else [said]) if isinstance(kind, str))
    return kinds


def _typed(text: str, kinds: set[str]) -> str:
    """JSON of a value that was written without quotes: of a type that it may have, else a string."""
    said = text.strip()
    try:
        value = json.loads(_PYTHON_WORDS.get(said, said), parse_constant=_refuse)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except (ValueError, RecursionError):
        return json.dumps(text, ensure_ascii=False)
    able = next(names for kind, names in _TYPES if isinstance(value, kind))
    return written if kinds.intersection(able) else json.dumps(text, ensure_ascii=False)


def _refuse(name: str) -> float:
    raise ValueError(name)
