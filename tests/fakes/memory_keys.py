"""A key store in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from trireme.access.checks import check_key, check_tenant, no_such_after
from trireme.access.keys import ALL_KEYS, Key, KeyQuery, KeySet
from trireme.errors import InvalidInputError

MINUTE = 60.0


def _order(key: Key) -> tuple[float, str]:
    return key.created_at, key.id


class MemoryKeys:
    """A KeyStore. Several processes with one database are one object here. `clock` gives seconds since 1970."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._keys: dict[str, tuple[str, Key]] = {}
        self._revision = 0
        # Key -> minute of its last request, and its requests in it.
        self._minutes: dict[str, tuple[float, int]] = {}

    def create(self, key: Key, digest: str) -> None:
        """See KeyStore.create."""
        check_key(key, digest)
        with self._lock:
            if key.id in self._keys or any(digest == other for other, _ in self._keys.values()):
                raise InvalidInputError("a key with this id or secret is there already; make a new one")
            kept = dataclasses.replace(key, created_at=self._clock(), is_revoked=False)
            self._keys[key.id] = (digest, kept)
            self._revision += 1

    def find(self, query: KeyQuery = ALL_KEYS) -> list[Key]:
        """See KeyStore.find."""
        if query.tenant:
            check_tenant(query.tenant)
        with self._lock:
            keys = sorted((key for _, key in self._keys.values()), key=_order, reverse=True)
            if query.after and query.after not in self._keys:
                raise no_such_after(query.after)
            if query.after:
                last = _order(self._keys[query.after][1])
                keys = [key for key in keys if _order(key) < last]
        return [
            key
            for key in keys
            if query.tenant in ("", key.tenant) and query.is_revoked in (None, key.is_revoked)
        ][: query.limit]

    def revoke(self, ids: Sequence[str], tenant: str = "") -> list[str]:
        """See KeyStore.revoke."""
        if tenant:
            check_tenant(tenant)
        with self._lock:
            revoked = []
            for one in dict.fromkeys(ids):
                digest, key = self._keys.get(one, ("", None))
                if key is not None and not key.is_revoked and tenant in ("", key.tenant):
                    self._keys[one] = (digest, dataclasses.replace(key, is_revoked=True))
                    revoked.append(one)
            self._revision += bool(revoked)
            return revoked

    def read(self, revision: int) -> KeySet | None:
        """See KeyStore.read."""
        with self._lock:
            if revision == self._revision:
                return None
            in_force = {digest: key for digest, key in self._keys.values() if not key.is_revoked}
            return KeySet(self._revision, in_force)

    def count(self, key_id: str, limit: int) -> float:
        """See KeyStore.count."""
        if limit < 1:
            return 0.0
        with self._lock:
            now = self._clock()
            minute = now - now % MINUTE
            last, requests = self._minutes.get(key_id, (minute, 0))
            if last - minute not in (0.0, MINUTE):
                last, requests = minute, 0
            if requests >= limit:
                return minute + MINUTE - now
            self._minutes[key_id] = (last, requests + 1)
            return 0.0

    def close(self) -> None:
        """See KeyStore.close."""
