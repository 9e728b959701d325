"""Neutral calls into bodies of OpenAI's chat completions, and what such an API cannot be asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from trireme.providers.chat import (
    NEVER_SENT,
    ChatCall,
    Foreign,
    Image,
    Message,
    Part,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)

_SALT_FIELDS = {"vllm": "cache_salt", "openai": "prompt_cache_key"}
_SAMPLING = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "reasoning_effort",
    "response_format",
)


def find_fault(call: ChatCall) -> str:
    """Why the call cannot be asked of an OpenAI-compatible API, naming the field; "" if it can."""
    if call.surface in ("openai", "completions"):
        return ""
    for message in call.messages:
        for part in message.parts:
            if isinstance(part, Foreign):
                return (
                    f"messages: a part of type {part.kind!r} cannot be sent to a provider of another format"
                )
    if call.top_k is not None:
        return "top_k cannot be sent to a provider of OpenAI's format; leave it out"
    return ""


def write_body(call: ChatCall, model: str, cache_salt: str) -> dict[str, Any]:
    """The body for `model`. A body of OpenAI's own keeps all its fields; any other is written anew.

    cache_salt: off, vllm or openai; the field of the tenant's salt, which a client's own never replaces.
    """
    body = _own_body(call) if call.surface in ("openai", "completions") else _new_body(call)
    body["model"] = model
    body["stream"] = call.stream
    if call.stream:
        # Usage is wanted in any case; whoever did not ask for it does not get it.
        given = body.get("stream_options")
        body["stream_options"] = {**(given if isinstance(given, dict) else {}), "include_usage": True}
    else:
        body.pop("stream_options", None)
    if field := _SALT_FIELDS.get(cache_salt):
        body[field] = call.salt
    return body


def _own_body(call: ChatCall) -> dict[str, Any]:
    body = {name: value for name, value in call.body.items() if name not in NEVER_SENT}
    if call.prompt is not None:
        # One of several prompts of the client's request.
        body["prompt"] = call.prompt
    return body


def _new_body(call: ChatCall) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [one for message in call.messages for one in _messages(message)]}
    body |= {name: getattr(call, name) for name in _SAMPLING if getattr(call, name) is not None}
    if call.max_tokens is not None:
        body["max_completion_tokens"] = call.max_tokens
    if call.stop:
        body["stop"] = list(call.stop)
    if call.choices != 1:
        body["n"] = call.choices
    if call.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": call.logprobs}
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
        if call.tool_choice is not None:
            body["tool_choice"] = _tool_choice(call.tool_choice)
        if call.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = call.parallel_tool_calls
    return body


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """One message, or one for each result of a tool."""
    if message.role == "tool":
        for part in message.parts:
            if isinstance(part, ToolResult):
                yield from _result(part)
        return
    said: dict[str, Any] = {"role": message.role, "content": _content(message.parts)}
    if message.name:
        said["name"] = message.name
    calls = [part for part in message.parts if isinstance(part, ToolUse)]
    if calls:
        said["tool_calls"] = [
            {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
            for one in calls
        ]
        said["content"] = said["content"] or None
    yield said


def _result(part: ToolResult) -> Iterator[dict[str, Any]]:
    text = f"Error: {part.text}" if part.is_error else part.text
    yield {"role": "tool", "tool_call_id": part.id, "content": text}
    if part.images:
        # A tool's message holds text alone.
        yield {"role": "user", "content": [_part(image) for image in part.images]}


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """A string where there is text alone. Thinking is another provider's, and bound to it: it is left out."""
    shown = [part for part in parts if isinstance(part, Text | Image)]
    if all(isinstance(part, Text) for part in shown):
        return "\n".join(part.text for part in shown if isinstance(part, Text))
    return [_part(part) for part in shown]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    image = {"url": part.url, **({"detail": part.detail} if part.detail else {})}
    return {"type": "image_url", "image_url": image}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.schema}
    if tool.description:
        function["description"] = tool.description
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice.startswith("tool:"):
        return {"type": "function", "function": {"name": choice.removeprefix("tool:")}}
    return {"any": "required"}.get(choice, choice)
