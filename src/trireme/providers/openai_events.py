"""Answers of OpenAI's format into events: a state machine for streams, the same for whole answers. Pure.

Servers vary, and all of these are read: usage in any chunk, the last one counts; choices null or missing; an empty
list of tool calls; an index used again for another call; arguments in a call's first piece; no role at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from trireme.providers.chat import (
    Event,
    Finished,
    FinishReason,
    RefusalDelta,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)
from trireme.providers.http import classify
from trireme.providers.port import ProviderError
from trireme.providers.sse import Frame

DONE = "[DONE]"
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "filter",
}
_QUOTED = 300


@dataclass(slots=True)
class _Choice:
    """What was seen of one choice. places: where an upstream call stands -> its id and our index."""

    places: dict[int, tuple[str, int]] = field(default_factory=dict)
    calls: int = 0
    is_finished: bool = False
    has_refused: bool = False


class OpenAIEvents:
    """Reads one answer. `model`: what was asked for, where the answer names none."""

    def __init__(self, model: str, name: str, choices: int = 1) -> None:
        self._model = model
        self._name = name
        self._wanted = choices
        self._choices: dict[int, _Choice] = {}
        self._has_started = False
        self.is_done = False

    def read(self, frame: Frame) -> list[Event]:
        """The events of one frame. Raises ProviderError for one that is malformed or carries an error."""
        text = frame.data.strip()
        if text.startswith(DONE):
            self.is_done = True
            return []
        try:
            chunk = msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError):
            raise self._malformed() from None
        if frame.event == "error" and not (isinstance(chunk, dict) and "error" in chunk):
            chunk = {"error": chunk}
        return list(self._chunk(chunk, "delta"))

    def read_whole(self, data: bytes) -> list[Event]:
        """The events of the body of an answer that is not streamed. Raises ProviderError."""
        try:
            answer = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._malformed() from None
        events = list(self._chunk(answer, "message"))
        self.is_done = True
        return events

    def check_end(self) -> None:
        """Raises ProviderError of kind cut unless every choice has finished."""
        finished = sum(choice.is_finished for choice in self._choices.values())
        if finished < self._wanted:
            raise ProviderError(f"{self._name} ended its answer before it was finished", "again", "cut")

    def _chunk(self, chunk: Any, where: str) -> Iterator[Event]:
        if not isinstance(chunk, dict):
            raise self._malformed()
        if chunk.get("error"):
            raise self._error(chunk["error"])
        if not self._has_started:
            self._has_started = True
            model = chunk.get("model")
            yield Started(model if isinstance(model, str) and model else self._model)
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict):
                raise self._malformed()
            yield from self._choice(choice, where)
        if isinstance(chunk.get("usage"), dict):
            yield read_usage(chunk["usage"])

    def _choice(self, choice: dict[str, Any], where: str) -> Iterator[Event]:
        index = choice.get("index") or 0
        state = self._choices.setdefault(index, _Choice())
        said = choice.get(where)
        if isinstance(said, dict):
            yield from self._said(said, choice, state, index)
        elif isinstance(choice.get("text"), str) and (choice["text"] or choice.get("logprobs")):
            # The older endpoint of completions.
            yield TextDelta(choice["text"], index, _old_logprobs(choice))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason and not state.is_finished:
            state.is_finished = True
            yield Finished(_reason(reason, state), index, _stop_of(choice))

    def _said(
        self, said: dict[str, Any], choice: dict[str, Any], state: _Choice, index: int
    ) -> Iterator[Event]:
        for field_name in ("reasoning_content", "reasoning"):
            if isinstance(said.get(field_name), str) and said[field_name]:
                yield ThinkingDelta(said[field_name], choice=index)
                break
        logprobs = _logprobs(choice)
        text = said.get("content")
        if isinstance(text, str) and (text or logprobs):
            yield TextDelta(text, index, logprobs)
        if isinstance(said.get("refusal"), str) and said["refusal"]:
            state.has_refused = True
            yield RefusalDelta(said["refusal"], index)
        for place, call in enumerate(said.get("tool_calls") or ()):
            if not isinstance(call, dict):
                raise self._malformed()
            yield from self._call(call, place, state, index)

    def _call(self, call: dict[str, Any], place: int, state: _Choice, index: int) -> Iterator[Event]:
        place = call["index"] if isinstance(call.get("index"), int) else place
        function: dict[str, Any] = call["function"] if isinstance(call.get("function"), dict) else {}
        known_id, ours = state.places.get(place, ("", -1))
        given_id = call.get("id") if isinstance(call.get("id"), str) else ""
        if ours < 0 or (given_id and given_id != known_id):
            # A new id is a new call, whatever its index says.
            ours = state.calls
            state.calls += 1
            state.places[place] = (given_id or f"call_{ours}", ours)
            name = function.get("name") if isinstance(function.get("name"), str) else ""
            yield ToolStart(ours, state.places[place][0], name or "", index)
        arguments = function.get("arguments")
        if isinstance(arguments, dict):
            # Some servers send the object itself.
            arguments = msgspec.json.encode(arguments).decode()
        if isinstance(arguments, str) and arguments:
            yield ToolDelta(ours, arguments, index)

    def _malformed(self) -> ProviderError:
        return ProviderError(f"{self._name} sent an answer that cannot be read", "next", "malformed")

    def _error(self, error: Any) -> ProviderError:
        """An error within an answer that began as a good one."""
        value = error if isinstance(error, dict) else {"message": error}
        said = value.get("message")
        text = " ".join(said.split())[:_QUOTED] if isinstance(said, str) else "it did not say which"
        code = value.get("code") if isinstance(value.get("code"), int) else value.get("status")
        words = " ".join(str(value.get(key, "")) for key in ("type", "code", "message")).lower()
        remedy, kind = (
            classify(code, f"{value.get('type')} {value.get('code')}", text, 0.0)
            if isinstance(code, int) and code >= 400
            else _by_words(words)
        )
        # What it says of a key or an account is the operator's to know.
        told = "" if remedy == "rotate" else f": {text}"
        return ProviderError(f"{self._name} broke off with an error{told}", remedy, kind)


def _by_words(words: str) -> Any:
    if "rate_limit" in words or "rate limit" in words:
        return "next", "rate_limit"
    if "overloaded" in words or "unavailable" in words:
        return "again", "overloaded"
    if "context_length" in words:
        return "larger", "too_long"
    if "invalid_request" in words:
        return "give_up", "invalid"
    return "again", "server"


def read_usage(usage: Mapping[str, Any]) -> Usage:
    """Usage as OpenAI writes it: prompt_tokens holds cached ones. What it does not say stays None."""
    prompt = usage.get("prompt_tokens_details")
    completion = usage.get("completion_tokens_details")
    return Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_tokens=_count(prompt, "cached_tokens"),
        cache_write_tokens=_count(prompt, "cache_write_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
    )


def _count(table: Any, name: str) -> int | None:
    value = table.get(name) if isinstance(table, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _reason(reason: str, state: _Choice) -> FinishReason:
    """By what was seen first: a provider that says stop after calls of tools means them."""
    said = _REASONS.get(reason, "stop")
    if state.calls and said == "stop":
        return "tool_use"
    return "refusal" if state.has_refused and said == "stop" else said


def _stop_of(choice: dict[str, Any]) -> str:
    """vLLM says which stop string it met."""
    stop = choice.get("stop_reason")
    return stop if isinstance(stop, str) and choice.get("finish_reason") == "stop" else ""


def _logprobs(choice: dict[str, Any]) -> tuple[Mapping[str, Any], ...]:
    table = choice.get("logprobs")
    content = table.get("content") if isinstance(table, dict) else None
    return tuple(one for one in content if isinstance(one, dict)) if isinstance(content, list) else ()


def _old_logprobs(choice: dict[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Those of the older endpoint: one table of parallel lists."""
    table = choice.get("logprobs")
    return (table,) if isinstance(table, dict) else ()
