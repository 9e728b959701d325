"""What OpenAI's chat completions answer: chunks, one whole answer, or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trireme.errors import ResourceExhaustedError, TriremeError
from trireme.gateway.statuses import retry_headers, status_of
from trireme.gateway.surface import Envelope, Failure, StreamWriter
from trireme.providers.chat import (
    ChatCall,
    Event,
    Finished,
    FinishReason,
    RefusalDelta,
    Sources,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)

_REASONS: dict[FinishReason, str] = {
    "stop": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_use": "tool_calls",
    "refusal": "stop",
    "filter": "content_filter",
    "pause": "stop",
}


# Stands for the text of a chunk; no id or model holds it.
_MARK = "\x00text\x00"
_MARK_JSON = msgspec.json.encode(_MARK)


class Answer:
    """What both forms of an answer keep of its events, for each choice."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.sources: Sources | None = None
        self._texts: dict[int, list[str]] = {}
        self.has_called: set[int] = set()

    def note(self, event: Event) -> None:
        """Keep what is said at the end."""
        if isinstance(event, Usage):
            self.usage = event
        elif isinstance(event, Sources):
            self.sources = event
        elif isinstance(event, TextDelta):
            self._texts.setdefault(event.choice, []).append(event.text)
        elif isinstance(event, ToolStart):
            self.has_called.add(event.choice)

    def text(self, choice: int) -> str:
        """All of a choice's text so far."""
        return "".join(self._texts.get(choice, ()))

    def reason(self, event: Finished) -> str:
        """By the blocks that were seen: calls of tools end as such, whatever the provider said."""
        if event.choice in self.has_called and event.reason in ("stop", "stop_sequence"):
            return "tool_calls"
        return _REASONS[event.reason]


