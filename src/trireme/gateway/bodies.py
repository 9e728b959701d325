"""Bodies of requests: read within bounds of bytes, seconds, depth and items, then decoded."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from trireme.errors import DeadlineError, InvalidInputError, TooLargeError
from trireme.gateway.file import Limits

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

# Matches from every quote on, also where a string has no end: what cannot fail is never tried again from the next.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


class ClientGoneError(Exception):
    """The client closed its connection; nobody reads an answer."""


async def read_body(receive: Receive, limits: Limits) -> bytes:
    """The whole body. Raises TooLargeError, DeadlineError for one that comes too slowly, ClientGoneError."""
    body = bytearray()
    deadline = asyncio.get_running_loop().time() + limits.body_seconds
    while True:
        message = await receive_before(receive, deadline, limits)
        body += message.get("body", b"")
        if len(body) > limits.body_bytes:
            raise TooLargeError(f"the body has more than {limits.body_bytes} bytes; send less at once")
        if not message.get("more_body", False):
            return bytes(body)


async def receive_before(receive: Receive, deadline: float, limits: Limits) -> Mapping[str, Any]:
    """The next part of a body. deadline: of the event loop's clock. Raises DeadlineError, ClientGoneError."""
    task = asyncio.current_task()
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        if task is not None:
            task.cancel()

    # Not asyncio.wait_for: it makes a task for each part.
    timer = asyncio.get_running_loop().call_at(deadline, give_up)
    try:
        message = await receive()
    except asyncio.CancelledError:
        if not is_late:
            raise
        uncancel(task)
        raise DeadlineError(f"the body did not arrive within {limits.body_seconds:g} s") from None
    finally:
        timer.cancel()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def uncancel(task: asyncio.Task[Any] | None) -> None:
    """Take back a cancel that was our own."""
    if task is not None:
        task.uncancel()


def decode_object(body: bytes, limits: Limits) -> dict[str, Any]:
    """The JSON object in a body. Raises InvalidInputError, TooLargeError for one too deep or of too many items."""
    check_shape(body, limits)
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"the body is not valid JSON: {_where(error)}") from None
    except RecursionError:
        raise TooLargeError(f"the body is nested deeper than {limits.depth} levels") from None
    if not isinstance(value, dict):
        raise InvalidInputError("the body must be a JSON object")
    return value


def check_shape(body: bytes, limits: Limits) -> None:
    """Raises TooLargeError where JSON would take much more memory or stack than its bytes. Reads no strings."""
    opened = body.count(b"[") + body.count(b"{")
    if opened <= limits.depth and body.count(b",") + opened <= limits.items:
        return
    # Reading so many strings would take longer than they are worth: each item has one or two.
    if body.count(b'"') - body.count(b'\\"') > 4 * (limits.items + 1):
        raise TooLargeError(f"the body has more than {limits.items} items; send less at once")
    # Most of the signs may stand in strings.
    bare = _STRING.sub(b"", body)
    items = bare.count(b",") + bare.count(b"[") + bare.count(b"{")
    if items > limits.items:
        raise TooLargeError(f"the body has more than {limits.items} items; send less at once")
    depth = 0
    for found in _BRACKET.finditer(bare):
        depth += 1 if found[0] in b"[{" else -1
        if depth > limits.depth:
            raise TooLargeError(f"the body is nested deeper than {limits.depth} levels")
        if depth < 0:
            # Closes what was never opened: no JSON, as its reader will say.
            return


def _where(error: Exception) -> str:
    """What msgspec says of it, without any part of the body."""
    return str(error).removeprefix("JSON is malformed: ")[:120]
