"""Threads for what blocks, of which no tenant can take all for longer than its calls last."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from trireme.gateway.turns import Turns

T = TypeVar("T")


class FairThreads:
    """`count` threads, given out in turns by group. Belongs to one event loop."""

    def __init__(self, count: int, name: str) -> None:
        self._turns = Turns(count)
        self._threads = ThreadPoolExecutor(count, name)
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, group: str, work: Callable[..., T], *arguments: Any) -> T:
        """What `work` gives. Who is cancelled while it waits leaves the line; what has begun goes on to its end."""
        turn = self._turns.turn(group)
        await turn.__aenter__()
        task = asyncio.create_task(self._finish(turn, work, arguments))
        self._running.add(task)
        task.add_done_callback(self._end)
        return await asyncio.shield(task)

    async def close(self, *, waits: bool = True) -> None:
        """End the threads, once what runs has ended. waits: for that. Idempotent."""
        await asyncio.to_thread(self._threads.shutdown, waits)

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        # Where nobody waits for it any more, asyncio would log its fault with a traceback.
        if not task.cancelled():
            task.exception()

    async def _finish(
        self, turn: AbstractAsyncContextManager[None], work: Callable[..., T], arguments: tuple[Any, ...]
    ) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            await turn.__aexit__(None, None, None)
