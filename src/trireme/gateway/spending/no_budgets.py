"""In place of a budget store where none is set: it is always away, so budgets refuse and the ledger records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from trireme.budget.port import Bill, Claim, Counter, Progress, Snapshot
from trireme.errors import UnavailableError


class NoBudgets:
    """BudgetStore and SpendQueue. Every verb but close raises UnavailableError."""

    async def reserve(self, claim: Claim) -> NoReturn:
        """See BudgetStore."""
        raise _no_store()

    async def extend(self, running: Sequence[Progress], lease_seconds: float) -> NoReturn:
        """See BudgetStore."""
        raise _no_store()

    async def settle(self, bill: Bill) -> NoReturn:
        """See BudgetStore."""
        raise _no_store()

    async def read(self, tenant: str, user: str) -> NoReturn:
        """See BudgetStore."""
        raise _no_store()

    async def close(self) -> None:
        """See BudgetStore."""

    async def expire(self) -> NoReturn:
        """See SpendQueue."""
        raise _no_store()

    async def peek(self, limit: int) -> NoReturn:
        """See SpendQueue."""
        raise _no_store()

    async def remove(self, entries: Sequence[str]) -> NoReturn:
        """See SpendQueue."""
        raise _no_store()

    async def snapshot(self, tenant: str, user: str) -> NoReturn:
        """See SpendQueue."""
        raise _no_store()

    async def correct(
        self, snapshot: Snapshot, tenant: str, user: str, counters: Sequence[Counter]
    ) -> NoReturn:
        """See SpendQueue."""
        raise _no_store()


def _no_store() -> UnavailableError:
    return UnavailableError("there is no budget store; TRIREME_REDIS_URL names one")
