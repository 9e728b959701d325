"""Answers and errors as Anthropic's Messages API writes them: content blocks, frames, usage, stop reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from trireme.errors import OverloadedError, TriremeError
from trireme.gateway.statuses import status_of
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_answers import write_ours
from trireme.providers.chat import (
    Event,
    Finished,
    FinishReason,
    Native,
    RefusalDelta,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)
from trireme.providers.port import ProviderError
from trireme.providers.tool_arguments import arguments_as_object, is_whole

_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "stop_sequence": "stop_sequence",
    "length": "max_tokens",
    "tool_use": "tool_use",
    "refusal": "refusal",
    "filter": "refusal",
    "pause": "pause_turn",
}


class Block:
    """A content block: how it starts, and the deltas that nobody took yet."""

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        # More of its kind is another block: after a signature, and where the provider began a second text.
        self.is_ended = False
        self._deltas: list[dict[str, Any]] = []
        self._arguments: list[str] = []
        self._is_closed = False

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.start["type"])

    def add(self, delta: dict[str, Any]) -> None:
        """One more delta. What a model writes behind a whole object of arguments is left out once that is sent."""
        if self._is_closed:
            return
        self._deltas.append(delta)
        if delta["type"] == "input_json_delta":
            self._arguments.append(delta["partial_json"])

    def take(self) -> list[dict[str, Any]]:
        """The deltas since the last call."""
        taken, self._deltas = self._deltas, []
        return taken

    def is_whole(self) -> bool:
        """Whether nothing of it can follow, given that another block has begun."""
        if self.kind != "tool_use":
            return True
        # The cheap question first: this one is asked with every event while a block waits.
        is_likely = bool(self._arguments) and self._arguments[-1].rstrip().endswith("}")
        return is_likely and is_whole("".join(self._arguments))

    def close(self) -> None:
        """Take no more."""
        self._is_closed = True
        self._arguments.clear()

    def value(self) -> dict[str, Any]:
        """All of it, where nothing was taken."""
        value = dict(self.start)
        for delta in self._deltas:
            match delta["type"]:
                case "text_delta":
                    value["text"] += delta["text"]
                case "citations_delta":
                    value["citations"] = [*value.get("citations", ()), delta["citation"]]
                case "thinking_delta":
                    value["thinking"] += delta["thinking"]
                case "signature_delta":
                    value["signature"] = delta["signature"]
        if self.kind == "tool_use":
            value["input"] = arguments_as_object("".join(self._arguments))
        return value


class Answer:
    """One answer as it grows. `blocks` are in the order in which they began."""

    def __init__(self, envelope: Envelope) -> None:
        self.blocks: list[Block] = []
        self._envelope = envelope
        self._tools: dict[int, Block] = {}
        self._usage = Usage()
        self._finished: Finished | None = None
        self._is_refused = False
        self._stop_details: Mapping[str, Any] | None = None
        self._sources: Sources | None = None

    def add(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case Started(input_tokens=tokens) if tokens is not None:
                self._usage = Usage(input_tokens=tokens)
            case Usage():
                known = self._usage.input_tokens if event.input_tokens is None else event.input_tokens
                self._usage = dataclasses.replace(event, input_tokens=known)
            case Finished():
                self._finished = event
            case ToolStart(index=index, id=id_, name=name):
                use = {"type": "tool_use", "id": _client_id(id_), "name": name, "input": {}}
                self._tools[index] = self._open(use)
            case ToolDelta(index=index, arguments=arguments):
                self._tools[index].add({"type": "input_json_delta", "partial_json": arguments})
            case Native(surface="anthropic", piece=piece):
                self._add_native(dict(piece))
            case _:
                self._add_text(event)

    def _add_text(self, event: Event) -> None:
        match event:
            case TextDelta(text=text) if text:
                self._text().add({"type": "text_delta", "text": text})
            case RefusalDelta(text=text) if text:
                self._is_refused = True
                self._text().add({"type": "text_delta", "text": text})
            case ThinkingDelta(text=text, signature=signature):
                self._add_thinking(text, signature)
            case Sources():
                self._sources = event
                for citation in _citations(event):
                    self._text().add({"type": "citations_delta", "citation": citation})

    def _open(self, start: dict[str, Any]) -> Block:
        self.blocks.append(Block(start))
        return self.blocks[-1]

    def _text(self) -> Block:
        return self._last("text") or self._open({"type": "text", "text": ""})

    def _last(self, kind: str) -> Block | None:
        last = self.blocks[-1] if self.blocks else None
        return last if last and last.kind == kind and not last.is_ended else None

    def _add_thinking(self, text: str, signature: str) -> None:
        block = self._last("thinking")
        block = block or self._open({"type": "thinking", "thinking": "", "signature": ""})
        if text:
            block.add({"type": "thinking_delta", "thinking": text})
        if signature:
            block.is_ended = True
            block.add({"type": "signature_delta", "signature": signature})

    def _add_native(self, piece: dict[str, Any]) -> None:
        match piece["type"]:
            case "refusal":
                self._stop_details = piece
            case "citations_delta":
                self._text().add(piece)
            case "content_block_stop":
                for block in self.blocks[-1:]:
                    block.is_ended = True
            case _:
                self._open(piece)

    def opening(self) -> dict[str, Any]:
        """The message of message_start. Clients need both counts there: 0 stands for one that is not known yet."""
        usage = {**_write_usage(self._usage), "output_tokens": 0}
        usage.setdefault("input_tokens", 0)
        return {**self._head(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}

    def outcome(self) -> dict[str, Any]:
        """delta and usage of message_delta, and `trireme` where there are sources."""
        return {"delta": self._stop(), "usage": _write_usage(self._usage), **self._ours()}

    def whole(self) -> dict[str, Any]:
        """The message."""
        usage = {"input_tokens": None, **_write_usage(self._usage)}
        content = [block.value() for block in self.blocks]
        return {**self._head(), "content": content, **self._stop(), "usage": usage, **self._ours()}

    def _head(self) -> dict[str, Any]:
        return {
            "id": f"msg_{self._envelope.id}",
            "type": "message",
            "role": "assistant",
            "model": self._envelope.model,
        }

    def _stop(self) -> dict[str, Any]:
        """By the blocks seen: clients act on tool_use, and a provider may say stop beside calls of tools."""
        finished = self._finished
        reason = _REASONS[finished.reason] if finished else None
        if reason in ("end_turn", "tool_use"):
            reason = "tool_use" if self._tools else "refusal" if self._is_refused else "end_turn"
        sequence = finished.stop_sequence if finished and reason == "stop_sequence" else ""
        return {
            "stop_reason": reason,
            "stop_sequence": sequence or None,
            "stop_details": self._stop_details,
        }

    def _ours(self) -> dict[str, Any]:
        return {} if self._sources is None else {"trireme": write_ours(self._sources)}


class Stream:
    """The frames of one answer. Blocks follow each other, as clients need: what belongs to a later one waits."""

    def __init__(self, envelope: Envelope) -> None:
        self._answer = Answer(envelope)
        self._sent = 0
        self._is_started = False
        self._is_open = False

    def write(self, event: Event) -> bytes:
        """The frames of `event`. What follows a call of a tool waits until its arguments are whole, or the end."""
        self._answer.add(event)
        return b"".join(self._flush(is_last=isinstance(event, Finished)))

    def end(self) -> bytes:
        """message_delta with the cumulative usage, and message_stop."""
        last = [{"type": "message_delta", **self._answer.outcome()}, {"type": "message_stop"}]
        return b"".join([*self._start(), *self._flush(is_last=True), *map(_frame, last)])

    def fail(self, error: TriremeError, request_id: str) -> bytes:
        """An `error` event; a client that has a half answer knows by it that nothing follows."""
        return _frame(error_body(error, request_id))

    def _start(self) -> Iterator[bytes]:
        if not self._is_started:
            self._is_started = True
            yield _frame({"type": "message_start", "message": self._answer.opening()})

    def _flush(self, is_last: bool) -> Iterator[bytes]:
        blocks = self._answer.blocks
        while self._sent < len(blocks):
            block = blocks[self._sent]
            yield from self._start()
            yield from self._write_block(block)
            if not (is_last or (self._sent + 1 < len(blocks) and block.is_whole())):
                return
            yield _frame({"type": "content_block_stop", "index": self._sent})
            block.close()
            self._sent += 1
            self._is_open = False

    def _write_block(self, block: Block) -> Iterator[bytes]:
        if not self._is_open:
            self._is_open = True
            yield _frame({"type": "content_block_start", "index": self._sent, "content_block": block.start})
        for delta in block.take():
            yield _frame({"type": "content_block_delta", "index": self._sent, "delta": delta})


def _frame(value: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (value["type"].encode(), msgspec.json.encode(value))


_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def status_on_wire(error: TriremeError) -> int:
    """As everywhere, but Anthropic's clients know an overload, of a provider or of ours, by 529."""
    is_providers = isinstance(error, ProviderError) and error.kind == "overloaded"
    return 529 if is_providers or isinstance(error, OverloadedError) else status_of(error)


