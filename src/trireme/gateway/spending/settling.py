"""The end of attempts: bills to the budget store, and to the ledger itself while that store is away."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from trireme.budget.ledger import Ledger, LedgerRow, Recorded
from trireme.budget.port import BudgetStore, Hold, Refusal
from trireme.errors import UnavailableError
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.rows import bill_of

_log = logging.getLogger(__name__)
# Bills that wait in memory for a store, at most.
MOST_WAITING = 10_000
# Reservations without an answer that are given back. Only those on their way when a store goes may have been made.
MOST_REFUNDS = 100
# Rows of one statement of the ledger.
BATCH = 500
AGAIN_SECONDS = 0.5
# What is not settled when the gateway ends.
CLOSE_SECONDS = 5.0


@dataclass(slots=True)
class _Waiting:
    """A row whose bill the budget store does not have yet. is_recorded: the ledger has it."""

    row: LedgerRow
    is_asked: bool = False
    is_recorded: bool = False


class Settling:
    """For one event loop. What was handed in goes on whatever becomes of the request; `close` waits for it.

    A bill that the store does not take waits here, and its row goes straight to the ledger. A row that is in
    neither when the gateway ends, or there are more than `most`, is lost: `lose` is told how many.
    """

    def __init__(
        self,
        store: BudgetStore,
        ledger: Ledger,
        health: StoreHealth,
        lose: Callable[[int], None] = lambda _: None,
        *,
        compare: Callable[[], None] = lambda: None,
        most: int = MOST_WAITING,
    ) -> None:
        """compare: is called when a store that was away has got a bill whose row the ledger has already: one that
        lost its counters may have counted it from there."""
        self._store = store
        self._ledger = ledger
        self._health = health
        self._lose = lose
        self._compare = compare
        self._most = most
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._keeper: asyncio.Task[None] | None = None
        self._is_full = False
        self._refunds = 0

    def start(self) -> None:
        """Begin to try again what waits."""
        self._keeper = asyncio.create_task(self._keep_trying())

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Settle what has ended, for so many seconds at most; record the rest in the ledger, and stop."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        await self.wait(seconds)
        for task in self._tasks:
            task.cancel()
        for waiting in self._waiting.values():
            waiting.is_asked = False
        try:
            async with asyncio.timeout(seconds):
                await self.try_again()
        except Exception:
            _log.warning("some attempts could not be settled while the gateway ended")
        self._lose_rows(sum(not waiting.is_recorded for waiting in self._waiting.values()))
        self._waiting.clear()

    async def wait(self, seconds: float = CLOSE_SECONDS) -> None:
        """Return when nothing is being settled any more, or after so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    def __len__(self) -> int:
        """Bills that the budget store does not have yet."""
        return len(self._waiting)

    def settle(self, row: LedgerRow) -> asyncio.Task[Any] | None:
        """End the hold of `row.attempt` with what the row says. Does not block.

        The task is over when the store has the bill or was asked in vain; None while it is away.
        """
        waiting = self._waiting[row.attempt] = _Waiting(row)
        if len(self._waiting) > self._most:
            self._drop_one()
        if not self._health.is_away:
            # From now on, and not when its task begins: else the keeper might take it for one that waits.
            waiting.is_asked = True
            return self._run(self._settle(waiting))
        return None

    def refund(self, row: LedgerRow) -> None:
        """End what a reservation may hold that the store did not answer. The ledger needs no row of it."""
        if self._refunds < MOST_REFUNDS:
            self._refunds += 1
            self._waiting[row.attempt] = _Waiting(row, is_recorded=True)

    def refund_after(self, reserving: asyncio.Task[Hold | Refusal], row: LedgerRow) -> None:
        """Give back what a reservation holds that nobody waits for any more."""

        async def refund() -> None:
            try:
                if isinstance(await reserving, Hold):
                    self.settle(row)
            except UnavailableError:
                self.refund(row)

        self._run(refund())

    async def try_again(self) -> None:
        """Record in the ledger what waits, then settle it, oldest first, until the store does not answer."""
        late = [one for one in self._waiting.values() if not one.is_asked]
        unrecorded = [one for one in late if not one.is_recorded]
        for start in range(0, len(unrecorded), BATCH):
            await self._record(unrecorded[start : start + BATCH])
        for one in late:
            if not await self._settle(one):
                return

    def _run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _settle(self, waiting: _Waiting) -> bool:
        """Whether the store has the bill."""
        waiting.is_asked = True
        try:
            await self._store.settle(bill_of(waiting.row))
        except Exception as error:
            if not isinstance(error, UnavailableError):
                _log.error("settling failed: %s", type(error).__name__)
            self._health.note_away()
            return False
        finally:
            waiting.is_asked = False
        self._health.note_answer()
        self._refunds = 0
        self._waiting.pop(waiting.row.attempt, None)
        if waiting.is_recorded:
            self._compare()
        return True

    async def _record(self, some: Sequence[_Waiting]) -> None:
        try:
            await asyncio.to_thread(self._ledger.record, [Recorded(one.row) for one in some])
        except Exception as error:
            if not isinstance(error, UnavailableError):
                _log.error("recording failed: %s", type(error).__name__)
            return
        for one in some:
            one.is_recorded = True

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_SECONDS)
            if self._waiting:
                await self.try_again()
            else:
                self._is_full = False

    def _drop_one(self) -> None:
        """Forget a bill: one whose row the ledger has, for the counters are rebuilt from there, else the oldest."""
        recorded = (name for name, one in self._waiting.items() if one.is_recorded)
        name = next(recorded, next(iter(self._waiting)))
        if not self._waiting.pop(name).is_recorded:
            self._lose_rows(1)

    def _lose_rows(self, count: int) -> None:
        if not count:
            return
        self._lose(count)
        if not self._is_full:
            self._is_full = True
            _log.error("rows of the ledger are lost: neither the budget store nor the database takes them")
