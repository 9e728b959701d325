"""What somebody else knows, read again while people look: nobody waits for it, and it is not asked too often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from trireme.errors import TriremeError

T = TypeVar("T")
# What was read longer ago says nothing of now: so many times the interval, or so many seconds where that is more.
_STALE, _STALE_SECONDS = 5, 15.0


class Glance(Generic[T]):
    """For one event loop. `read` is begun by `look`, at most each `seconds`, and one at a time."""

    def __init__(
        self, read: Callable[[], Awaitable[T]], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read, self._seconds, self._clock = read, seconds, clock
        self._task: asyncio.Task[None] | None = None
        self._began = self._read_at = float("-inf")
        self._value: T | None = None
        # Why the last read gave nothing; "" where it did.
        self.fault = ""

    def look(self) -> T | None:
        """What the last read gave; None where it failed, was long ago, or is the first and runs still."""
        now = self._clock()
        if self._task is None and now - self._began >= self._seconds:
            self._began = now
            self._task = asyncio.ensure_future(self._keep())
        is_fresh = now - self._read_at <= max(_STALE * self._seconds, _STALE_SECONDS)
        return self._value if is_fresh else None

    async def close(self) -> None:
        """Stop reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        began = self._clock()
        try:
            self._value, self._read_at, self.fault = await self._read(), began, ""
        except TriremeError as error:
            self._value, self.fault = None, str(error)
        except Exception as error:
            self._value, self.fault = None, type(error).__name__
        finally:
            self._task = None
