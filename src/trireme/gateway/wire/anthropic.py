"""Anthropic's Messages API: POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from trireme.errors import InvalidInputError, TriremeError
from trireme.gateway.statuses import retry_headers
from trireme.gateway.surface import ChatSurface, Envelope, Failure, StreamWriter
from trireme.gateway.wire.anthropic_answers import Answer, Stream, error_body, status_on_wire
from trireme.gateway.wire.openai_chat import Ours, read_stop
from trireme.gateway.wire.shapes import shape
from trireme.providers.chat import (
    ChatCall,
    Event,
    Foreign,
    Image,
    Message,
    Part,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)
from trireme.providers.tool_arguments import arguments_as_text

OLD_VERSION = "2023-06-01"
# It takes no sampling fields, no documents of the assistant, and no citations on a user's text.
NEW_VERSION = "2026-10-21"
_SAMPLING = ("temperature", "top_p", "top_k")

_Content = str | list[dict[str, Any]]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Turn(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: _Content


class _ToolRow(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Body(msgspec.Struct):
    model: Annotated[str, msgspec.Meta(min_length=1)]
    messages: Annotated[list[_Turn], msgspec.Meta(min_length=1)]
    max_tokens: _Count | None = None
    system: _Content | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    temperature: _Share | None = None
    top_p: _Share | None = None
    top_k: _Count | None = None
    tools: list[_ToolRow] | None = None
    tool_choice: _ToolChoice | None = None
    trireme: Ours | None = None


class _TextBlock(msgspec.Struct):
    text: str
    citations: Any = None


class _ImageBlock(msgspec.Struct):
    source: dict[str, Any]


class _Base64(msgspec.Struct):
    media_type: str
    data: str


class _Url(msgspec.Struct):
    url: str


class _ToolUseBlock(msgspec.Struct):
    id: str
    name: str
    input: dict[str, Any]


class _ToolResultBlock(msgspec.Struct):
    tool_use_id: str
    content: _Content | None = None
    is_error: bool | None = None


class _ThinkingBlock(msgspec.Struct):
    thinking: str
    signature: str = ""


class _RedactedBlock(msgspec.Struct):
    data: str


def read(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatCall:
    """A body of /v1/messages. Raises InvalidInputError that names the field or the header.

    Results of tools become messages of role "tool", one each, before the rest of their turn. Tools that Anthropic
    runs (web_search ...) stand in `unknown` as tools.TYPE, and blocks that only its models read are Foreign.
    """
    call = read_count(body, headers)
    if call.max_tokens is None:
        raise InvalidInputError(
            "max_tokens is missing; give the most tokens that the answer may have", "max_tokens"
        )
    return call


def read_count(body: Mapping[str, Any], headers: Mapping[str, str]) -> ChatCall:
    """A body of /v1/messages/count_tokens: as `read`, but max_tokens may be missing."""
    version = _read_version(headers)
    for field in _SAMPLING if version == NEW_VERSION else ():
        if body.get(field) is not None:
            raise InvalidInputError(
                f"{field} is not taken under anthropic-version {NEW_VERSION}; leave it out", field
            )
    given = shape(body, _Body)
    choice, ours = given.tool_choice, given.trireme or Ours()
    tools = list(_read_tools(given.tools or []))
    betas = headers.get("anthropic-beta", "").split(",")
    return ChatCall(
        surface="anthropic",
        model=given.model,
        messages=(*_read_system(given.system), *_read_turns(given.messages, version)),
        body=body,
        unknown=(
            *(field for field in body if field not in _Body.__struct_fields__),
            *(f"tools.{tool}" for tool in tools if isinstance(tool, str)),
        ),
        stream=bool(given.stream),
        include_usage=True,
        tools=tuple(tool for tool in tools if isinstance(tool, Tool)),
        tool_choice=_read_choice(choice) if choice else None,
        parallel_tool_calls=_negate(choice.disable_parallel_tool_use) if choice else None,
        max_tokens=given.max_tokens,
        temperature=given.temperature,
        top_p=given.top_p,
        top_k=given.top_k,
        stop=tuple(given.stop_sequences or ()),
        betas=tuple(beta.strip() for beta in betas if beta.strip()),
        api_version=version,
        collection=ours.collection,
        passages=ours.passages,
        answer_mode=ours.answer_mode,
        stop_when=read_stop(ours),
    )


def _read_version(headers: Mapping[str, str]) -> str:
    version = headers.get("anthropic-version", "")
    if version not in ("", OLD_VERSION, NEW_VERSION):
        raise InvalidInputError(
            f"anthropic-version {version!r} is not known; send {OLD_VERSION} or {NEW_VERSION}",
            "anthropic-version",
        )
    return version


def _negate(value: bool | None) -> bool | None:
    return None if value is None else not value


def _read_tools(rows: Sequence[_ToolRow]) -> Iterator[Tool | str]:
    """Tools of the client, and the types of those that Anthropic runs."""
    for position, row in enumerate(rows):
        if row.type not in (None, "custom"):
            yield str(row.type)
            continue
        for field in ("name", "input_schema"):
            if getattr(row, field) in ("", None):
                raise InvalidInputError(f"tools[{position}].{field} is missing", f"tools[{position}].{field}")
        yield Tool(row.name, row.description or "", row.input_schema or {}, row.strict)


def _read_choice(choice: _ToolChoice) -> str:
    if choice.type != "tool":
        return choice.type
    if not choice.name:
        raise InvalidInputError("tool_choice.name is missing; name the tool to call", "tool_choice.name")
    return f"tool:{choice.name}"


def _read_system(content: _Content | None) -> Iterator[Message]:
    if content:
        parts = tuple(_read_parts(content, "system"))
        _check_roles("system", parts, "system")
        yield Message("system", parts)


def _read_turns(turns: Sequence[_Turn], version: str) -> Iterator[Message]:
    for position, turn in enumerate(turns):
        place = f"messages[{position}].content"
        parts = tuple(_read_parts(turn.content, place))
        _check_roles(turn.role, parts, place)
        if version == NEW_VERSION:
            _check_new_version(turn, place)
        results = [part for part in parts if isinstance(part, ToolResult)]
        rest = tuple(part for part in parts if not isinstance(part, ToolResult))
        yield from (Message("tool", (result,)) for result in results)
        if rest or not results:
            yield Message(turn.role, rest)


def _check_roles(role: str, parts: Sequence[Part], place: str) -> None:
    for part in parts:
        if isinstance(part, ToolUse | Thinking) and role != "assistant":
            raise InvalidInputError(f"{place}: only the assistant thinks and calls tools", place)
        if isinstance(part, ToolResult) and role != "user":
            raise InvalidInputError(f"{place}: results of tools belong into a turn of the user", place)


def _check_new_version(turn: _Turn, place: str) -> None:
    for block in turn.content if isinstance(turn.content, list) else []:
        kind = block.get("type")
        if (turn.role, kind) == ("assistant", "document"):
            raise InvalidInputError(f"{place}: {NEW_VERSION} takes no document of the assistant", place)
        if (turn.role, kind) == ("user", "text") and block.get("citations"):
            raise InvalidInputError(f"{place}: {NEW_VERSION} takes no citations on a user's text", place)


def _read_parts(content: _Content, place: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield Text(content)
        return
    for position, block in enumerate(content):
        yield from _read_block(block, f"{place}[{position}]")


def _read_block(block: dict[str, Any], place: str) -> Iterator[Part]:
    match block.get("type"):
        case "text":
            yield Text(shape(block, _TextBlock, place).text)
        case "image":
            yield _read_image(shape(block, _ImageBlock, place).source, f"{place}.source")
        case "tool_use":
            use = shape(block, _ToolUseBlock, place)
            yield ToolUse(use.id, use.name, arguments_as_text(use.input))
        case "tool_result":
            yield from _read_result(shape(block, _ToolResultBlock, place), place)
        case "thinking":
            thinking = shape(block, _ThinkingBlock, place)
            yield Thinking(thinking.thinking, thinking.signature)
        case "redacted_thinking":
            yield Thinking("", shape(block, _RedactedBlock, place).data)
        case str(kind) if kind:
            yield Foreign(kind)
        case _:
            raise InvalidInputError(f"{place}.type is missing; each block names its type", f"{place}.type")


def _read_image(source: dict[str, Any], place: str) -> Part:
    match source.get("type"):
        case "base64":
            inline = shape(source, _Base64, place)
            return Image(f"data:{inline.media_type};base64,{inline.data}")
        case "url":
            return Image(shape(source, _Url, place).url)
        case _:
            return Foreign("image")


def _read_result(block: _ToolResultBlock, place: str) -> Iterator[Part]:
    """The result, then what of it no neutral form has: it goes to the rest of the turn, where it is seen."""
    parts = list(_read_parts(block.content, f"{place}.content")) if block.content else []
    texts = [part.text for part in parts if isinstance(part, Text)]
    images = tuple(part for part in parts if isinstance(part, Image))
    yield ToolResult(block.tool_use_id, "\n".join(texts), images, bool(block.is_error))
    yield from (part for part in parts if not isinstance(part, Text | Image))


def stream(call: ChatCall, envelope: Envelope) -> StreamWriter:
    """Events as Anthropic's named server-sent events. Arguments of tools pass as the model wrote them."""
    return Stream(envelope)


def whole(call: ChatCall, envelope: Envelope, events: Sequence[Event]) -> Mapping[str, Any]:
    """The answer as one message. Arguments that are no JSON object stand there as {"_invalid_json": TEXT}.

    Counts that the provider did not say are null. `trireme` has the sources of a rag answer.
    """
    answer = Answer(envelope)
    for event in events:
        answer.add(event)
    return answer.whole()


def whole_count(tokens: int) -> Mapping[str, Any]:
    """The answer of /v1/messages/count_tokens, for `read_count` as `whole` is for `read`."""
    return {"input_tokens": tokens}


def fail(error: TriremeError, request_id: str) -> Failure:
    """An error before anything was sent, with Anthropic's header request-id."""
    headers = (("request-id", request_id), *retry_headers(error))
    return Failure(status_on_wire(error), error_body(error, request_id), headers)


ANTHROPIC = ChatSurface("anthropic", read, stream, whole, fail)
