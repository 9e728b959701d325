"""A call as the body that Anthropic's Messages API takes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
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
from trireme.providers.tool_arguments import arguments_as_object

# The API wants a limit; a client of another surface may have given none.
DEFAULT_MAX_TOKENS = 4096
# Of the API. It is the one that takes temperature, top_p and top_k.
OLD_VERSION = "2023-06-01"
# How much a model thinks; OpenAI's other words have no twin.
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
# Fields of a message that counting does not take.
_NOT_COUNTED = (
    "max_tokens",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "service_tier",
    "container",
    "inference_geo",
    "diagnostics",
)
_DATA_URL = re.compile(r"data:(?P<media>[\w.+-]+/[\w.+-]+);base64,(?P<data>.+)", re.DOTALL)
_TOOL_ID = re.compile(r"[A-Za-z0-9_-]+")


def find_fault(call: ChatCall) -> str:
    """Why Anthropic cannot take the call, naming the field; "" if it can. Bodies of its own it judges itself."""
    if call.surface == "anthropic":
        return ""
    if call.prompt is not None:
        return "prompt: Anthropic's API has no text completions; use /v1/chat/completions"
    return _find_field(call) or _find_value(call) or _find_part(call.messages)


def _find_field(call: ChatCall) -> str:
    """A field that the API lacks, where its value asks for something."""
    kind = (call.response_format or {}).get("type", "text")
    wanted = {
        "n": call.choices > 1,
        "logprobs": call.logprobs is not None,
        "seed": call.seed is not None,
        "presence_penalty": bool(call.presence_penalty),
        "frequency_penalty": bool(call.frequency_penalty),
        "response_format": kind != "text",
    }
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    return f"{names[0]}: Anthropic's API does not have it; leave it out" if names else ""


def _find_value(call: ChatCall) -> str:
    if call.temperature is not None and call.temperature > 1:
        return f"temperature: Anthropic's API takes at most 1, not {call.temperature:g}"
    if any(not stop.strip() for stop in call.stop):
        return "stop: Anthropic's API takes no stop sequence of white space alone"
    if call.reasoning_effort not in (None, *_EFFORTS):
        return f"reasoning_effort: Anthropic's API takes {', '.join(_EFFORTS)}"
    return ""


def _find_part(messages: Sequence[Message]) -> str:
    for message in messages:
        for part in message.parts:
            if isinstance(part, Foreign):
                return f"messages: Anthropic's API takes no part of type {part.kind}"
            images = part.images if isinstance(part, ToolResult) else (part,)
            if any(isinstance(image, Image) and _write_image(image) is None for image in images):
                return "messages: an image is an https URL, or data:MEDIA_TYPE;base64,..."
    if not any(message.role != "system" and _write_parts(message.parts) for message in messages):
        return "messages: Anthropic's API takes at least one turn that is not empty, beside the system's"
    return ""


def write_body(call: ChatCall, model: str) -> dict[str, Any]:
    """The body of /v1/messages. A body of Anthropic's own goes on as it is, but for model, stream and NEVER_SENT.

    Of any other: system texts stand before all turns, turns of one role are one, results of tools come first in
    theirs, thinking is left out since it is bound to who signed it, and max_tokens is 4,096 where none was given.
    """
    if call.surface == "anthropic":
        own = {field: value for field, value in call.body.items() if field not in NEVER_SENT}
        return {**own, "model": model, "stream": call.stream}
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": DEFAULT_MAX_TOKENS if call.max_tokens is None else call.max_tokens,
        "stream": call.stream,
        **_write_prompt(call),
    }
    if call.stop:
        body["stop_sequences"] = list(call.stop)
    for field in ("temperature", "top_p", "top_k"):
        if (value := getattr(call, field)) is not None:
            body[field] = value
    if call.reasoning_effort is not None:
        body["output_config"] = {"effort": call.reasoning_effort}
    return body


def write_count_body(call: ChatCall, model: str) -> dict[str, Any]:
    """The body of /v1/messages/count_tokens."""
    return {field: value for field, value in write_body(call, model).items() if field not in _NOT_COUNTED}


def write_headers(call: ChatCall) -> dict[str, str]:
    """The API's headers beside the key. Betas are for bodies of Anthropic's own alone."""
    if call.surface != "anthropic":
        return {"anthropic-version": OLD_VERSION}
    headers = {"anthropic-version": call.api_version or OLD_VERSION}
    if call.betas:
        headers["anthropic-beta"] = ",".join(call.betas)
    return headers


def tool_id_of(id_: str) -> str:
    """A tool call's id as the API takes it. The same id always becomes the same, so that calls and results meet."""
    mapped = f"toolu_{id_.removeprefix('call_')}" if id_.startswith("call_") else id_
    if _TOOL_ID.fullmatch(mapped):
        return mapped
    return f"toolu_{hashlib.sha256(id_.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def _write_prompt(call: ChatCall) -> dict[str, Any]:
    """system, messages, tools and tool_choice: what tokens are counted of."""
    prompt: dict[str, Any] = {"messages": _write_turns(call.messages)}
    if system := [message.text for message in call.messages if message.role == "system"]:
        prompt["system"] = [{"type": "text", "text": text} for text in system if text.strip()]
    if call.tools:
        prompt["tools"] = [_write_tool(tool) for tool in call.tools]
        if choice := _write_choice(call):
            prompt["tool_choice"] = choice
    return prompt


def _write_turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        blocks = [] if message.role == "system" else _write_parts(message.parts)
        if not blocks:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return turns


def _write_parts(parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [block for part in parts for block in _write_part(part)]


def _write_part(part: Part) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text=text) if text.strip():
            yield {"type": "text", "text": text}
        case Image() if (image := _write_image(part)) is not None:
            yield image
        case ToolUse(id=id_, name=name, arguments=arguments):
            use = {"id": tool_id_of(id_), "name": name, "input": arguments_as_object(arguments)}
            yield {"type": "tool_use", **use}
        case ToolResult():
            yield _write_result(part)
        # Thinking: its signature is another provider's. Empty text: the API refuses it, and it says nothing.


def _write_result(part: ToolResult) -> dict[str, Any]:
    blocks = _write_parts((Text(part.text), *part.images))
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": tool_id_of(part.id), "content": blocks}
    if part.is_error:
        result["is_error"] = True
    return result


def _write_image(image: Image) -> dict[str, Any] | None:
    if image.url.startswith(("https://", "http://")):
        return {"type": "image", "source": {"type": "url", "url": image.url}}
    if inline := _DATA_URL.fullmatch(image.url):
        source = {"type": "base64", "media_type": inline["media"], "data": inline["data"]}
        return {"type": "image", "source": source}
    return None


def _write_tool(tool: Tool) -> dict[str, Any]:
    schema: Mapping[str, Any] = {"type": "object", **tool.schema}
    row: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        row["description"] = tool.description
    if tool.strict is not None:
        row["strict"] = tool.strict
    return row


def _write_choice(call: ChatCall) -> dict[str, Any] | None:
    wanted, is_serial = call.tool_choice, call.parallel_tool_calls is False
    if wanted is None and not is_serial:
        return None
    kind, _, name = (wanted or "auto").partition(":")
    choice: dict[str, Any] = {"type": kind}
    if name:
        choice["name"] = name
    if is_serial and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return choice
