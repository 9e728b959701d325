"""Who goes next where only a few can: the group that has the fewest at it, and of that the one who came first."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """At most `count` at once. One group cannot keep the others out by sending much. Belongs to one event loop."""

    def __init__(self, count: int, each: int | None = None) -> None:
        """each: of one group at once, also where nobody else waits; None: all of them."""
        self._free = count
        self._each = count if each is None else each
        self._running: Counter[str] = Counter()
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, group: str) -> AsyncIterator[None]:
        """Waits for its turn, which ends with the block. A cancel gives it on."""
        await self._begin(group)
        try:
            yield
        finally:
            self._end(group)

    async def _begin(self, group: str) -> None:
        mine = (group, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._call_next()
        try:
            await mine[1]
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:
                # It was called at the same moment.
                self._end(group)
            raise

    def _end(self, group: str) -> None:
        self._free += 1
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]
        self._call_next()

    def _call_next(self) -> None:
        while self._free:
            # The first of those with the same number.
            called = min(self._waiting, key=lambda one: self._running[one[0]], default=None)
            if called is None or self._running[called[0]] >= self._each:
                return
            self._waiting.remove(called)
            self._free -= 1
            self._running[called[0]] += 1
            if not called[1].done():
                called[1].set_result(None)
