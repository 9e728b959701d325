"""The one gate: every request enters and leaves here, with exactly one answer, one log line, one count."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trireme.errors import DeadlineError, TriremeError
from trireme.gateway.bodies import ClientGoneError, uncancel
from trireme.gateway.exchange import Exchange, open_exchange
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply, Send
from trireme.gateway.statuses import INTERNAL_TEXT
from trireme.gateway.steps import admit, identify, settle
from trireme.gateway.surface import Failure
from trireme.observe.trace import CURRENT

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Fail = Callable[[TriremeError, str], Failure]
# What a handler gets: the exchange, what it works with, and ASGI's receive for the body.
Handler = Callable[[Exchange, Ports, Receive], Awaitable[Reply]]

# What caches keep unless they are told.
_LOOKED_UP = frozenset({"GET", "HEAD"})
_CACHE_CONTROL = b"cache-control"
# Of a request beyond those of its attempts.
SPARE_SECONDS = 60.0


class Gate:
    """An ASGI app for one path: `handler` behind keys, limits and the errors of its surface (`fail`)."""

    def __init__(
        self, endpoint: str, handler: Handler, fail: Fail, *, is_open: bool = False, is_endless: bool = False
    ) -> None:
        """is_open: the path needs no key. is_endless: its answer ends when somebody ends it."""
        self._is_endless = is_endless
        self._endpoint = endpoint
        self._handler = handler
        self._fail = fail
        self._is_open = is_open

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Any) -> None:
        ports: Ports = scope["state"]["ports"]
        exchange = open_exchange(scope, self._endpoint, 0 if self._is_open else ports.spans.percent)
        exchange.is_endless = self._is_endless
        # Of this task, which is this request's alone, and of those that it starts.
        CURRENT.set(exchange.trace)
        ports.metrics.begin(self._endpoint)
        try:
            await self._exchange(exchange, ports, receive, send)
        finally:
            # Whoever watches asks each second.
            settle(exchange, ports, is_logged=not self._is_open or exchange.outcome != "ok")

    async def _exchange(self, exchange: Exchange, ports: Ports, receive: Receive, send: Send) -> None:
        body = _Body(receive, is_read=not _has_body(exchange))
        seconds = None if self._is_endless else ports.file.attempts.seconds + SPARE_SECONDS
        leaving = _Leaving(body, seconds)
        is_keyed = not self._is_open and exchange.scope["method"] in _LOOKED_UP
        sender = _Sender(send, ports.file.limits.reading_seconds, leaving.cancel, is_private=is_keyed)
        try:
            reply = await self._find_reply(exchange, ports, body, leaving)
            await reply.send(exchange, sender)
        except (ClientGoneError, asyncio.CancelledError) as error:
            if not leaving.is_ours(error):
                raise
            exchange.outcome = "client_gone" if leaving.is_gone else "cut"
            exchange.status = exchange.status or 499
            if not sender.has_begun and not leaving.is_gone:
                late = DeadlineError("the request took longer than the gateway gives one; ask for less")
                await self._failure(exchange, late).send(exchange, sender)
            elif not leaving.is_gone:
                # Half an answer must not look whole: uvicorn closes the connection of an app that raises.
                raise ConnectionAbortedError from None
        except Exception as error:
            # It broke while it was sent: an error of ours.
            ports.log.fault(exchange.request_id, error)
            exchange.outcome = "cut"
            if sender.has_begun:
                raise ConnectionAbortedError from None
            await self._failure(exchange, TriremeError(INTERNAL_TEXT)).send(exchange, sender)
        finally:
            leaving.stop()

    async def _find_reply(self, exchange: Exchange, ports: Ports, body: _Body, leaving: _Leaving) -> Reply:
        try:
            if not self._is_open:
                await identify(exchange, ports)
                await admit(exchange, ports)
            leaving.watch()
            return await self._handler(exchange, ports, body)
        except TriremeError as error:
            reply = self._failure(exchange, error)
        except ClientGoneError:
            raise
        except Exception as error:
            ports.log.fault(exchange.request_id, error)
            reply = self._failure(exchange, TriremeError(INTERNAL_TEXT))
        if not body.is_read:
            # What still comes of a body that nobody reads ends with the connection.
            return JsonReply(reply.value, reply.status, (*reply.headers, ("connection", "close")))
        return reply

    def _failure(self, exchange: Exchange, error: TriremeError) -> JsonReply:
        failure = self._fail(error, exchange.request_id)
        exchange.error = getattr(error, "kind", "") or error.code
        exchange.outcome = "refused" if failure.status < 500 else "error"
        return JsonReply(failure.body, failure.status, failure.headers)


class _Body:
    """ASGI's receive that knows whether the body was read, and lets somebody wait for the client's end."""

    def __init__(self, receive: Receive, *, is_read: bool) -> None:
        self._receive = receive
        self.is_read = is_read
        self.on_read: Callable[[], None] | None = None

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_read = True
            if self.on_read is not None:
                self.on_read()
        return message

    async def wait_for_end(self) -> None:
        """Returns when the client has closed its connection. Only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


class _Leaving:
    """Cancels the task that made it when the client goes away or `seconds` are over (None: never)."""

    def __init__(self, body: _Body, seconds: float | None) -> None:
        self._task = asyncio.current_task()
        self._body = body
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel)
        self._has_cancelled = False
        self.is_gone = False

    def watch(self) -> None:
        """Begin to look for the client's end, once the body was read."""
        self._body.on_read = self._begin

    def is_ours(self, error: BaseException) -> bool:
        """Whether the error comes of this and not of a gateway that stops."""
        if isinstance(error, ClientGoneError):
            self.is_gone = True
            return True
        if self._has_cancelled:
            uncancel(self._task)
        return self._has_cancelled

    def stop(self) -> None:
        """No cancel comes after it."""
        if self._timer is not None:
            self._timer.cancel()
        self._body.on_read = None
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def _begin(self) -> None:
        self._body.on_read = None
        self._watcher = asyncio.ensure_future(self._body.wait_for_end())
        self._watcher.add_done_callback(self._client_ended)

    def _client_ended(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled() and self._watcher is not None:
            self.is_gone = True
            self.cancel()

    def cancel(self) -> None:
        """End the task's work: what it then does is the gate's."""
        self._has_cancelled = True
        if self._task is not None:
            self._task.cancel()


class _Sender:
    """ASGI's send that knows whether an answer has begun. A client that reads nothing for `seconds` ends it.

    An answer that is private and does not say who may keep it is kept by no cache: some take a key in x-api-key for
    any header, and would answer the next one's request with it.
    """

    def __init__(
        self, send: Send, seconds: float, give_up: Callable[[], None], *, is_private: bool = False
    ) -> None:
        self._is_private = is_private
        self._send = send
        self._seconds = seconds
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self.has_begun = False

    async def __call__(self, message: Any) -> None:
        self.has_begun = True
        if self._is_private and message["type"] == "http.response.start":
            message = _kept_by_nobody(message)
        timer = self._loop.call_later(self._seconds, self._give_up)
        try:
            await self._send(message)
        finally:
            timer.cancel()


def _kept_by_nobody(start: Any) -> dict[str, Any]:
    headers = start["headers"]
    if any(name == _CACHE_CONTROL for name, _ in headers):
        return dict(start)
    return {**start, "headers": [*headers, (_CACHE_CONTROL, b"no-store")]}


def _has_body(exchange: Exchange) -> bool:
    return "transfer-encoding" in exchange.headers or exchange.headers.get("content-length", "0") != "0"
