"""What a chat surface is to the rest of the gateway: four translations, each pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trireme.errors import TriremeError
from trireme.providers.chat import ChatCall, Event


@dataclass(frozen=True, slots=True)
class Envelope:
    """What an answer says of itself. `id` is without the surface's prefix; `created` in Unix seconds."""

    id: str
    created: int
    model: str


class StreamWriter(Protocol):
    """Events into the bytes of server-sent events. One for each answer; holds the state of what was sent."""

    def write(self, event: Event) -> bytes:
        """The frames for `event`; b"" where it makes none. Lifecycle frames come with the first that needs them."""
        ...

    def end(self) -> bytes:
        """The frames that end a whole answer. Called once, after all its events."""
        ...

    def fail(self, error: TriremeError, request_id: str) -> bytes:
        """The frame that says that the answer is broken off. Nothing follows it, and no end."""
        ...


@dataclass(frozen=True, slots=True)
class ChatSurface:
    """One wire format of chats.

    read: a decoded JSON body and the request's headers (lower case) into a call; raises InvalidInputError that
    names the field. stream, whole: the answer as frames or as one JSON value. fail: status, headers and body of an
    error before anything was sent.
    """

    name: str
    read: Callable[[Mapping[str, Any], Mapping[str, str]], ChatCall]
    stream: Callable[[ChatCall, Envelope], StreamWriter]
    whole: Callable[[ChatCall, Envelope, Sequence[Event]], Mapping[str, Any]]
    fail: Callable[[TriremeError, str], Failure]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error on the wire: HTTP status, headers of its own, and a JSON value."""

    status: int
    body: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...] = ()
