"""The key of a call's answer: every field of a call is declared here, in the key or out of it with the reason."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from trireme.cache.port import Question
from trireme.providers.chat import (
    NEVER_SENT,
    ChatCall,
    Foreign,
    Image,
    Message,
    Text,
    Thinking,
    Tool,
    ToolResult,
    ToolUse,
)

# Rises with every change of what a key holds.
FORMAT = 2

IN = "in"
# In, unless the body is, which says the same.
TWIN = "twin"
# Anything else is why a field is out.
FIELDS: Mapping[type, Mapping[str, str]] = {
    ChatCall: {
        "tenant": IN,
        "surface": "in with the body alone: else events are the same for all",
        "model": IN,
        "messages": TWIN,
        "body": "in where the target takes it as it is, without what no provider gets",
        "unknown": IN,
        "prompt": IN,
        "stream": "kept events are replayed in either form",
        "include_usage": "of writing alone",
        "tools": TWIN,
        "tool_choice": IN,
        "parallel_tool_calls": IN,
        "max_tokens": IN,
        "temperature": IN,
        "top_p": IN,
        "top_k": IN,
        "presence_penalty": IN,
        "frequency_penalty": IN,
        "seed": IN,
        "stop": IN,
        "choices": IN,
        "logprobs": IN,
        "response_format": IN,
        "reasoning_effort": IN,
        "betas": IN,
        "api_version": IN,
        "collection": "in as the collection that is read, with its revision",
        "passages": IN,
        "answer_mode": IN,
        "stop_when": IN,
        "user": "backends take no notice of it; which collections it may read was decided before",
        "key_id": "as the user",
        # Of the secret of a gateway: two that share a store by chance share nothing of a tenant that both have.
        "salt": IN,
        "default_collection": "as the collection",
        "asks_evidence": "a cascade's step sets it, behind the key",
        "asks_prompt": "as asks_evidence",
        "rerank_depth": "set behind the caches, for answers that are not kept",
        "eased_mode": "as rerank_depth",
    },
    Message: {"role": IN, "parts": IN, "name": IN},
    Text: {"text": IN},
    Image: {"url": IN, "detail": IN},
    ToolUse: {"id": IN, "name": IN, "arguments": IN},
    ToolResult: {"id": IN, "text": IN, "images": IN, "is_error": IN},
    Thinking: {"text": IN, "signature": IN},
    Foreign: {"kind": IN},
    Tool: {"name": IN, "description": IN, "schema": IN, "strict": IN},
}
# Of a body: what stands elsewhere in the key, and what is out as the fields above.
_NOT_OF_BODY = frozenset((*NEVER_SENT, "model", "prompt", "stream", "stream_options"))
_NAMES = {
    kind: (
        tuple(name for name, place in fields.items() if place == IN),
        tuple(name for name, place in fields.items() if place == TWIN),
    )
    for kind, fields in FIELDS.items()
}
_ENCODER = msgspec.msgpack.Encoder(order="deterministic")
_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What answers, beside the call. targets: of each step of the chain its words, the first decides.

    takes_body: whether the first, or any of a cascade, gets the client's body as it is. collection: that is read,
    with its revision; empty where none is. rules: what the gateway's file adds to calls of the model.
    """

    targets: tuple[tuple[str, ...], ...]
    takes_body: bool = False
    collection: tuple[str, ...] = ()
    rules: Any = None


def question_of(
    call: ChatCall,
    fingerprint: Fingerprint,
    *,
    seconds: float = 3600.0,
    max_age: float | None = None,
    may_read: bool = True,
    may_keep: bool = True,
) -> Question | None:
    """The call as caches see it; None where it holds what cannot be encoded, such as half a surrogate pair.

    Pure. The encoding is MessagePack: every value stands behind its type and its length. Keys of a body are sorted;
    those of a schema are in their order, in which an answer that is held to it has them.
    """
    body = _body_of(call) if fingerprint.takes_body else None
    text, messages, body = _split(call, body)
    first, twins = _NAMES[ChatCall]
    # The tenant first; then what answers.
    head = (FORMAT, call.tenant, fingerprint.targets, fingerprint.collection, fingerprint.rules)
    if len(twins) != len(("messages", "tools")):
        raise RuntimeError("a field that the body says as well is missing here")
    try:
        said = [_tell(getattr(call, name)) for name in first]
        same = (messages, _tell(call.tools)) if body is None else (call.surface, body)
        partition = hashlib.sha256(_ENCODER.encode((*head, said, len(same), same)))
        key = partition.copy()
        key.update(_ENCODER.encode(text))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return Question(
        call.tenant,
        key.hexdigest(),
        partition.hexdigest(),
        text or "",
        call.model,
        seconds,
        max_age,
        may_read,
        may_keep,
    )


def _body_of(call: ChatCall) -> dict[str, Any]:
    return {name: value for name, value in call.body.items() if name not in _NOT_OF_BODY}


def _split(
    call: ChatCall, body: dict[str, Any] | None
) -> tuple[str | None, list[Any], dict[str, Any] | None]:
    """The one user's text of a call of a single turn, and messages and body without it; None for any other call."""
    messages = [] if body is not None else [_tell(message) for message in call.messages]
    if not _has_one_question(call):
        return None, messages, body
    text = call.messages[-1].text
    if body is None:
        messages[-1] = None
        return text, messages, None
    said = body.get("messages")
    last = said[-1] if isinstance(said, list) and said else None
    # Anything beside the text, such as a mark of where to cache, is not in `text`.
    if last != {"role": "user", "content": text} or not isinstance(said, list):
        return None, messages, body
    return text, messages, {**body, "messages": [*said[:-1], None]}


def _has_one_question(call: ChatCall) -> bool:
    if not call.messages or call.prompt is not None or call.tools:
        return False
    *before, last = call.messages
    return (
        last.role == "user"
        and not last.name
        and len(last.parts) == 1
        and isinstance(last.parts[0], Text)
        and bool(last.text)
        and all(message.role in _SYSTEM_ROLES for message in before)
    )


def _tell(value: Any) -> Any:
    """A value of a call as what MessagePack can say; a part comes behind the name of its kind, and a mapping as
    its pairs."""
    if isinstance(value, (tuple, list)):
        return [_tell(one) for one in value]
    if isinstance(value, Mapping):
        return {"pairs": [[key, _tell(one)] for key, one in value.items()]}
    fields = _NAMES.get(type(value))
    if fields is None:
        return value
    return [type(value).__name__, *(_tell(getattr(value, name)) for name in fields[0])]