def error_body(error: TriremeError, request_id: str) -> dict[str, Any]:
    """Anthropic's error object."""
    kind = _TYPES.get(status_on_wire(error), "api_error")
    return {"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": request_id}


def _client_id(id_: str) -> str:
    """Ids of tools as Anthropic's clients know them, whoever made them."""
    return f"toolu_{id_.removeprefix('call_')}" if id_.startswith("call_") else id_


def _write_usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's input_tokens leave cached ones out. Counts that are not known stay out, but for output_tokens.

    Clients read that one in any case: null is what they survive, and no count that nobody made.
    """
    cached, written = usage.cached_tokens, usage.cache_write_tokens
    counts: dict[str, Any] = {}
    if usage.input_tokens is not None:
        counts["input_tokens"] = max(0, usage.input_tokens - (cached or 0) - (written or 0))
    if written is not None:
        counts["cache_creation_input_tokens"] = written
    if cached is not None:
        counts["cache_read_input_tokens"] = cached
    counts["output_tokens"] = usage.output_tokens
    if usage.reasoning_tokens is not None:
        counts["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return counts


def _citations(event: Sources) -> list[dict[str, Any]]:
    """char_location citations. A passage is a document here, numbered in the order of the sources."""
    passages = list(dict.fromkeys(source.passage for source in event.sources))
    return [
        {
            "type": "char_location",
            "cited_text": source.text,
            "document_index": passages.index(source.passage),
            "document_title": source.source,
            "start_char_index": source.start,
            "end_char_index": source.end,
            "file_id": None,
        }
        for source in event.sources
    ]
