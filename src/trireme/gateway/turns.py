"""Who goes next where only a few can: the group that has the fewest at it, and of that the one who came first."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """At most `count` at once. One group cannot keep the others out by sending much. Belongs to one event loop."""

    def __init__(self, count: int, each: int | None = None) -> None:
        """each: of one group at once, also where nobody else waits; None: all of them."""
        self._free = count
        self._each = count if each is None else each
        self._running: Counter[str] = Counter()
        # By group, so that a long line of one costs nobody time; in the order in which they came.
        self._waiting: dict[str, OrderedDict[int, asyncio.Future[None]]] = {}
        self._came = itertools.count()

    @asynccontextmanager
    async def turn(self, group: str) -> AsyncIterator[None]:
        """Waits for its turn, which ends with the block. A cancel gives it on."""
        await self._begin(group)
        try:
            yield
        finally:
            self._end(group)

    async def _begin(self, group: str) -> None:
        place, called = next(self._came), asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, OrderedDict())[place] = called
        self._call_next()
        try:
            await called
        except asyncio.CancelledError:
            if place in self._waiting.get(group, ()):
                self._leave(group, place)
            else:
                # It was called at the same moment.
                self._end(group)
            raise

    def _leave(self, group: str, place: int) -> asyncio.Future[None]:
        line = self._waiting[group]
        called = line.pop(place)
        if not line:
            del self._waiting[group]
        return called

    def _end(self, group: str) -> None:
        self._free += 1
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]
        self._call_next()

    def _call_next(self) -> None:
        while self._free and self._waiting:
            running, place, group = min(
                (self._running[group], next(iter(line)), group) for group, line in self._waiting.items()
            )
            if running >= self._each:
                return
            called = self._leave(group, place)
            self._free -= 1
            self._running[group] += 1
            if not called.done():
                called.set_result(None)
