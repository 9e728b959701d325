"""Connections that send too slowly, too much or nothing: closed, so that they cost others nothing."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Of the head of one request. A long key and a few headers of tracing are far below.
HEAD_BYTES = 64 << 10
# Of a connection whose client is to read at once; the kernel takes twice that.
SHORT_BYTES = 16 << 10
# In a request's scope, by which its handler asks for that.
SHORTEN = "trireme.shorten"
# What was written before a connection is closed may wait for its reader so long.
LINGER_SECONDS = 30.0


class Corked:
    """A transport that sends what is written within one turn of the event loop at once: a head with its body.

    uvicorn writes both by themselves, which costs a system call and wakes the client twice.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As asyncio's."""
        if not self._held:
            self._loop.call_soon(self._send)
        self._held.append(data)

    def close(self) -> None:
        """As asyncio's: what was written goes out first, if its reader takes it in LINGER_SECONDS."""
        self._send()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def _send(self) -> None:
        data, self._held = b"".join(self._held), []
        # uvloop raises where asyncio drops what comes after the connection's end.
        if data and not self._transport.is_closing():
            self._transport.write(data)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit on the seconds and bytes that the head of a request may take.

    uvicorn limits how long a connection may rest between two requests, but neither before the first one nor while
    a head trickles in.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    # Between the first byte of a request's head and its last, also while another request still runs.
    _is_in_head = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Corked(transport, self.loop))  # type: ignore[arg-type]
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and (self.cycle is None or self.cycle.response_complete):
            self._await_head()
        was_in_head = self._is_in_head or self._head_timer is not None
        super().data_received(data)
        # Still waiting: all of it belonged to a head.
        if was_in_head and (self._is_in_head or self._head_timer is not None):
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        self._is_in_head = True
        self._head_bytes = 0
        super().on_message_begin()
        self.scope["extensions"] = {SHORTEN: {"call": self.shorten_buffers}}

    def shorten_buffers(self) -> None:
        """Let few bytes wait for a client that does not read, so that it is soon seen that it does not."""
        listening: Any = self.transport.get_extra_info("socket")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SHORT_BYTES)
        self.transport.set_write_buffer_limits(high=SHORT_BYTES)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        # As long as a connection may rest between two requests.
        self._head_timer = self.loop.call_later(self.timeout_keep_alive, self._close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self._close()

    def _close(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()
