"""The books of one budget store and its ledger: what admits, keeps, settles, carries and compares, put together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from trireme.budget.caps import CapStore
from trireme.budget.ledger import Ledger, LedgerRow
from trireme.budget.port import BudgetStore, SpendQueue
from trireme.gateway.budget_rows import BudgetRow
from trireme.gateway.spending.admission import Admission, AdmissionParts
from trireme.gateway.spending.cap_ring import CapRing
from trireme.gateway.spending.draining import Draining
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.leases import Leases
from trireme.gateway.spending.reconcile import Difference, Reconciler, Scope
from trireme.gateway.spending.settling import Settling


@dataclass(frozen=True, slots=True)
class BooksParts:
    """What books need. store and queue are usually one object.

    is_strict: who cannot be held for is refused, also where no cap holds. is_compared: before a cap is relied upon
    its counters are compared with the ledger. tell: is told of every attempt that ended; lose: of lost rows;
    tell_round: of the difference that a round found. capped: scopes that have caps.
    """

    store: BudgetStore
    queue: SpendQueue
    ledger: Ledger
    caps: CapStore
    rules: BudgetRow
    is_strict: bool = False
    is_compared: bool = True
    tell: Callable[[LedgerRow], None] = lambda _: None
    lose: Callable[[int], None] = lambda _: None
    tell_round: Callable[[Difference], None] = lambda _: None
    capped: Callable[[], Iterable[Scope]] = tuple


class Books:
    """For one event loop. Nothing of it runs before it is started; each part is started by itself."""

    def __init__(self, parts: BooksParts) -> None:
        self.health = StoreHealth(self._doubt)
        self.ring = CapRing(parts.caps)
        self.draining = Draining(parts.queue, parts.ledger, self.health, parts.lose)
        self.reconciler = Reconciler(
            parts.queue,
            parts.ledger,
            self.draining,
            self.health,
            settle=self._settle_waiting,
            capped=parts.capped,
            tell=parts.tell_round,
        )
        self.settling = Settling(
            parts.store, parts.ledger, self.health, parts.lose, compare=self.reconciler.compare_soon
        )
        self.leases = Leases(parts.store, parts.rules.lease_seconds, self.health)
        ensure: Callable[[Sequence[Scope]], Awaitable[None]] = (
            self.reconciler.ensure if parts.is_compared else _trust
        )
        self.admission = Admission(
            AdmissionParts(
                store=parts.store,
                ring=self.ring,
                ensure=ensure,
                settling=self.settling,
                leases=self.leases,
                health=self.health,
                rules=parts.rules,
                is_strict=parts.is_strict,
                tell=parts.tell,
            )
        )

    async def _settle_waiting(self) -> None:
        if len(self.settling):
            await self.settling.try_again()

    def _doubt(self) -> None:
        self.reconciler.doubt()


async def _trust(_: Sequence[Scope]) -> None:
    pass
