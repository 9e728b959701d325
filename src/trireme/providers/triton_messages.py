"""Messages, tools and calls of tools between the neutral form and what our generators read and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trireme.providers.chat import (
    ChatCall,
    Message,
    Thinking,
    ToolDelta,
    ToolResult,
    ToolStart,
    ToolUse,
)
from trireme.providers.tool_arguments import arguments_as_object

# Templates read the properties of each function.
_NO_PARAMETERS = {"type": "object", "properties": {}}


def write_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """OpenAI's messages. A result of a tool has its function's name where a call before it says that."""
    names: dict[str, str] = {}
    written: list[dict[str, Any]] = []
    for message in messages:
        names |= {part.id: part.name for part in message.parts if isinstance(part, ToolUse)}
        results = [part for part in message.parts if isinstance(part, ToolResult)]
        written += [_result(part, names.get(part.id) or message.name) for part in results]
        if not results:
            written.append(_message(message))
    return written


def write_tools(call: ChatCall) -> list[dict[str, Any]]:
    """OpenAI's tools; none where the model may call none."""
    if call.tool_choice == "none":
        return []
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parameters": dict(tool.schema) or _NO_PARAMETERS,
            },
        }
        for tool in call.tools
    ]


def write_choice(call: ChatCall) -> str:
    """tool_choice as a generator takes it; "" where it may choose."""
    kind, _, name = (call.tool_choice or "").partition(":")
    if kind == "tool":
        return json.dumps({"type": "function", "function": {"name": name}})
    return "required" if kind == "any" else ""


def read_tool_calls(
    entries: Iterable[Mapping[str, Any]], *, choice: int = 0, only_first: bool
) -> Iterator[ToolStart | ToolDelta]:
    """Events of a generator's calls. choice: which of n answers. only_first: later calls are left out."""
    for entry in entries:
        index, function = entry["index"], entry["function"]
        if only_first and index > 0:
            continue
        if "id" in entry:
            yield ToolStart(index, entry["id"], function["name"], choice)
        if function["arguments"]:
            yield ToolDelta(index, function["arguments"], choice)


def _message(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.name:
        said["name"] = message.name
    # Signed thinking is another provider's, and bound to it.
    thoughts = [part.text for part in message.parts if isinstance(part, Thinking) and not part.signature]
    if thoughts:
        said["reasoning_content"] = "\n".join(thoughts)
    uses = [part for part in message.parts if isinstance(part, ToolUse)]
    if uses:
        said["tool_calls"] = [_call(use) for use in uses]
        if not message.text:
            said["content"] = None
    return said


def _call(use: ToolUse) -> dict[str, Any]:
    # Text that is no JSON object is kept as one that holds it: a template reads objects alone.
    function = {"name": use.name, "arguments": arguments_as_object(use.arguments)}
    return {"id": use.id, "type": "function", "function": function}


def _result(part: ToolResult, name: str) -> dict[str, Any]:
    said = {"role": "tool", "tool_call_id": part.id, "content": part.text}
    return {**said, "name": name} if name else said
