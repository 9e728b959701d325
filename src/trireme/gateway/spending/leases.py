"""Running holds: all are extended together, with what each has used so far."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from trireme.budget.port import BudgetStore, Progress
from trireme.errors import UnavailableError
from trireme.gateway.spending.health import StoreHealth

_log = logging.getLogger(__name__)


class Leases:
    """For one event loop. A hold is extended each third of its lease, so that two extensions may fail."""

    def __init__(self, store: BudgetStore, seconds: float, health: StoreHealth) -> None:
        """seconds: of a lease."""
        self._store = store
        self._seconds = seconds
        self._health = health
        self._running: dict[str, Callable[[], Progress]] = {}
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to extend."""
        self._keeper = asyncio.create_task(self._keep_extending())

    async def close(self) -> None:
        """Stop. Holds that still run end with their lease."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    def __len__(self) -> int:
        return len(self._running)

    def add(self, hold: str, progress: Callable[[], Progress]) -> None:
        """Keep a hold from now on."""
        self._running[hold] = progress

    def remove(self, hold: str) -> None:
        """It has ended. One that is not there is passed over."""
        self._running.pop(hold, None)

    async def extend(self) -> None:
        """Extend all of them once. Raises UnavailableError."""
        running = [progress() for progress in self._running.values()]
        if running:
            # One that has expired was charged; its settlement corrects that.
            for hold in await self._store.extend(running, self._seconds):
                self.remove(hold)

    async def _keep_extending(self) -> None:
        while True:
            await asyncio.sleep(self._seconds / 3)
            try:
                await self.extend()
            except UnavailableError:
                self._health.note_away()
            except Exception as error:
                _log.error("extending holds failed: %s", type(error).__name__)
