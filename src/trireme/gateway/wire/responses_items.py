"""Events of an answer laid out as the output items and stream events of OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, Literal

from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_answers import write_ours
from trireme.providers.chat import (
    ChatCall,
    Event,
    Finished,
    RefusalDelta,
    Sources,
    TextDelta,
    ToolDelta,
    ToolStart,
    Usage,
    is_content,
)

_INCOMPLETE = {"length": "max_output_tokens", "filter": "content_filter"}
_Frame = dict[str, Any]
_Kind = Literal["output_text", "refusal"]


class _Content:
    """A part of a message: its text, or the text of a refusal."""

    def __init__(self, kind: _Kind) -> None:
        self.kind = kind
        self.annotations: list[_Frame] = []
        self.pieces: list[str] = []

    @property
    def name(self) -> str:
        """The field that has the text."""
        return "text" if self.kind == "output_text" else "refusal"

    def value(self) -> _Frame:
        """The part as it is now."""
        part = {"type": self.kind, self.name: "".join(self.pieces)}
        if self.kind == "output_text":
            return {**part, "annotations": list(self.annotations), "logprobs": []}
        return part


class _Item:
    """An output item: a message, or the call of a function."""

    def __init__(self, index: int, head: _Frame) -> None:
        self.index = index
        self.head = head
        self.status = "in_progress"
        self.contents: list[_Content] = []
        self.pieces: list[str] = []

    @property
    def is_message(self) -> bool:
        """Whether it is no call of a function."""
        return bool(self.head["type"] == "message")

    def at(self) -> _Frame:
        """Where an event of it belongs."""
        return {"item_id": self.head["id"], "output_index": self.index}

    def at_content(self) -> _Frame:
        """Where an event of its last part belongs."""
        return {**self.at(), "content_index": len(self.contents) - 1}

    def value(self) -> _Frame:
        """The item as it is now."""
        value = {**self.head, "status": self.status}
        if self.is_message:
            return {**value, "content": [content.value() for content in self.contents]}
        return {**value, "arguments": "".join(self.pieces)}


class Answer:
    """One answer as it grows. Every verb gives the events that follow from it, without their sequence_number."""

    def __init__(self, call: ChatCall, envelope: Envelope) -> None:
        self._call = call
        self._envelope = envelope
        self._items: list[_Item] = []
        self._tools: dict[int, _Item] = {}
        self._message: _Item | None = None
        self._usage = Usage()
        self._finished: Finished | None = None
        self._sources: Sources | None = None
        self._is_created = False

    def add(self, event: Event) -> list[_Frame]:
        """Take the next event."""
        created = self._create() if is_content(event) else ()
        return [*created, *self._add(event)]

    def _add(self, event: Event) -> Iterator[_Frame]:
        match event:
            case TextDelta(text=text) if text:
                yield from self._add_text("output_text", text)
            case RefusalDelta(text=text) if text:
                yield from self._add_text("refusal", text)
            case ToolStart(index=index, id=id_, name=name):
                yield from self._close_message("completed")
                head = {"type": "function_call", "id": self._id("fc"), "call_id": id_, "name": name}
                self._tools[index] = self._open(head)
                yield self._added(self._tools[index])
            case ToolDelta(index=index, arguments=arguments):
                self._tools[index].pieces.append(arguments)
                kind = "response.function_call_arguments.delta"
                yield {"type": kind, **self._tools[index].at(), "delta": arguments}
            case Sources():
                self._sources = event
                yield from self._annotate(event)
            case Usage():
                self._usage = event
            case Finished():
                self._finished = event
                yield from self._close()

    def end(self) -> list[_Frame]:
        """The last event."""
        response = self.response()
        return [*self._create(), {"type": f"response.{response['status']}", "response": response}]

    def fail(self, code: str, message: str) -> list[_Frame]:
        """The event of an answer that broke off."""
        error = {"code": code, "message": message}
        return [{"type": "response.failed", "response": {**self._response("failed"), "error": error}}]

    def response(self) -> _Frame:
        """All of it, once it is finished."""
        return self._response(self._status())

    def _create(self) -> Iterator[_Frame]:
        if not self._is_created:
            self._is_created = True
            for kind in ("response.created", "response.in_progress"):
                yield {"type": kind, "response": self._response("in_progress", is_empty=True)}

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._envelope.id}{len(self._items)}"

    def _open(self, head: _Frame) -> _Item:
        self._items.append(_Item(len(self._items), head))
        return self._items[-1]

    def _added(self, item: _Item) -> _Frame:
        return {"type": "response.output_item.added", "output_index": item.index, "item": item.value()}

    def _add_text(self, kind: _Kind, text: str) -> Iterator[_Frame]:
        message = yield from self._open_content(kind)
        message.contents[-1].pieces.append(text)
        extra: _Frame = {"logprobs": []} if kind == "output_text" else {}
        yield {"type": f"response.{kind}.delta", **message.at_content(), "delta": text, **extra}

    def _open_content(self, kind: _Kind) -> Generator[_Frame, None, _Item]:
        """Makes the last part of the open message one of `kind`, and returns the message."""
        message = self._message
        if message is None:
            message = self._open({"type": "message", "id": self._id("msg"), "role": "assistant"})
            self._message = message
            yield self._added(message)
        if not message.contents or message.contents[-1].kind != kind:
            yield from self._close_content(message)
            message.contents.append(_Content(kind))
            part = message.contents[-1].value()
            yield {"type": "response.content_part.added", **message.at_content(), "part": part}
        return message

    def _annotate(self, event: Sources) -> Iterator[_Frame]:
        for source in event.sources:
            message = yield from self._open_content("output_text")
            content = message.contents[-1]
            citation = {
                "type": "file_citation",
                "file_id": source.passage,
                "filename": source.source,
                "index": sum(map(len, content.pieces)),
            }
            where = {**message.at_content(), "annotation_index": len(content.annotations)}
            content.annotations.append(citation)
            yield {"type": "response.output_text.annotation.added", **where, "annotation": citation}

    def _close(self) -> Iterator[_Frame]:
        status = self._status()
        yield from self._close_message(status)
        for item in self._items:
            if item.status == "in_progress":
                done = {**item.at(), "name": item.head["name"], "arguments": "".join(item.pieces)}
                yield {"type": "response.function_call_arguments.done", **done}
                yield from self._done(item, status)

    def _close_message(self, status: str) -> Iterator[_Frame]:
        if self._message is not None:
            yield from self._close_content(self._message)
            yield from self._done(self._message, status)
            self._message = None

    def _close_content(self, item: _Item) -> Iterator[_Frame]:
        if item.contents:
            content = item.contents[-1]
            part = content.value()
            extra: _Frame = {"logprobs": []} if content.kind == "output_text" else {}
            done = {**item.at_content(), content.name: part[content.name], **extra}
            yield {"type": f"response.{content.kind}.done", **done}
            yield {"type": "response.content_part.done", **item.at_content(), "part": part}

    def _done(self, item: _Item, status: str) -> Iterator[_Frame]:
        item.status = status
        yield {"type": "response.output_item.done", "output_index": item.index, "item": item.value()}

    def _status(self) -> str:
        is_cut = self._finished is not None and self._finished.reason in _INCOMPLETE
        return "incomplete" if is_cut else "completed"

    def _response(self, status: str, is_empty: bool = False) -> _Frame:
        """A response object. What was given comes back as it was; what was not is null or the API's default."""
        body, call = self._call.body, self._call
        reason = _INCOMPLETE.get(self._finished.reason) if self._finished else None
        response: _Frame = {
            "id": f"resp_{self._envelope.id}",
            "object": "response",
            "created_at": self._envelope.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": call.max_tokens,
            "model": self._envelope.model,
            "output": [] if is_empty else [item.value() for item in self._items],
            "parallel_tool_calls": call.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": call.reasoning_effort, "summary": None},
            "store": False,
            "temperature": call.temperature,
            "text": {"format": {"type": "text"}, **(body.get("text") or {})},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": call.top_p,
            "truncation": "disabled",
            "usage": None if is_empty else _write_usage(self._usage),
            "metadata": {},
        }
        if self._sources is not None and not is_empty:
            response["trireme"] = write_ours(self._sources)
        return response


def _write_usage(usage: Usage) -> _Frame | None:
    """null where the provider did not say both counts. Of their parts, 0 is what the API says where none are."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens or 0,
            "cache_write_tokens": usage.cache_write_tokens or 0,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens or 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
