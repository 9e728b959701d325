"""Single flight over processes: who has the lock of a question asks, the others look for the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import quote

from trireme.cache.port import CacheStore, Found, Question
from trireme.cache.rest import Rest
from trireme.errors import UnavailableError

# A gateway that dies gives the lock up after so long.
LOCK_SECONDS = 6.0
# What another gateway makes may be nothing to keep: after so long everybody asks for itself.
WAIT_SECONDS = 30.0
STORE_SECONDS = 0.05
# Between two looks, doubled from the first to the last.
FIRST_LOOK, LAST_LOOK = 0.01, 0.25


class QuestionLocks:
    """For one event loop. No verb raises: without a store everybody has the lock. The tiers close the store."""

    def __init__(
        self,
        store: CacheStore,
        *,
        lock_seconds: float = LOCK_SECONDS,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """lock_seconds: of a lock that nobody prolongs; its owner does so while it asks."""
        self._store = store
        self._lock_seconds = lock_seconds
        self._sleep = sleep
        self._clock = clock
        self._rest = Rest(clock=clock)
        # By owner, also of one that has only asked: the store may have given it the lock all the same.
        self._held: dict[str, asyncio.Task[None] | None] = {}

    async def take(
        self, question: Question, owner: str, look: Callable[[], Awaitable[Found | None]]
    ) -> Found | None:
        """Wait until the lock is `owner`'s (None), or `look` has found what another owner made.

        None as well after WAIT_SECONDS, and where the store does not answer: then without the lock.
        """
        pause = FIRST_LOOK
        until = self._clock() + WAIT_SECONDS
        while self._clock() < until:
            is_ours = await self._try(question, owner)
            if is_ours is None:
                return None
            # Also with the lock: it may have been freed after the caller's own look.
            found = await look()
            if found is not None or is_ours:
                return found
            await self._sleep(pause)
            pause = min(2 * pause, LAST_LOOK)
        return None

    async def free(self, question: Question, owner: str) -> None:
        """Give it up, if it is the owner's."""
        if owner not in self._held:
            return
        task = self._held.pop(owner)
        if task is not None:
            task.cancel()
        if self._rest.is_on():
            return
        # A lock that cannot be freed runs out.
        with suppress(UnavailableError, TimeoutError):
            async with asyncio.timeout(STORE_SECONDS):
                await self._store.unlock(place_of(question), owner)

    async def close(self) -> None:
        """Prolong nothing any more."""
        tasks = [task for task in self._held.values() if task is not None]
        self._held.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _try(self, question: Question, owner: str) -> bool | None:
        """Whether the lock is the owner's; None where the store does not say."""
        if self._rest.is_on():
            return None
        self._held.setdefault(owner, None)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                is_ours = await self._store.lock(place_of(question), owner, self._lock_seconds)
        except (UnavailableError, TimeoutError) as error:
            self._rest.note_failure(error)
            return None
        self._rest.note_answer()
        if is_ours:
            self._held[owner] = asyncio.create_task(self._prolong(question, owner))
        return is_ours

    async def _prolong(self, question: Question, owner: str) -> None:
        while True:
            await asyncio.sleep(self._lock_seconds / 3)
            # One that fails is tried again before the lock runs out.
            with suppress(UnavailableError, TimeoutError):
                async with asyncio.timeout(STORE_SECONDS):
                    if not await self._store.lock(place_of(question), owner, self._lock_seconds):
                        return


def place_of(question: Question) -> str:
    """Where the store has the question's lock."""
    return f"{quote(question.tenant, safe='')}:{question.key}"
