"""Revisions of collections, read from the database at most once a second each."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from trireme.errors import UnavailableError
from trireme.retrieve.revisions import CollectionRevisions

# An answer of before a change may be served for so long after it, and no longer.
FRESH_SECONDS = 1.0
# That a request waits for the database.
READ_SECONDS = 0.25
MOST_COLLECTIONS = 10_000


class FreshRevisions:
    """For one event loop. Statements run in threads; who asks for the same at once shares one."""

    def __init__(
        self,
        store: CollectionRevisions,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = READ_SECONDS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wait_seconds = wait_seconds
        # When the reading began, and what it found.
        self._known: OrderedDict[tuple[str, str], tuple[float, str]] = OrderedDict()
        self._reading: dict[tuple[str, str], asyncio.Task[str]] = {}

    async def read(self, tenant: str, collection: str) -> str:
        """The revision as it was FRESH_SECONDS ago or later. Raises UnavailableError, also of a slow database."""
        place = (tenant, collection)
        began, revision = self._known.get(place, (float("-inf"), ""))
        if self._clock() - began <= FRESH_SECONDS:
            return revision
        task = self._reading.get(place)
        if task is None:
            task = self._reading[place] = asyncio.create_task(self._ask(place))
            task.add_done_callback(lambda done: self._forget(place, done))
        try:
            async with asyncio.timeout(self._wait_seconds):
                # Who goes away must not take it from the others.
                return await asyncio.shield(task)
        except TimeoutError:
            raise UnavailableError("the collection's revision cannot be read now") from None

    async def _ask(self, place: tuple[str, str]) -> str:
        began = self._clock()
        revision = await asyncio.to_thread(self._store.read, *place)
        self._known[place] = (began, revision)
        self._known.move_to_end(place)
        if len(self._known) > MOST_COLLECTIONS:
            self._known.popitem(last=False)
        return revision

    def _forget(self, place: tuple[str, str], task: asyncio.Task[str]) -> None:
        self._reading.pop(place, None)
        # Whoever waited may be gone by now.
        if not task.cancelled():
            task.exception()
