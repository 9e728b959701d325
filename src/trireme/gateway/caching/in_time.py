"""How long a request waits for what another one's call, or another gateway, makes for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from trireme.errors import DeadlineError
from trireme.gateway.exchange import Exchange

T = TypeVar("T")


async def by(moment: float | None, act: Awaitable[T]) -> T:
    """What `act` gives by a moment of the monotonic clock; None: whenever. Raises DeadlineError, and cancels it."""
    try:
        async with asyncio.timeout(None if moment is None else max(0.0, moment - time.monotonic())):
            return await act
    except TimeoutError:
        raise DeadlineError("the answer did not come within the time that the request gives it") from None


def patience_of(exchange: Exchange, most: float) -> float:
    """Seconds after which a call is broken off, `most` at most. To the millisecond: equal headers are equal."""
    ends = exchange.deadlines.end(is_stream=exchange.stream)
    return most if ends is None else min(most, round(ends - exchange.started, 3))
