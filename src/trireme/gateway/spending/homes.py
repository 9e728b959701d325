"""Attempts of tenants of several regions, each held by the budgets of its tenant's home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow
from trireme.budget.port import Refusal
from trireme.gateway.spending.admission import Admits, Admitted, Cost


class HomedAdmission:
    """See Admits. own: of this region, which is the home of every tenant for which `home_of` says ""."""

    def __init__(self, own: Admits, homes: Mapping[str, Admits], home_of: Callable[[str], str]) -> None:
        self._own = own
        self._homes = homes
        self._home_of = home_of

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """See Admits."""
        return self._at(tenant).caps(tenant, user)

    async def hold(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Admitted | Refusal:
        """See Admits."""
        return await self._at(row.tenant).hold(row, caps, cost)

    def settle(self, row: LedgerRow) -> asyncio.Task[Any] | None:
        """See Admits."""
        return self._at(row.tenant).settle(row)

    def _at(self, tenant: str) -> Admits:
        return self._homes.get(self._home_of(tenant), self._own)
