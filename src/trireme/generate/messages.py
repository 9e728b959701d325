"""Chat messages and tools as OpenAI-style clients send them, checked key by key, as templates read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trireme.errors import InvalidInputError

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_MESSAGES = 1000
MAX_TOOLS = 128
# Deeper JSON in arguments or tools is no one's, and costs a stack.
MAX_DEPTH = 32
# Names under which clients and servers hand reasoning on; templates read the first, some the second.
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
# Parts that hold text, and the key it is under.
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
# What a client's library writes into each message of an answer; harmless as long as it says nothing.
_EMPTY_KEYS = ("refusal", "annotations", "audio", "function_call")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. content None: the key is not there for the template, as beside tool_calls.

    more: name, tool_call_id, tool_calls (arguments as objects) and reasoning, as JSON values.
    """

    role: str
    content: str | None
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that a template reads."""
        content = {} if self.content is None else {"content": self.content}
        return {"role": self.role, **content, **self.more}


def parse_messages(text: str) -> tuple[Message, ...]:
    """Messages from a JSON list of OpenAI's chat messages. Raises InvalidInputError naming the bad one."""
    given = _read_list("messages", text)
    if not 1 <= len(given) <= MAX_MESSAGES:
        raise InvalidInputError(f"messages must be a JSON list of 1 to {MAX_MESSAGES} messages")
    return tuple(_read_message(f"message {position}", item) for position, item in enumerate(given))


def parse_tools(text: str) -> tuple[dict[str, Any], ...]:
    """Tools from a JSON list of {"type": "function", "function": {"name", ...}}; "" or [] is none.

    Raises InvalidInputError naming the bad one.
    """
    given = _read_list("tools", text) if text else []
    if len(given) > MAX_TOOLS:
        raise InvalidInputError(f"tools must be a JSON list of at most {MAX_TOOLS} tools")
    for position, tool in enumerate(given):
        where = f"tool {position}"
        _check_function(where, tool)
        check_json(where, tool)
    return tuple(given)


def strings_in(value: Any) -> Iterator[str]:
    """All strings in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from strings_in(item)


def map_strings(change: Callable[[str], str], value: Any) -> Any:
    """A JSON value with each string, keys included, changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): map_strings(change, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(change, item) for item in value]
    return value


def check_json(where: str, value: Any, depth: int = 0) -> None:
    """Raises InvalidInputError for text that is no text, and for nesting beyond MAX_DEPTH."""
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"{where} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"{where} holds half a surrogate pair at {error.start}") from None
    elif isinstance(value, dict):
        for key, item in value.items():
            check_json(where, key)
            check_json(where, item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(where, item, depth + 1)


def _read_list(name: str, text: str) -> list[Any]:
    try:
        given = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} is not valid JSON: {error}") from None
    if not isinstance(given, list):
        raise InvalidInputError(f"{name} must be a JSON list")
    return given


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _read_message(where: str, item: Any) -> Message:
    if not isinstance(item, dict) or "role" not in item:
        raise InvalidInputError(f'{where} must be an object with "role" and "content"')
    # Clients write null for what is not there.
    item = {key: value for key, value in item.items() if value is not None}
    role, content, more = item.pop("role", None), item.pop("content", None), {}
    if role not in ROLES:
        raise InvalidInputError(f"{where}: role must be one of {', '.join(ROLES)}, got {repr(role)[:40]}")
    for key, value in item.items():
        if key in _EMPTY_KEYS and not value:
            continue
        if key not in _READERS:
            known = ", ".join(("role", "content", *_READERS))
            raise InvalidInputError(f"{where} has an unknown key {key[:40]!r}; known: {known}")
        more[key] = _READERS[key](f"{where}: {key}", value)
    if "tool_calls" in more and role != "assistant":
        raise InvalidInputError(f"{where}: only an assistant's message has tool_calls, its role is {role!r}")
    # An empty list is no call, and templates ask only whether the key is there.
    if not more.get("tool_calls", True):
        del more["tool_calls"]
    text = None if content is None else _read_content(where, content)
    if text is None and not more.keys() & {"tool_calls", *REASONING_KEYS}:
        raise InvalidInputError(f'{where} must be an object with "role" and "content"')
    check_json(where, [text, more])
    return Message(role, text, _name_reasoning(more))


def _read_content(where: str, content: Any) -> str:
    """A string, or the texts of its parts with a line break between, as vLLM joins them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidInputError(
            f"{where}: content must be a string or a list of parts, got {type(content).__name__}"
        )
    return "\n".join(_read_part(f"{where}, part {number}", part) for number, part in enumerate(content))


def _read_part(where: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str):
        raise InvalidInputError(f'{where} must be a string or an object with "type" and "text"')
    if kind not in _TEXT_PARTS:
        raise InvalidInputError(f"{where} is of type {kind[:40]!r}, but this model reads text only")
    text = part.get(_TEXT_PARTS[kind])
    if not isinstance(text, str):
        raise InvalidInputError(f"{where}: {_TEXT_PARTS[kind]} must be a string, got {type(text).__name__}")
    return text


def _read_text(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidInputError(f"{where} must be a string, got {type(value).__name__}")
    return value


def _read_tool_calls(where: str, value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise InvalidInputError(f"{where} must be a list, got {type(value).__name__}")
    return [_read_tool_call(f"{where} {number}", call) for number, call in enumerate(value)]


def _read_tool_call(where: str, call: Any) -> dict[str, Any]:
    """A call with its arguments as an object: clients send them as JSON text, templates read objects."""
    function = _check_function(where, call)
    arguments = function.get("arguments")
    if arguments is None or arguments == "":
        arguments = {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{where}: arguments are not valid JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidInputError(f"{where}: arguments must be a JSON object, got {type(arguments).__name__}")
    return {**call, "function": {**function, "arguments": arguments}}


def _check_function(where: str, item: Any) -> dict[str, Any]:
    """The function of a tool or a call. Raises InvalidInputError for what is none."""
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise InvalidInputError(f'{where} must be an object with "function", an object with "name"')
    if item.get("type", "function") != "function":
        raise InvalidInputError(f"{where}: type must be 'function', got {repr(item['type'])[:40]}")
    return function


def _name_reasoning(more: dict[str, Any]) -> dict[str, Any]:
    """Reasoning under the names that templates read, as transformers hands it on."""
    found = next((more[key] for key in REASONING_KEYS if key in more), None)
    return more if found is None else {"thinking": found, **more, "reasoning_content": found}


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "name": _read_text,
    "tool_calls": _read_tool_calls,
    "tool_call_id": _read_text,
    **dict.fromkeys(REASONING_KEYS, _read_text),
}
