"""OpenAI's Responses API, POST /v1/responses: the part that keeps nothing between calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError, TriremeError
from trireme.gateway.statuses import status_of
from trireme.gateway.surface import ChatSurface, Envelope, StreamWriter
from trireme.gateway.wire.openai_answers import fail
from trireme.gateway.wire.openai_chat import Ours, read_stop
from trireme.gateway.wire.responses_items import Answer
from trireme.gateway.wire.shapes import shape
from trireme.providers.chat import (
    ChatCall,
    Event,
    Image,
    Message,
    Part,
    Role,
    Text,
    Tool,
    ToolResult,
    ToolUse,
)

# What needs something kept between calls, or something that is not run here.
_REFUSED = ("previous_response_id", "conversation", "background", "prompt", "store", "include")
# Asks for nothing where no reasoning is handed out, and Codex sends it with every call.
_ENCRYPTED = "reasoning.encrypted_content"
_Objects = list[dict[str, Any]]


class _Format(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]


class _Words(msgspec.Struct):
    format: dict[str, Any] | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None


class _ToolRow(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Body(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1)]
    input: str | _Objects
    instructions: str | None = None
    tools: list[_ToolRow] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: _Words | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    stream: bool | None = None
    trireme: Ours | None = None


class _MessageItem(msgspec.Struct):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | _Objects


class _CallItem(msgspec.Struct):
    call_id: str
    name: str
    arguments: str


class _OutputItem(msgspec.Struct):
    call_id: str
    output: str | _Objects


class _TextPart(msgspec.Struct):
    text: str


class _RefusalPart(msgspec.Struct):
    refusal: str


class _ImagePart(msgspec.Struct):
    image_url: str
    detail: str | None = None


class _Named(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=1)]


def read(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatCall:
    """A body of /v1/responses. Raises InvalidInputError that names the field.

    What asks for a kept response, for work in the background or for a tool of OpenAI's own is refused; items of
    reasoning are left out. Neighbouring items of the assistant are one message.
    """
    for field in _REFUSED:
        _check_refused(field, body.get(field))
    given = shape(body, _Body)
    words, reasoning, ours = given.text or _Words(), given.reasoning or _Reasoning(), given.trireme or Ours()
    unknown = [field for field in body if field not in (*_Body.__struct_fields__, *_REFUSED)]
    if words.verbosity is not None:
        unknown.append("text.verbosity")
    if reasoning.summary is not None:
        unknown.append("reasoning.summary")
    instructions = [Message("system", (Text(given.instructions),))] if given.instructions else []
    return ChatCall(
        surface="responses",
        model=given.model,
        messages=(*instructions, *_read_input(given.input)),
        body=body,
        unknown=tuple(unknown),
        stream=bool(given.stream),
        include_usage=True,
        tools=tuple(_read_tools(given.tools or [])),
        tool_choice=_read_choice(given.tool_choice),
        parallel_tool_calls=given.parallel_tool_calls,
        max_tokens=given.max_output_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        response_format=_read_format(words.format),
        reasoning_effort=reasoning.effort,
        collection=ours.collection,
        passages=ours.passages,
        answer_mode=ours.answer_mode,
        stop_when=read_stop(ours),
    )


def _check_refused(field: str, value: Any) -> None:
    # null, false and [] ask for nothing.
    if value in (None, False, []) or (field == "include" and value == [_ENCRYPTED]):
        return
    reason = {
        "store": "no response is kept here; send false",
        "background": "nothing runs in the background here; send false",
        "include": f"only {_ENCRYPTED} is taken",
    }.get(field, "nothing is kept between calls here; send all of the input")
    raise InvalidInputError(f"{field}: {reason}", field)


def _read_tools(rows: Sequence[_ToolRow]) -> Iterator[Tool]:
    for position, row in enumerate(rows):
        place = f"tools[{position}]"
        if row.type != "function":
            raise InvalidInputError(
                f"{place}.type: {row.type} is not run here; only function is", f"{place}.type"
            )
        if not row.name:
            raise InvalidInputError(f"{place}.name is missing", f"{place}.name")
        yield Tool(row.name, row.description or "", row.parameters or {}, row.strict)


def _read_choice(choice: str | dict[str, Any] | None) -> str | None:
    match choice:
        case None | "auto" | "none":
            return choice
        case "required":
            return "any"
        case {"type": "function"}:
            return f"tool:{shape(choice, _Named, 'tool_choice').name}"
        case _:
            raise InvalidInputError(
                "tool_choice: auto, none, required, or an object of type function with a name", "tool_choice"
            )


def _read_format(value: dict[str, Any] | None) -> Mapping[str, Any] | None:
    """As the response_format of chats, where a schema stands one level deeper."""
    if value is None:
        return None
    kind = shape(value, _Format, "text.format").type
    if kind != "json_schema":
        return {"type": kind}
    return {"type": kind, kind: {field: part for field, part in value.items() if field != "type"}}


def _read_input(given: str | _Objects) -> Iterator[Message]:
    if isinstance(given, str):
        yield Message("user", (Text(given),))
        return
    waiting: list[Part] = []
    for position, item in enumerate(given):
        for message in _read_item(item, f"input[{position}]"):
            if message.role == "assistant":
                waiting.extend(message.parts)
                continue
            if waiting:
                yield Message("assistant", tuple(waiting))
                waiting = []
            yield message
    if waiting:
        yield Message("assistant", tuple(waiting))


def _read_item(item: dict[str, Any], place: str) -> Iterator[Message]:
    match item.get("type", "message"):
        case "message":
            message = shape(item, _MessageItem, place)
            role: Role = "system" if message.role == "developer" else message.role
            yield Message(role, tuple(_read_parts(message.content, f"{place}.content")))
        case "function_call":
            call = shape(item, _CallItem, place)
            yield Message("assistant", (ToolUse(call.call_id, call.name, call.arguments),))
        case "function_call_output":
            result = shape(item, _OutputItem, place)
            parts = list(_read_parts(result.output, f"{place}.output"))
            text = "\n".join(part.text for part in parts if isinstance(part, Text))
            images = tuple(part for part in parts if isinstance(part, Image))
            yield Message("tool", (ToolResult(result.call_id, text, images),))
        case "reasoning":
            return
        case kind:
            raise InvalidInputError(f"{place}.type: {kind} is not taken here", f"{place}.type")


def _read_parts(content: str | _Objects, place: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for position, part in enumerate(content):
        inner = f"{place}[{position}]"
        match part.get("type"):
            case "input_text" | "output_text":
                yield Text(shape(part, _TextPart, inner).text)
            case "refusal":
                yield Text(shape(part, _RefusalPart, inner).refusal)
            case "input_image":
                image = shape(part, _ImagePart, inner)
                yield Image(image.image_url, image.detail or "")
            case kind:
                raise InvalidInputError(f"{inner}.type: {kind} is not taken here", f"{inner}.type")


class _Stream:
    """The events of one answer, each with the next sequence_number."""

    def __init__(self, call: ChatCall, envelope: Envelope) -> None:
        self._answer = Answer(call, envelope)
        self._sent = 0

    def write(self, event: Event) -> bytes:
        """The events that `event` brings; response.created comes with the first that is content."""
        return self._frames(self._answer.add(event))

    def end(self) -> bytes:
        """response.completed or response.incomplete, with all of the answer and its usage."""
        return self._frames(self._answer.end())

    def fail(self, error: TriremeError, request_id: str) -> bytes:
        """response.failed, where the response is known, and `error`.

        The second has OpenAI's error object too: its client raises for that alone, and takes the rest for an end.
        """
        code = {429: "rate_limit_exceeded", 400: "invalid_prompt"}.get(status_of(error), "server_error")
        frames = list(self._answer.fail(code, str(error))) if self._sent else []
        said = fail(error, request_id).body
        frames.append({"type": "error", "code": code, "message": str(error), "param": None, **said})
        return self._frames(frames)

    def _frames(self, events: Sequence[dict[str, Any]] | Iterator[dict[str, Any]]) -> bytes:
        frames = []
        for event in events:
            numbered = {"type": event["type"], "sequence_number": self._sent, **event}
            frames.append(
                b"event: %s\ndata: %s\n\n" % (event["type"].encode(), msgspec.json.encode(numbered))
            )
            self._sent += 1
        return b"".join(frames)


def stream(call: ChatCall, envelope: Envelope) -> StreamWriter:
    """Events as those of the Responses API. Calls of tools may interleave; output_index tells them apart."""
    return _Stream(call, envelope)


def whole(call: ChatCall, envelope: Envelope, events: Sequence[Event]) -> Mapping[str, Any]:
    """The answer as one response object, the same that ends a stream."""
    answer = Answer(call, envelope)
    for event in events:
        for _ in answer.add(event):
            pass
    return answer.response()


RESPONSES = ChatSurface("responses", read, stream, whole, fail)
