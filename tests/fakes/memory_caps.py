"""A store of caps in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import threading

from trireme.access.checks import check_tenant
from trireme.budget.caps import WINDOWS, Cap, CapSet
from trireme.budget.checks import check_cap


def order(cap: Cap) -> tuple[str, str, int]:
    """The gateway's first, then by tenant, user and window."""
    return cap.tenant, cap.user, WINDOWS.index(cap.window)


class MemoryCaps:
    """A CapStore. Several processes with one database are one object here."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._caps: dict[tuple[str, str, str], Cap] = {}
        self._revision = 0

    def put(self, cap: Cap) -> None:
        """See CapStore.put."""
        check_cap(cap)
        place = (cap.tenant, cap.user, cap.window)
        with self._lock:
            kept = None if cap.tokens is None and cap.nanos is None else cap
            if self._caps.get(place) == kept:
                return
            self._revision += 1
            if kept is None:
                del self._caps[place]
            else:
                self._caps[place] = kept

    def find(self, tenant: str = "") -> list[Cap]:
        """See CapStore.find."""
        if tenant:
            check_tenant(tenant)
        with self._lock:
            return sorted((one for one in self._caps.values() if tenant in ("", one.tenant)), key=order)

    def read(self, revision: int) -> CapSet | None:
        """See CapStore.read."""
        with self._lock:
            if revision == self._revision:
                return None
            return CapSet(self._revision, tuple(self.find()))

    def close(self) -> None:
        """See CapStore.close."""
