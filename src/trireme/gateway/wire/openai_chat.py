"""OpenAI's chat completions, POST /v1/chat/completions: its bodies; openai_answers.py has what is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError
from trireme.gateway.file import StopWhen
from trireme.gateway.surface import ChatSurface
from trireme.gateway.wire.openai_answers import fail, stream, whole
from trireme.gateway.wire.shapes import shape
from trireme.providers.chat import (
    STRUCTURED,
    ChatCall,
    Foreign,
    Image,
    Message,
    Part,
    Role,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)

MOST_CHOICES = 128
_Count = Annotated[int, msgspec.Meta(ge=1)]
_Filled = Annotated[str, msgspec.Meta(min_length=1)]
_ROLES: dict[str, Role] = {
    "developer": "system",
    "system": "system",
    "user": "user",
    "assistant": "assistant",
}
# Replaced by newer fields since 2023; no current client sends them.
_OLD = {"functions": "tools", "function_call": "tool_choice"}


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str
    function: _Function


class _Turn(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None


class _TextPart(msgspec.Struct):
    text: str


class _ImageUrl(msgspec.Struct):
    url: str
    detail: str = ""


class _ImagePart(msgspec.Struct):
    image_url: _ImageUrl


class _RefusalPart(msgspec.Struct):
    refusal: str


class _ToolFunction(msgspec.Struct):
    name: _Filled
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolRow(msgspec.Struct):
    type: Literal["function"]
    function: _ToolFunction


class _NamedFunction(msgspec.Struct):
    name: _Filled


class _NamedTool(msgspec.Struct):
    function: _NamedFunction


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class Ours(msgspec.Struct, forbid_unknown_fields=True):
    """What a request may say of a rag answer, and of where any answer is stopped."""

    collection: _Filled | None = None
    passages: _Count | None = None
    answer_mode: Literal["auto", "extractive", "generative"] | None = None
    stop_when: StopWhen | None = None


class Sampling(msgspec.Struct):
    """Fields that chats and the older completions share."""

    model: _Filled
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: _Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)] | None = None
    trireme: Ours | None = None


class _Body(Sampling, kw_only=True):
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    max_completion_tokens: _Count | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    response_format: dict[str, Any] | None = None
    # vLLM's.
    structured_outputs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    # Who the user is says the key.
    user: str | None = None


def read(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatCall:
    """A body of /v1/chat/completions. Raises InvalidInputError that names the field.

    Tools that are no functions stand in `unknown` as tools.TYPE; parts that only OpenAI's models read are Foreign.
    """
    for old, new in _OLD.items():
        if body.get(old) is not None:
            raise InvalidInputError(f"{old} is no longer taken; send {new}", old)
    given = shape(body, _Body)
    messages = tuple(_read_turn(turn, f"messages[{place}]") for place, turn in enumerate(given.messages))
    tools, foreign = _read_tools(given.tools or [])
    return ChatCall(
        surface="openai",
        messages=messages,
        body=body,
        unknown=(*unknown_fields(body, _Body), *foreign),
        tools=tools,
        tool_choice=_read_choice(given.tool_choice),
        parallel_tool_calls=given.parallel_tool_calls,
        max_tokens=given.max_completion_tokens or given.max_tokens,
        logprobs=(given.top_logprobs or 0) if given.logprobs else None,
        response_format=_read_form(given),
        reasoning_effort=given.reasoning_effort,
        **read_sampling(given),
    )


def _read_form(given: _Body) -> dict[str, Any] | None:
    if given.structured_outputs is None:
        return given.response_format
    if given.response_format is not None:
        raise InvalidInputError("structured_outputs: send it or response_format, not both", STRUCTURED)
    return {"type": STRUCTURED, STRUCTURED: given.structured_outputs}


def unknown_fields(body: Mapping[str, Any], kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """Fields of a body that `kind` does not know. One that is null is as if it were not there."""
    return tuple(
        name for name, value in body.items() if name not in kind.__struct_fields__ and value is not None
    )


def read_sampling(given: Sampling) -> dict[str, Any]:
    """The fields of a ChatCall that both of OpenAI's text endpoints have, but for max_tokens."""
    ours = given.trireme or Ours()
    stop = [given.stop] if isinstance(given.stop, str) else given.stop or []
    return {
        "model": given.model,
        "stream": bool(given.stream),
        "include_usage": bool(given.stream_options and given.stream_options.include_usage),
        "temperature": given.temperature,
        "top_p": given.top_p,
        "presence_penalty": given.presence_penalty,
        "frequency_penalty": given.frequency_penalty,
        "seed": given.seed,
        "stop": tuple(stop),
        "choices": given.n or 1,
        "collection": ours.collection,
        "passages": ours.passages,
        "answer_mode": ours.answer_mode,
        "stop_when": read_stop(ours),
    }


