"""OpenAI's older text endpoint, POST /v1/completions: one prompt or several, each a call of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec

from trireme.errors import InvalidInputError, TriremeError
from trireme.gateway.surface import Envelope
from trireme.gateway.wire.openai_answers import Answer, fail, frame, write_ours, write_usage
from trireme.gateway.wire.openai_chat import Sampling, read_sampling, unknown_fields
from trireme.gateway.wire.shapes import shape
from trireme.providers.chat import ChatCall, Event, Finished, Sources, Started, TextDelta, Usage
from trireme.providers.logprobs import join_tables, write_table

MOST_PROMPTS = 128


class _Body(Sampling, kw_only=True):
    prompt: Any
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=5)] | None = None
    # Who the user is says the key.
    user: str | None = None


def read_completions(body: Mapping[str, Any]) -> list[ChatCall]:
    """A body of /v1/completions: a call for each prompt, in their order. Raises InvalidInputError that names the
    field."""
    given = shape(body, _Body)
    call = ChatCall(
        surface="completions",
        body=body,
        unknown=unknown_fields(body, _Body),
        max_tokens=given.max_tokens,
        logprobs=given.logprobs,
        **read_sampling(given),
    )
    return [replace(call, prompt=prompt) for prompt in _read_prompts(given.prompt)]


def _read_prompts(prompt: Any) -> list[str]:
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list) or not 1 <= len(prompt) <= MOST_PROMPTS:
        raise InvalidInputError(f"prompt must be a text, or a list of 1 to {MOST_PROMPTS} texts", "prompt")
    for place, one in enumerate(prompt):
        if not isinstance(one, str):
            raise InvalidInputError(
                f"prompt[{place}] is no text: tokens are another model's where a chain goes on; send texts",
                "prompt",
            )
    return prompt


class CompletionWriter:
    """See StreamWriter. Of one prompt or several; their events come one after the other, each from Started on."""

    def __init__(self, calls: Sequence[ChatCall], envelope: Envelope) -> None:
        self._calls = list(calls)
        self._head = _head(envelope)
        # Of each prompt that has begun.
        self._answers: list[Answer] = []
        self._offset = 0

    def write(self, event: Event) -> bytes:
        """See StreamWriter."""
        if isinstance(event, Started):
            if self._answers:
                self._offset += self._calls[len(self._answers) - 1].choices
            self._answers.append(Answer())
        answer = self._answers[-1]
        answer.note(event)
        match event:
            case TextDelta(text=text, logprobs=logprobs) if text or logprobs:
                table = _table(event, answer) if logprobs else None
                return self._chunk(event.choice, text, table)
            case Sources():
                return self._chunk(0, "", more={"trireme": write_ours(event)})
            case Finished():
                return self._chunk(event.choice, "", reason=answer.reason(event))
            case _:
                return b""

    def end(self) -> bytes:
        """See StreamWriter."""
        usage = add_usages([answer.usage for answer in self._answers])
        last = b""
        if self._calls[0].include_usage and usage is not None:
            last = frame({**self._head, "choices": [], "usage": write_usage(usage)})
        return last + b"data: [DONE]\n\n"

    def fail(self, error: TriremeError, request_id: str) -> bytes:
        """See StreamWriter."""
        return frame(fail(error, request_id).body)

    def _chunk(
        self,
        choice: int,
        text: str,
        logprobs: Mapping[str, Any] | None = None,
        *,
        reason: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        said = {
            "index": self._offset + choice,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        value = {**self._head, "choices": [said], **(more or {})}
        if self._calls[0].include_usage:
            value["usage"] = None
        return frame(value)


def write_whole(
    calls: Sequence[ChatCall], envelope: Envelope, answers: Sequence[Sequence[Event]]
) -> Mapping[str, Any]:
    """One answer to all prompts of a request: their choices in order, their usage together."""
    choices: list[dict[str, Any]] = []
    said: dict[str, Any] = {**_head(envelope), "choices": choices}
    usages: list[Usage | None] = []
    for call, events in zip(calls, answers, strict=True):
        answer = Answer()
        offset = len(choices)
        choices += [
            {"index": offset + n, "text": "", "logprobs": None, "finish_reason": None}
            for n in range(call.choices)
        ]
        for event in events:
            answer.note(event)
            _add(choices, offset, event, answer)
        usages.append(answer.usage)
        if answer.sources is not None:
            said["trireme"] = write_ours(answer.sources)
    if (total := add_usages(usages)) is not None:
        said["usage"] = write_usage(total)
    return said


def _add(choices: list[dict[str, Any]], offset: int, event: Event, answer: Answer) -> None:
    if isinstance(event, TextDelta):
        choice = choices[offset + event.choice]
        choice["text"] += event.text
        if event.logprobs:
            choice["logprobs"] = join_tables(choice["logprobs"], _table(event, answer))
    elif isinstance(event, Finished):
        choices[offset + event.choice]["finish_reason"] = answer.reason(event)


def _table(event: TextDelta, answer: Answer) -> Mapping[str, Any]:
    """The entries of a text that `answer` has noted, as this endpoint writes them."""
    first = event.logprobs[0]
    if "token" not in first:
        return first
    return write_table(event.logprobs, len(answer.text(event.choice)) - len(event.text))


def add_usages(usages: Sequence[Usage | None]) -> Usage | None:
    """The usage of several answers together; None unless every one of them is known."""
    known = [usage for usage in usages if usage is not None]
    if not known or len(known) < len(usages):
        return None

    def add(name: str) -> int | None:
        counts = [getattr(usage, name) for usage in known]
        return None if any(count is None for count in counts) else sum(counts)

    return Usage(*(add(name) for name in Usage.__dataclass_fields__))


def _head(envelope: Envelope) -> dict[str, Any]:
    return {
        "id": f"cmpl-{envelope.id}",
        "object": "text_completion",
        "created": envelope.created,
        "model": envelope.model,
    }
