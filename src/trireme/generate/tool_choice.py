"""Which call an answer must be: OpenAI's tool_choice, held to by the form of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from trireme.errors import InvalidInputError
from trireme.generate.engine import Sampling
from trireme.generate.structured import read_schema
from trireme.generate.tool_calls import ToolCallParser, ToolFormat, schemas_of
from trireme.generate.tool_calls_json import read_arguments, read_calls
from trireme.generate.tool_calls_text import Wait

AUTO, NONE, REQUIRED = "auto", "none", "required"
_ANY_OBJECT = {"type": "object"}
# Where schemas keep parts that they refer to, which must stand at the root.
_SHARED = ("$defs", "definitions")
_AT_ROOT = tuple(f"#/{key}/" for key in _SHARED)


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """mode: auto, none or required. name: of the one function that must be called; "" for any."""

    mode: str = AUTO
    name: str = ""

    @property
    def is_forced(self) -> bool:
        """Whether the answer is a call and nothing else."""
        return self.mode == REQUIRED

    def make_form(self, id_characters: int) -> ToolFormat:
        """How an answer that must be a call is read: arguments alone where the function is known, else a list."""
        if not self.name:
            return ToolFormat(REQUIRED, {}, {"[": read_calls()}, id_characters)
        name = self.name

        def read(parser: ToolCallParser) -> Wait[None]:
            yield from read_arguments(parser, name)

        return ToolFormat(REQUIRED, {}, {"{": read}, id_characters)


FREE_CHOICE = ToolChoice()


def parse_tool_choice(text: str, tools: Sequence[Mapping[str, Any]]) -> ToolChoice:
    """auto, none, required, or the JSON of {"type": "function", "function": {"name"}}; "" is auto.

    Raises InvalidInputError for another text, and for a function that is not among the tools.
    """
    if text in ("", AUTO, NONE):
        return ToolChoice(text or AUTO)
    name = "" if text == REQUIRED else _read_name(text)
    if not tools:
        raise InvalidInputError("tool_choice: there are no tools to choose from; send tools with it")
    if name and name not in schemas_of(tools):
        raise InvalidInputError(f"tool_choice: no tool is named {name[:80]!r}; name one of tools")
    return ToolChoice(REQUIRED, name)


def hold_to_choice(sampling: Sampling, choice: ToolChoice, tools: Sequence[Mapping[str, Any]]) -> Sampling:
    """Sampling whose answer is the call that is chosen. Raises InvalidInputError where it cannot be held to it."""
    if not choice.is_forced:
        return sampling
    for name in ("structured", "min_tokens", "ignore_eos"):
        if getattr(sampling, name):
            said = "response_format and structured_outputs" if name == "structured" else name
            raise InvalidInputError(f"tool_choice: an answer that must be a call goes without {said}")
    schemas = schemas_of(tools)
    schema = dict(schemas[choice.name]) or _ANY_OBJECT if choice.name else _list_schema(schemas)
    return replace(sampling, structured=read_schema("tools: their schema", schema))


def _read_name(text: str) -> str:
    try:
        said = json.loads(text)
        name = said["function"]["name"]
    except (ValueError, RecursionError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise InvalidInputError(
            'tool_choice must be auto, none, required, or {"type": "function", "function": {"name": ...}}'
        )
    return name


def _list_schema(schemas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Of a list of calls, each of its function's name and parameters."""
    shared: dict[str, dict[str, Any]] = {}
    calls = []
    for name, schema in schemas.items():
        if moved := next((ref for ref in _references(schema) if not ref.startswith(_AT_ROOT)), None):
            raise InvalidInputError(
                f"tools: {name[:80]!r} refers to {moved[:80]!r}, which stands elsewhere in a list of calls; name"
                " the function in tool_choice, or refer to its $defs"
            )
        own = {key: value for key, value in schema.items() if key not in _SHARED}
        for key in _SHARED:
            for part, value in (schema.get(key) or {}).items():
                if shared.setdefault(key, {}).setdefault(part, value) != value:
                    raise InvalidInputError(
                        f"tools: two of them have different {key} named {part[:80]!r}; rename one"
                    )
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, "parameters": own or _ANY_OBJECT},
                "required": ["name", "parameters"],
                "additionalProperties": False,
            }
        )
    return {"type": "array", "minItems": 1, "items": {"anyOf": calls}, **shared}


def _references(value: Any) -> Iterator[str]:
    """All that a schema refers to. Its depth is bounded (see messages.check_json)."""
    if isinstance(value, dict) and isinstance(value.get("$ref"), str):
        yield value["$ref"]
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(one)
