"""Answers of Anthropic's Messages API, streamed or whole, as events. Pure: it reads frames that others fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from trireme.providers.chat import (
    Event,
    Finished,
    FinishReason,
    Native,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)
from trireme.providers.port import ProviderError, Remedy
from trireme.providers.tool_arguments import arguments_as_object, arguments_as_text

_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_use",
    "pause_turn": "pause",
    "refusal": "refusal",
}
# Type of an error -> what may help, and the word for it.
_ERRORS: dict[str, tuple[Remedy, str]] = {
    "invalid_request_error": ("give_up", "invalid"),
    "authentication_error": ("rotate", "auth"),
    "billing_error": ("rotate", "billing"),
    "permission_error": ("rotate", "auth"),
    "not_found_error": ("next", "not_found"),
    "conflict_error": ("again", "conflict"),
    "request_too_large": ("give_up", "too_large"),
    "rate_limit_error": ("rotate", "rate_limit"),
    "timeout_error": ("again", "timeout"),
    "api_error": ("again", "server"),
    "overloaded_error": ("again", "overloaded"),
}
_EVENTS = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
)
_DELTAS = ("text_delta", "input_json_delta", "citations_delta", "thinking_delta", "signature_delta")
_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
# Of a provider's own text that an error of ours quotes.
_QUOTED = 300


def error_of(error: Mapping[str, Any], status: int = 0, retry_after: float = 0.0) -> ProviderError:
    """The `error` object of a frame or of a body, as ours. A type that is not known lets another target try."""
    kind, text = str(error.get("type", "")), str(error.get("message", ""))[:_QUOTED]
    remedy, word = _ERRORS.get(kind, ("next", "unknown"))
    if kind == "invalid_request_error" and "credit balance" in text:
        remedy, word = "rotate", "billing"
    elif kind == "invalid_request_error" and _is_too_long(text):
        remedy, word = "larger", "too_long"
    said = f"the provider says {kind or 'error'}"
    # What it says of a key is the operator's to know, and may quote a part of it.
    if text and word not in ("auth", "billing"):
        said += f": {text}"
    return ProviderError(said, remedy, word, status=status, retry_after=retry_after)


def _is_too_long(text: str) -> bool:
    return "prompt is too long" in text or "exceed context limit" in text


def _malformed(what: str) -> ProviderError:
    return ProviderError(f"the provider's answer is malformed: {what}", "next", "malformed")


class AnswerReader:
    """Frames of one answer, in their order, into events. `keeps_ids`: the client's surface is Anthropic's own.

    Usage comes where the counts do, cumulative. Finished comes last, with message_stop: a cut stream has none.
    """

    def __init__(self, keeps_ids: bool) -> None:
        self._keeps_ids = keeps_ids
        self._is_started = False
        self._is_stopped = False
        self._reason: str | None = None
        self._stop_sequence = ""
        self._counts: dict[str, int] = {}
        self._thinking_tokens: int | None = None
        self._tools = 0
        self._last_kind = ""
        # The block that is open: its frame, the index of its tool call, and the pieces of its input.
        self._block: dict[str, Any] = {}
        self._tool: int | None = None
        self._pieces: list[str] = []

    @property
    def is_stopped(self) -> bool:
        """Whether the answer said that it is over."""
        return self._is_stopped

    def read(self, data: str | bytes) -> list[Event]:
        """The events of one frame's data. Raises ProviderError for an error event and for what is malformed.

        What comes behind message_stop is ignored, and so are unknown types.
        """
        return self.read_frame(_decode(data))

    def read_frame(self, frame: Any) -> list[Event]:
        """As `read`, of a decoded frame."""
        # Nine frames of ten are this one: it does not take the long way.
        match frame:
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
                if self._is_started and not self._is_stopped:
                    return [TextDelta(text)] if text else []
        return list(self._read(frame))

    def _read(self, frame: Any) -> Iterator[Event]:
        if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
            raise _malformed("a frame has no type")
        kind = frame["type"]
        if kind == "error":
            error = frame.get("error")
            raise error_of(error if isinstance(error, dict) else {})
        if self._is_stopped or kind not in _EVENTS:
            return
        if self._is_started == (kind == "message_start"):
            raise _malformed(f"{kind} is out of order")
        yield from self._read_known(frame)

    def finish(self) -> None:
        """The stream has ended. Raises ProviderError of kind cut where the answer had not."""
        if not self._is_stopped:
            raise ProviderError("the provider's answer broke off before its end", "again", "cut")

    def _read_known(self, frame: dict[str, Any]) -> Iterator[Event]:
        match frame:
            case {"type": "message_start", "message": {"model": str(model)}}:
                yield from self._start(model, frame["message"].get("usage"))
            case {"type": "content_block_start", "content_block": {"type": str()}}:
                yield from self._start_block(frame["content_block"])
            case {"type": "content_block_delta", "delta": {"type": str(kind)}}:
                if kind in _DELTAS:
                    yield from self._read_delta(frame["delta"])
            case {"type": "content_block_stop"}:
                yield from self._stop_block()
            case {"type": "message_delta", "delta": dict()}:
                yield from self._read_outcome(frame["delta"], frame.get("usage"))
            case {"type": "message_stop"}:
                yield self._finished()
            case _:
                raise _malformed(f"{frame['type']} lacks a field")

    def _start(self, model: str, counts: Any) -> Iterator[Event]:
        self._is_started = True
        self._note_usage(counts)
        # Not the output's: what stands there at the start is no count yet.
        self._counts.pop("output_tokens", None)
        self._thinking_tokens = None
        usage = self._usage()
        yield Started(model, usage.input_tokens)
        if usage != Usage():
            yield usage

    def _start_block(self, block: dict[str, Any]) -> Iterator[Event]:
        kind, before = block["type"], self._last_kind
        self._block, self._last_kind, self._tool, self._pieces = block, kind, None, []
        match block:
            case {"type": "text", "text": str(text)}:
                if before == "text":
                    # Citations belong to one block of text; without this, two would become one.
                    yield Native("anthropic", {"type": "content_block_stop"})
                if text:
                    yield TextDelta(text)
                for citation in block.get("citations") or ():
                    yield Native("anthropic", {"type": "citations_delta", "citation": citation})
            case {"type": "thinking", "thinking": str(text)}:
                signature = str(block.get("signature") or "")
                if text or signature:
                    yield ThinkingDelta(text, signature)
            case {"type": "tool_use", "id": str(id_), "name": str(name)}:
                self._tool = self._tools
                self._tools += 1
                yield ToolStart(self._tool, self._client_id(id_), name)
            case {"type": "text" | "thinking" | "tool_use"}:
                raise _malformed(f"a block of type {kind} lacks a field")

    def _read_delta(self, delta: dict[str, Any]) -> Iterator[Event]:
        match delta:
            case {"type": "thinking_delta", "thinking": str(text)}:
                if text:
                    yield ThinkingDelta(text)
            case {"type": "signature_delta", "signature": str(signature)}:
                if signature:
                    yield ThinkingDelta(signature=signature)
            case {"type": "citations_delta", "citation": dict()}:
                yield Native("anthropic", delta)
            case {"type": "input_json_delta", "partial_json": str(piece)}:
                self._pieces.append(piece)
                if piece and self._tool is not None:
                    yield ToolDelta(self._tool, piece)
            case _:
                raise _malformed(f"{delta['type']} lacks its field")

    def _stop_block(self) -> Iterator[Event]:
        block, text = self._block, "".join(self._pieces)
        self._block, tool = {}, self._tool
        if tool is not None:
            # A call without arguments has no delta that says something; {} is what it means.
            if not text:
                start = block.get("input")
                yield ToolDelta(tool, arguments_as_text(start if isinstance(start, dict) else {}))
        elif block and block["type"] not in ("text", "thinking"):
            yield Native("anthropic", {**block, "input": arguments_as_object(text)} if text else block)

    def _read_outcome(self, delta: dict[str, Any], usage: Any) -> Iterator[Event]:
        if isinstance(reason := delta.get("stop_reason"), str):
            self._reason = reason
        if isinstance(sequence := delta.get("stop_sequence"), str):
            self._stop_sequence = sequence
        if isinstance(details := delta.get("stop_details"), dict) and details.get("type") == "refusal":
            yield Native("anthropic", details)
        if isinstance(usage, dict):
            self._note_usage(usage)
            yield self._usage()

    def _finished(self) -> Finished:
        if self._reason is None:
            raise _malformed("it ends without a stop_reason")
        self._is_stopped = True
        reason = _REASONS.get(self._reason, "stop")
        if reason == "stop" and self._tools:
            reason = "tool_use"
        return Finished(reason, stop_sequence=self._stop_sequence if reason == "stop_sequence" else "")

    def _note_usage(self, usage: Any) -> None:
        """Counts are cumulative: a later one replaces, one that is left out stays."""
        if not isinstance(usage, dict):
            return
        self._counts.update({field: usage[field] for field in _COUNTS if _is_count(usage.get(field))})
        details = usage.get("output_tokens_details")
        if isinstance(details, dict) and _is_count(details.get("thinking_tokens")):
            self._thinking_tokens = details["thinking_tokens"]

    def _usage(self) -> Usage:
        """Anthropic's input_tokens leave out what the cache read and wrote; ours have all. A sum of 0 is none."""
        counts = self._counts
        read, written = counts.get("cache_read_input_tokens"), counts.get("cache_creation_input_tokens")
        total = counts.get("input_tokens", 0) + (read or 0) + (written or 0)
        is_known = total > 0 and "input_tokens" in counts
        return Usage(
            input_tokens=total if is_known else None,
            output_tokens=counts.get("output_tokens"),
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=self._thinking_tokens,
        )

    def _client_id(self, id_: str) -> str:
        if self._keeps_ids or not id_.startswith("toolu_"):
            return id_
        return f"call_{id_.removeprefix('toolu_')}"


def _decode(data: str | bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("it is no JSON") from None


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def read_whole(data: bytes, keeps_ids: bool) -> list[Event]:
    """The events of a whole answer. Raises ProviderError for an error object and for what is malformed."""
    message = _decode(data)
    reader = AnswerReader(keeps_ids)
    return [event for frame in _frames_of(message) for event in reader.read_frame(frame)]


def _frames_of(message: Any) -> Iterator[dict[str, Any]]:
    """The frames that a stream would have brought for the same message."""
    match message:
        case {"type": "error"}:
            yield message
        case {"type": "message", "content": list(blocks)}:
            yield {"type": "message_start", "message": message}
            for block in blocks:
                yield {"type": "content_block_start", "content_block": block}
                yield {"type": "content_block_stop"}
            yield {"type": "message_delta", "delta": message, "usage": message.get("usage")}
            yield {"type": "message_stop"}
        case _:
            raise _malformed("it is no message")


def read_count(data: bytes) -> int:
    """input_tokens of an answer of count_tokens. Raises ProviderError."""
    match _decode(data):
        case {"type": "error", "error": dict(error)}:
            raise error_of(error)
        case {"input_tokens": int(tokens)}:
            return tokens
        case _:
            raise _malformed("it has no input_tokens")
