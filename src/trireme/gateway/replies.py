"""What a handler gives back: one JSON value, or frames that come one by one."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from trireme.errors import TriremeError
from trireme.gateway.exchange import Exchange
from trireme.gateway.surface import StreamWriter
from trireme.providers.chat import Event, Usage, is_content

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

# Headers of server-sent events.
EVENT_STREAM = (
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache"),
    # nginx would hold frames back.
    ("x-accel-buffering", "no"),
)


class Reply(Protocol):
    """An answer that is ready to be sent."""

    async def send(self, exchange: Exchange, send: Send) -> None:
        """Send it whole, and set the exchange's status and outcome. Raises what breaks off an answer."""
        ...


@dataclass(frozen=True, slots=True)
class JsonReply:
    """One JSON value, or bytes of another `content_type`."""

    value: Any
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"

    async def send(self, exchange: Exchange, send: Send) -> None:
        """See Reply."""
        body = self.value if isinstance(self.value, bytes) else msgspec.json.encode(self.value)
        fixed = (("content-type", self.content_type), ("content-length", str(len(body))))
        exchange.status = self.status
        await send(start_of(self.status, (*fixed, *exchange.reply_headers(), *self.headers)))
        await send({"type": "http.response.body", "body": body})
        exchange.outcome = exchange.outcome or ("ok" if self.status < 400 else "error")


@dataclass(frozen=True, slots=True)
class EmptyReply:
    """A status that says all, such as 304: no body, and nothing of the length of one."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()

    async def send(self, exchange: Exchange, send: Send) -> None:
        """See Reply."""
        exchange.status = self.status
        # A 304 speaks of the answer that the client has, whose length is another.
        length = () if self.status == 304 else (("content-length", "0"),)
        await send(start_of(self.status, (*length, *exchange.reply_headers(), *self.headers)))
        await send({"type": "http.response.body", "body": b""})
        exchange.outcome = exchange.outcome or ("ok" if self.status < 400 else "refused")


@dataclass(frozen=True, slots=True)
class StreamReply:
    """Events as server-sent events, `first` before the others. What breaks off is said in a frame, the last one."""

    first: Event
    events: AsyncGenerator[Event, None]
    writer: StreamWriter

    async def send(self, exchange: Exchange, send: Send) -> None:
        """See Reply. Closes the events in any case."""
        exchange.status = 200
        # Until an end is seen: whatever stops us here leaves half an answer.
        exchange.outcome = "cut"
        async with aclosing(self.events) as events:
            await send(start_of(200, (*EVENT_STREAM, *exchange.reply_headers())))
            try:
                held = self.writer.write(self.first)
                async for event in events:
                    note_event(exchange, event)
                    if frames := held + self.writer.write(event):
                        await send({"type": "http.response.body", "body": frames, "more_body": True})
                    held = b""
                last = self.writer.end()
                exchange.outcome = "ok"
            except TriremeError as error:
                exchange.error = getattr(error, "kind", "") or error.code
                exchange.attempts = getattr(error, "attempts", ()) or exchange.attempts
                last = self.writer.fail(error, exchange.request_id)
            await send({"type": "http.response.body", "body": last})


def note_event(exchange: Exchange, event: Event) -> None:
    """Keep of an event what the log and the metrics want."""
    if exchange.first_at is None and is_content(event):
        exchange.first_at = time.monotonic()
    if isinstance(event, Usage):
        exchange.usage = event


def start_of(status: int, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """ASGI's message that begins an answer."""
    raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    return {"type": "http.response.start", "status": status, "headers": raw}