class _Stream:
    """See StreamWriter. Chunks as OpenAI writes them: a role first, then deltas, a reason, usage if asked for."""

    def __init__(self, call: ChatCall, envelope: Envelope) -> None:
        self._call = call
        self._answer = Answer()
        self._begun: set[int] = set()
        self._around: dict[int, tuple[bytes, bytes]] = {}
        self._head = {
            "id": f"chatcmpl-{envelope.id}",
            "object": "chat.completion.chunk",
            "created": envelope.created,
            "model": envelope.model,
        }

    def write(self, event: Event) -> bytes:
        """See StreamWriter."""
        self._answer.note(event)
        if isinstance(event, Sources):
            ours = {"trireme": write_ours(event)}
            delta = {"annotations": write_annotations(event, self._answer.text(0))}
            return self._begin(0) + self._chunk(0, delta, more=ours)
        if isinstance(event, Finished):
            return self._begin(event.choice) + self._chunk(
                event.choice, {}, reason=self._answer.reason(event)
            )
        if isinstance(event, TextDelta) and event.text and not event.logprobs and event.choice in self._begun:
            return self._text(event)
        delta = _delta(event)
        if not delta:
            return b""
        choice: int = getattr(event, "choice", 0)
        logprobs = event.logprobs if isinstance(event, TextDelta) else ()
        return self._begin(choice) + self._chunk(choice, delta, logprobs=logprobs)

    def end(self) -> bytes:
        """See StreamWriter."""
        usage = b""
        if self._call.include_usage and self._answer.usage is not None:
            usage = frame({**self._head, "choices": [], "usage": write_usage(self._answer.usage)})
        return usage + b"data: [DONE]\n\n"

    def fail(self, error: TriremeError, request_id: str) -> bytes:
        """See StreamWriter."""
        return frame(fail(error, request_id).body)

    def _begin(self, choice: int) -> bytes:
        if choice in self._begun:
            return b""
        self._begun.add(choice)
        return self._chunk(choice, {"role": "assistant", "content": ""})

    def _text(self, event: TextDelta) -> bytes:
        """As `_chunk`, for the most frequent one: all but the text was encoded before."""
        around = self._around.get(event.choice)
        if around is None:
            before, _, after = self._chunk(event.choice, {"content": _MARK}).partition(_MARK_JSON)
            around = self._around[event.choice] = (before, after)
        return around[0] + msgspec.json.encode(event.text) + around[1]

    def _chunk(
        self,
        choice: int,
        delta: Mapping[str, Any],
        *,
        reason: str | None = None,
        logprobs: Sequence[Mapping[str, Any]] = (),
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        said = {
            "index": choice,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": reason,
        }
        value = {**self._head, "choices": [said], **(more or {})}
        if self._call.include_usage:
            value["usage"] = None
        return frame(value)


def _delta(event: Event) -> dict[str, Any]:
    """What a chunk says of an event; empty where it says nothing."""
    match event:
        case TextDelta(text=text, logprobs=logprobs) if text or logprobs:
            return {"content": text}
        case RefusalDelta(text=text) if text:
            return {"refusal": text}
        case ThinkingDelta(text=text) if text:
            return {"reasoning_content": text}
        case ToolStart():
            function = {"name": event.name, "arguments": ""}
            call = {"index": event.index, "id": event.id, "type": "function", "function": function}
            return {"tool_calls": [call]}
        case ToolDelta():
            return {"tool_calls": [{"index": event.index, "function": {"arguments": event.arguments}}]}
        case _:
            return {}


def stream(call: ChatCall, envelope: Envelope) -> StreamWriter:
    """See ChatSurface."""
    return _Stream(call, envelope)


def whole(call: ChatCall, envelope: Envelope, events: Sequence[Event]) -> Mapping[str, Any]:
    """See ChatSurface."""
    answer = Answer()
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        answer.note(event)
        index = getattr(event, "choice", None)
        if index is not None:
            _add(choices.setdefault(index, _new_choice(index)), event, answer)
    for choice in choices.values():
        _close(choice)
    said: dict[str, Any] = {
        "id": f"chatcmpl-{envelope.id}",
        "object": "chat.completion",
        "created": envelope.created,
        "model": envelope.model,
        "choices": [choices[index] for index in sorted(choices)],
    }
    if answer.usage is not None:
        said["usage"] = write_usage(answer.usage)
    if answer.sources is not None:
        annotations = write_annotations(answer.sources, answer.text(0))
        said["choices"][0]["message"]["annotations"] = annotations
        said["trireme"] = write_ours(answer.sources)
    return said


def _new_choice(index: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": None, "refusal": None}
    return {"index": index, "message": message, "logprobs": None, "finish_reason": None}


def _add(choice: dict[str, Any], event: Event, answer: Answer) -> None:
    message = choice["message"]
    match event:
        case TextDelta():
            message["content"] = (message["content"] or "") + event.text
            if event.logprobs:
                table = choice["logprobs"] or {"content": [], "refusal": None}
                table["content"].extend(event.logprobs)
                choice["logprobs"] = table
        case RefusalDelta():
            message["refusal"] = (message["refusal"] or "") + event.text
        case ThinkingDelta(text=text) if text:
            message["reasoning_content"] = message.get("reasoning_content", "") + text
        case ToolStart():
            function = {"name": event.name, "arguments": ""}
            message.setdefault("tool_calls", []).append(
                {"id": event.id, "type": "function", "function": function}
            )
        case ToolDelta():
            message["tool_calls"][event.index]["function"]["arguments"] += event.arguments
        case Finished():
            choice["finish_reason"] = answer.reason(event)


def _close(choice: dict[str, Any]) -> None:
    """An answer without any text is an empty one, unless it calls tools or refuses."""
    message = choice["message"]
    if message["content"] is None and "tool_calls" not in message and message["refusal"] is None:
        message["content"] = ""


def write_usage(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words; only what the provider said."""
    said: dict[str, Any] = {}
    if usage.input_tokens is not None:
        said["prompt_tokens"] = usage.input_tokens
    if usage.output_tokens is not None:
        said["completion_tokens"] = usage.output_tokens
    if usage.input_tokens is not None and usage.output_tokens is not None:
        said["total_tokens"] = usage.input_tokens + usage.output_tokens
    details = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if known := {name: count for name, count in details.items() if count is not None}:
        said["prompt_tokens_details"] = known
    if usage.reasoning_tokens is not None:
        said["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return said


def write_annotations(sources: Sources, text: str) -> list[dict[str, Any]]:
    """Where the text cites which document: each [n], or all of a text that is a source's own words."""
    annotations = []
    for source in sources.sources:
        places = [found.span() for found in re.finditer(rf"\[{source.number}\]", text)] or [(0, len(text))]
        annotations += [
            {
                "type": "url_citation",
                "url_citation": {
                    "start_index": start,
                    "end_index": end,
                    "title": source.source,
                    "url": source.source,
                },
            }
            for start, end in places
        ]
    return annotations


def write_ours(event: Sources) -> dict[str, Any]:
    """Our own field of an answer: its sources, and what rag says of how it came about."""
    return {"sources": list(event.sources), "details": event.details}


def frame(value: Any) -> bytes:
    """A frame of server-sent events."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def fail(error: TriremeError, request_id: str) -> Failure:
    """See ChatSurface. A 429 where waiting does not help has a name of its own."""
    status = status_of(error)
    kind, code = _TYPES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    if isinstance(error, ResourceExhaustedError) and error.retry_after <= 0:
        kind = code = "insufficient_quota"
    body = {"message": str(error), "type": kind, "param": getattr(error, "param", "") or None, "code": code}
    return Failure(status, {"error": body}, retry_headers(error))


_TYPES: dict[int, tuple[str, str | None]] = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "permission_denied"),
    404: ("invalid_request_error", "not_found"),
    409: ("invalid_request_error", "conflict"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
}
