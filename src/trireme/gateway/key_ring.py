"""The keys in force, kept in memory and read anew when the store's revision rises."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from trireme.access.endpoints import NAMED, can_use
from trireme.access.keys import SECRET_PREFIX, Key, KeySet, KeyStore, digest_of
from trireme.errors import (
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)

# Half of the promise that a change is in force within 2 s.
READ_SECONDS = 1.0
# Older keys mean that the database does not answer.
DATABASE_SECONDS = 5.0
# Between two reads that unknown keys lead to.
LOOK_SECONDS = 0.1
# A store that is away for longer may have revoked keys that we still hold.
STALE_SECONDS = 300.0
MINUTE = 60.0
# Keys whose requests are counted here while the store is away.
COUNTED = 10_000


class KeyRing:
    """For one event loop. `start` before use, `close` after it. Statements of the store run in threads."""

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self._clock = clock
        self._held = KeySet(-1, {})
        self._read_at: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._is_away = False
        self._counts: OrderedDict[str, tuple[int, int]] = OrderedDict()

    async def start(self) -> None:
        """Read the keys, and go on doing so. A store that is away is waited for in the background."""
        await self._refresh_quietly()
        self._task = asyncio.create_task(self._keep_reading())

    async def close(self) -> None:
        """Stop reading. The store is the caller's to close."""
        tasks = [task for task in (self._task, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def refresh(self) -> None:
        """Read the keys if they changed. Raises UnavailableError."""
        # One after the other: an older read must not come last.
        async with self._lock:
            began = self._clock()
            found = await asyncio.to_thread(self.store.read, self._held.revision)
            if found is not None:
                self._held = found
            self._read_at = began

    @property
    def age(self) -> float:
        """Seconds since the store answered; infinite before it first did."""
        return float("inf") if self._read_at is None else self._clock() - self._read_at

    def __len__(self) -> int:
        return len(self._held.keys)

    def holds(self, secret: str) -> bool:
        """Whether a key that was identified is in force still, as far as is known without asking the store."""
        return self.age <= STALE_SECONDS and digest_of(secret) in self._held.keys

    async def identify(self, secret: str) -> Key:
        """The key of a secret. Raises UnauthenticatedError, UnavailableError where what is held is too old.

        One that is not known is looked for in the store, so that a new key is in force at once.
        """
        if self.age > STALE_SECONDS:
            raise UnavailableError("the keys cannot be read from the database now; try again")
        if not secret:
            raise UnauthenticatedError("no key: send authorization: Bearer KEY, or x-api-key: KEY")
        digest = digest_of(secret)
        key = self._held.keys.get(digest)
        if key is None and secret.startswith(SECRET_PREFIX):
            key = await self._look_again(digest)
        if key is None and self._is_away:
            raise UnavailableError("the keys cannot be read from the database now; try again")
        if key is None:
            raise UnauthenticatedError("this key is not in force; make one with: trireme keys create")
        return key

    async def _look_again(self, digest: str) -> Key | None:
        """A key that may be new: read all once more, with all others who wait for that."""
        # A read that others began may be older than the key.
        for _ in range(2):
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look())
            # Who goes away must not take the answer from the others.
            await asyncio.shield(self._looking)
            if (key := self._held.keys.get(digest)) is not None:
                return key
        return None

    async def _look(self) -> None:
        """Read the keys, but not more often than each LOOK_SECONDS: whoever guesses costs no more than that."""
        await asyncio.sleep(max(0.0, LOOK_SECONDS - self.age))
        await self._refresh_quietly()

    async def _refresh_quietly(self) -> None:
        """Reading must go on, whatever one read meets; what it means shows in `age`."""
        try:
            await self.refresh()
            self._is_away = False
        except Exception:
            self._is_away = True

    async def admit(self, key: Key, endpoint: str) -> None:
        """Count a request of `key`. Raises PermissionDeniedError for an endpoint that it may not use,
        ResourceExhaustedError over its requests a minute; such a request is not counted."""
        if not can_use(key.endpoints, endpoint):
            allowed = ", ".join(key.endpoints) or f"all but {', '.join(NAMED)}, which a key must name"
            raise PermissionDeniedError(f"this key may not use {endpoint}; it may use: {allowed}")
        limit = key.requests_per_minute
        if not limit:
            return
        try:
            wait = await asyncio.to_thread(self.store.count, key.id, limit)
        except UnavailableError:
            wait = self._count_here(key.id, limit)
        if wait > 0:
            raise ResourceExhaustedError(
                f"this key has used its {limit} requests of this minute; the next one begins in {wait:.0f} s",
                wait,
            )

    def _count_here(self, key_id: str, limit: int) -> float:
        """As the store's count, of this process alone: without the store a limit still holds for each process."""
        now = time.time()
        minute = int(now // MINUTE)
        last, count = self._counts.get(key_id, (minute, 0))
        if last != minute:
            count = 0
        if count >= limit:
            return MINUTE - now % MINUTE
        self._counts[key_id] = (minute, count + 1)
        self._counts.move_to_end(key_id)
        if len(self._counts) > COUNTED:
            self._counts.popitem(last=False)
        return 0.0

    async def _keep_reading(self) -> None:
        while True:
            await asyncio.sleep(READ_SECONDS)
            await self._refresh_quietly()