def read_stop(ours: Ours) -> dict[str, Any] | None:
    """trireme.stop_when without what says nothing: {} for "never", None where it was not given."""
    if ours.stop_when is None:
        return None
    given = msgspec.structs.asdict(ours.stop_when)
    return {name: value for name, value in given.items() if value}


def _read_turn(turn: _Turn, place: str) -> Message:
    if turn.role == "tool":
        if turn.tool_call_id is None:
            raise InvalidInputError(f"{place}.tool_call_id is missing", f"{place}.tool_call_id")
        parts = _read_content(turn.content, place)
        text = "\n".join(part.text for part in parts if isinstance(part, Text))
        images = tuple(part for part in parts if isinstance(part, Image))
        return Message("tool", (ToolResult(turn.tool_call_id, text, images),), turn.name or "")
    said: list[Part] = [Thinking(turn.reasoning_content)] if turn.reasoning_content else []
    said += _read_content(turn.content, place)
    if turn.refusal:
        said.append(Text(turn.refusal))
    if turn.tool_calls and turn.role != "assistant":
        raise InvalidInputError(f"{place}.tool_calls: only an assistant calls tools", f"{place}.tool_calls")
    said += [ToolUse(call.id, call.function.name, call.function.arguments) for call in turn.tool_calls or ()]
    if turn.content is None and not said:
        raise InvalidInputError(f"{place}.content is missing", f"{place}.content")
    return Message(_ROLES[turn.role], tuple(said), turn.name or "")


def _read_content(content: str | list[dict[str, Any]] | None, place: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)]
    return [_read_part(part, f"{place}.content[{index}]") for index, part in enumerate(content)]


def _read_part(part: dict[str, Any], place: str) -> Part:
    kind = part.get("type")
    if kind == "text":
        return Text(shape(part, _TextPart, place).text)
    if kind == "refusal":
        return Text(shape(part, _RefusalPart, place).refusal)
    if kind == "image_url":
        image = shape(part, _ImagePart, place).image_url
        return Image(image.url, image.detail)
    if not isinstance(kind, str):
        raise InvalidInputError(f"{place}.type is missing", f"{place}.type")
    return Foreign(kind)


def _read_tools(rows: Sequence[dict[str, Any]]) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Functions, and the types of other tools."""
    tools, foreign = [], []
    for place, row in enumerate(rows):
        if row.get("type", "function") != "function":
            foreign.append(f"tools.{row['type']}"[:80])
            continue
        function = shape({"type": "function", **row}, _ToolRow, f"tools[{place}]").function
        tools.append(
            Tool(function.name, function.description or "", function.parameters or {}, function.strict)
        )
    return tuple(tools), tuple(foreign)


def _read_choice(choice: Any) -> str | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "none"):
        return choice
    if choice == "required":
        return "any"
    if isinstance(choice, dict) and choice.get("type") == "function":
        return f"tool:{shape(choice, _NamedTool, 'tool_choice').function.name}"
    raise InvalidInputError(
        "tool_choice must be auto, none, required, or a function by its name", "tool_choice"
    )


OPENAI = ChatSurface("openai", read, stream, whole, fail)
