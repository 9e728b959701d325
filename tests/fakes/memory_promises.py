"""Checks of a semantic cache in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import threading
from collections import defaultdict

from trireme.cache.promise import MOST_CHECKS, Check, Evidence
from trireme.errors import UnavailableError


class MemoryPromises:
    """A PromiseStore. Several processes with one database are one object here. is_away: every verb raises."""

    def __init__(self, most: int = MOST_CHECKS) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._checks: dict[str, list[Check]] = defaultdict(list)
        self._off: set[str] = set()
        self.is_away = False

    def record(self, check: Check) -> None:
        """See PromiseStore.record."""
        with self._lock:
            self._require()
            self._checks[check.scope] = [*self._checks[check.scope], check][-self._most :]

    def read(self, scope: str) -> Evidence:
        """See PromiseStore.read."""
        with self._lock:
            self._require()
            return Evidence(tuple(self._checks[scope]), scope in self._off)

    def turn(self, scope: str, *, is_off: bool) -> bool:
        """See PromiseStore.turn."""
        with self._lock:
            self._require()
            if (scope in self._off) == is_off:
                return False
            self._off ^= {scope}
            return True

    def reset(self, scope: str) -> int:
        """See PromiseStore.reset."""
        with self._lock:
            self._require()
            self._off.discard(scope)
            return len(self._checks.pop(scope, []))

    def close(self) -> None:
        """See PromiseStore.close."""

    def _require(self) -> None:
        if self.is_away:
            raise UnavailableError("the store is away")
