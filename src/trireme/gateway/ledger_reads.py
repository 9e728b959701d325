"""Reads of the ledger in a few threads, which tenants take in turns: long sums of one keep no other waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from trireme.access.endpoints import can_use
from trireme.access.keys import Key
from trireme.gateway.turns import Turns

T = TypeVar("T")
# Of them all, whoever asks.
ADMINS = "admins"


class LedgerReads:
    """At most `count` at once, of one group at most `each`. Belongs to one event loop."""

    def __init__(self, threads: ThreadPoolExecutor, count: int, each: int) -> None:
        """threads: at least `count`; they may be shared with other loops."""
        self._threads = threads
        self._turns = Turns(count, each)

    async def read(self, key: Key, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` gives for a request of `key`. Raises what it raises.

        A turn ends with its work: who asks, goes away and asks again has no more of them than who waits.
        """
        begun: list[bool] = []
        task = asyncio.create_task(self._take_turn(_group_of(key), partial(work, *arguments), begun))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not begun:
                task.cancel()
            # Nobody asks what became of it any more.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _take_turn(self, group: str, work: Callable[[], T], begun: list[bool]) -> T:
        async with self._turns.turn(group):
            begun.append(True)
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _group_of(key: Key) -> str:
    """All admins are one, as a tenant is."""
    return ADMINS if can_use(key.endpoints, "admin") else f"tenant {key.tenant}"


# Sums of a long time take seconds: threads of their own, so that keys are read meanwhile, and no more at once.
_SUMS = ThreadPoolExecutor(4, "sums")
# What takes milliseconds: the rows of one request, pages of keys, tenants and budgets.
_LOOKS = ThreadPoolExecutor(4, "looks")


def new_sums() -> LedgerReads:
    """Of sums over a long time."""
    return LedgerReads(_SUMS, 4, 2)


def new_looks() -> LedgerReads:
    """Of what takes milliseconds."""
    return LedgerReads(_LOOKS, 4, 2)
