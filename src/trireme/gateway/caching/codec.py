"""Events of an answer to bytes and back. MessagePack alone: nothing that comes from the store is ever run."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from trireme.providers.chat import (
    Event,
    Findings,
    Finished,
    Native,
    RefusalDelta,
    Source,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolStart,
    Usage,
)

_KINDS: tuple[Any, ...] = (
    Started,
    TextDelta,
    RefusalDelta,
    ThinkingDelta,
    ToolStart,
    ToolDelta,
    Sources,
    Findings,
    Native,
    Usage,
    Finished,
)
FORMAT = 2


@dataclasses.dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A kept answer. served: provider:model that made it. step: of a cascade, "" of a chain."""

    events: list[Event]
    served: str = ""
    step: str = ""


def shape_of(kinds: Sequence[Any]) -> int:
    """A number that changes with the names of the kinds and of their fields."""
    said = [(kind.__name__, [field.name for field in dataclasses.fields(kind)]) for kind in kinds]
    return zlib.crc32(repr(said).encode())


# A gateway of another version may have other events: what it has kept is a miss here.
_SHAPE = shape_of((*_KINDS, Source))
_TAGS = {kind: tag for tag, kind in enumerate(_KINDS)}
_encode = msgspec.msgpack.Encoder().encode
_outer = msgspec.msgpack.Decoder(tuple[int, int, str, str, list[tuple[int, msgspec.Raw]]])
_inner = [msgspec.msgpack.Decoder(kind) for kind in _KINDS]


def encode_events(events: Sequence[Event], most: int, served: str = "", step: str = "") -> bytes | None:
    """The events in order, with who made them (see KeptAnswer); None where they are more than `most` bytes, or hold
    what cannot be encoded."""
    try:
        body = _encode((FORMAT, _SHAPE, served, step, [(_TAGS[type(event)], event) for event in events]))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return None
    return body if len(body) <= most else None


def decode_events(body: bytes) -> list[Event] | None:
    """What was encoded, equal event by event; None for anything else."""
    kept = decode_answer(body)
    return None if kept is None else kept.events


def decode_answer(body: bytes) -> KeptAnswer | None:
    """As `decode_events`, with who made them."""
    try:
        number, shape, served, step, said = _outer.decode(body)
        if (number, shape) != (FORMAT, _SHAPE):
            return None
        return KeptAnswer([_inner[tag].decode(raw) for tag, raw in said], served, step)
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        return None


async def replay(events: Sequence[Event]) -> AsyncGenerator[Event, None]:
    """The events of a kept answer as those of one that is made."""
    for event in events:
        yield event
