"""The caps in force, kept in memory and read anew when the store's revision rises."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from trireme.budget.caps import Cap, CapSet, CapStore, caps_of
from trireme.errors import UnavailableError

_log = logging.getLogger(__name__)
# Half of the promise that a change is in force within 2 s.
READ_SECONDS = 1.0
# Older caps mean that the database does not answer.
STALE_SECONDS = 5.0
# Of tenant and user whose caps are kept as they were found.
MOST_FOUND = 10_000


class CapRing:
    """For one event loop. `start` before use, `close` after it. Statements of the store run in threads.

    Caps that were read stay in force while the store is away; the log says so once.
    """

    def __init__(self, store: CapStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._held = CapSet(-1, ())
        self._read_at: float | None = None
        self._found: OrderedDict[tuple[str, str], tuple[Cap, ...]] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._is_stale = False

    async def start(self) -> None:
        """Read the caps, and go on doing so. A store that is away is waited for in the background."""
        await self._refresh_quietly()
        self._task = asyncio.create_task(self._keep_reading())

    async def close(self) -> None:
        """Stop reading. The store is the caller's to close."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def refresh(self) -> None:
        """Read the caps if they changed. Raises UnavailableError."""
        began = self._clock()
        read = await asyncio.to_thread(self._store.read, self._held.revision)
        if read is not None:
            self._held = read
            self._found.clear()
        self._read_at = began

    @property
    def age(self) -> float:
        """Seconds since the store answered; infinite before it first did."""
        return float("inf") if self._read_at is None else self._clock() - self._read_at

    @property
    def caps(self) -> tuple[Cap, ...]:
        """All of them, as they were set; none before the store first answered."""
        return self._held.caps

    def find(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """Those in force for a user ("": none) of a tenant (`caps_of`). Raises UnavailableError before any read."""
        if self._read_at is None:
            raise UnavailableError("the budgets cannot be read from the database now; try again")
        place = (tenant, user)
        found = self._found.get(place)
        if found is None:
            found = self._found[place] = caps_of(self._held.caps, tenant, user)
            if len(self._found) > MOST_FOUND:
                self._found.popitem(last=False)
        return found

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self._refresh_quietly()

    async def _refresh_quietly(self) -> None:
        """Reading must go on, whatever one read meets; what it means shows in `age`."""
        try:
            await self.refresh()
        except Exception:
            if self.age > STALE_SECONDS and not self._is_stale:
                self._is_stale = True
                _log.warning("the budgets cannot be read; those that were read last stay in force")
        else:
            self._is_stale = False
