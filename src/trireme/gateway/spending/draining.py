"""The way of rows from the budget store to the ledger. Any gateway process may do it, several at once too."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from trireme.budget.ledger import Ledger, Recorded, decode_row
from trireme.budget.port import Snapshot, SpendQueue, Waiting
from trireme.errors import UnavailableError
from trireme.gateway.spending.health import StoreHealth

_log = logging.getLogger(__name__)
EVERY_SECONDS = 0.5
BATCH = 500


class Draining:
    """For one event loop. A row is removed from the store only after the ledger has it, so none is lost; one that
    is recorded twice is passed over the second time."""

    def __init__(
        self,
        queue: SpendQueue,
        ledger: Ledger,
        health: StoreHealth,
        lose: Callable[[int], None] = lambda _: None,
    ) -> None:
        """lose: is told of rows that cannot be read, or that the ledger refuses."""
        self._queue = queue
        self._ledger = ledger
        self._health = health
        self._lose = lose
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        # Rows that waited when we looked last, up to BATCH.
        self.seen = 0

    def start(self) -> None:
        """Begin to expire and to drain."""
        self._keeper = asyncio.create_task(self._keep_draining())

    async def close(self) -> None:
        """Stop. What waits is drained by the next gateway."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    async def drain(self, until: Snapshot | None = None) -> None:
        """Move rows to the ledger, all that wait, or those that `until` counts. Raises UnavailableError."""
        async with self._lock:
            while rows := await self._queue.peek(BATCH):
                self.seen = len(rows)
                if until is not None and not any(_is_counted(row, until) for row in rows):
                    return
                await self._record(rows)
                await self._queue.remove([row.entry for row in rows])
            self.seen = 0

    async def _record(self, rows: Sequence[Waiting]) -> None:
        recorded = [made for row in rows if (made := self._read(row)) is not None]
        if not recorded:
            return
        try:
            await asyncio.to_thread(self._ledger.record, recorded)
        except UnavailableError:
            raise
        except Exception:
            await self._record_each(recorded)

    async def _record_each(self, recorded: Sequence[Recorded]) -> None:
        """Leave out what the ledger refuses: it would keep all behind it waiting."""
        for one in recorded:
            try:
                await asyncio.to_thread(self._ledger.record, [one])
            except UnavailableError:
                raise
            except Exception as error:
                self._lose(1)
                _log.error("the ledger refuses a row (%s); it is left out", type(error).__name__)

    def _read(self, waiting: Waiting) -> Recorded | None:
        try:
            row = replace(decode_row(waiting.row), at=waiting.at)
        except msgspec.DecodeError:
            self._lose(1)
            _log.error("a row of the budget store cannot be read; it is left out of the ledger")
            return None
        return Recorded(row, waiting.epoch, waiting.seq)

    async def _keep_draining(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            await self._drain_quietly()

    async def _drain_quietly(self) -> None:
        try:
            await self._queue.expire()
            self._health.note_answer()
        except UnavailableError:
            self._health.note_away()
            return
        except Exception as error:
            _log.error("expiring holds failed: %s", type(error).__name__)
        try:
            await self.drain()
        except UnavailableError:
            # Of the ledger or of the store: rows wait until both answer.
            return
        except Exception as error:
            _log.error("draining failed: %s", type(error).__name__)


def _is_counted(row: Waiting, snapshot: Snapshot) -> bool:
    return row.epoch == snapshot.epoch and row.seq <= snapshot.seq
