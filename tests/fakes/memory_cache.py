"""A store of kept answers in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import time
from collections.abc import Callable

from trireme.errors import UnavailableError


class MemoryCache:
    """A CacheStore. Several gateways with one store are one object here. `clock` gives seconds.

    While `is_away` is true every verb fails as a store that does not answer.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.values: dict[str, tuple[bytes, float]] = {}
        self.locks: dict[str, tuple[str, float]] = {}
        self.is_away = False
        self.gets = 0

    async def get(self, key: str) -> bytes | None:
        """See CacheStore.get."""
        self._check()
        self.gets += 1
        value, until = self.values.get(key, (None, 0.0))
        return value if self._clock() < until else None

    async def put(self, key: str, value: bytes, seconds: float) -> None:
        """See CacheStore.put."""
        self._check()
        self.values[key] = (bytes(value), self._clock() + seconds)

    async def lock(self, key: str, owner: str, seconds: float) -> bool:
        """See CacheStore.lock."""
        self._check()
        other, until = self.locks.get(key, (owner, 0.0))
        if other != owner and self._clock() < until:
            return False
        self.locks[key] = (owner, self._clock() + seconds)
        return True

    async def unlock(self, key: str, owner: str) -> None:
        """See CacheStore.unlock."""
        self._check()
        if self.locks.get(key, ("", 0.0))[0] == owner:
            del self.locks[key]

    async def close(self) -> None:
        """See CacheStore.close."""

    def _check(self) -> None:
        if self.is_away:
            raise UnavailableError("the store of answers is away")
