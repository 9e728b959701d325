"""A list of tenants in memory, for tests, over a key store, caps and a ledger in memory."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

from fakes.memory_caps import MemoryCaps
from fakes.memory_keys import MemoryKeys
from fakes.memory_ledger import MemoryLedger
from trireme.access.checks import MAX_NAME_BYTES
from trireme.access.keys import KeyQuery
from trireme.access.tenants import TenantInfo, TenantQuery
from trireme.budget.caps import EACH

LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


class MemoryTenants:
    """A TenantList."""

    def __init__(self, keys: MemoryKeys, caps: MemoryCaps, ledger: MemoryLedger) -> None:
        self._keys = keys
        self._caps = caps
        self._ledger = ledger

    def find(self, query: TenantQuery) -> list[TenantInfo]:
        """See TenantList.find."""
        rows = [one.row for one in self._ledger.rows.values() if one.row.at >= query.since]
        names = {key.tenant for key in self._keys.find()} | {row.tenant for row in rows}
        names |= {cap.tenant for cap in self._caps.find() if cap.tenant not in ("", EACH)}
        part = query.part.translate(LOWER)
        if any(not _is_storable(text) for text in (query.part, query.after)):
            return []
        found = sorted(name for name in names if name > query.after and part in name.translate(LOWER))
        return [
            TenantInfo(
                name,
                len(self._keys.find(KeyQuery(name, is_revoked=False))),
                len(self._caps.find(name)),
                len({row.request for row in rows if row.tenant == name}),
                sum(row.tokens for row in rows if row.tenant == name),
                sum(row.nanos for row in rows if row.tenant == name),
            )
            for name in found[: query.limit]
        ]

    def close(self) -> None:
        """See TenantList.close."""


def _is_storable(text: str) -> bool:
    return "\x00" not in text and len(text) <= MAX_NAME_BYTES and text.isprintable()
