"""One way into the budgets: every attempt, of whatever kind, is held or refused here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from trireme.budget.caps import MOST, Cap, Level
from trireme.budget.ledger import LedgerRow, encode_row
from trireme.budget.port import BudgetStore, Claim, Hold, Progress, Refusal
from trireme.budget.prices import Price
from trireme.errors import UnavailableError
from trireme.gateway.budget_rows import BudgetRow
from trireme.gateway.spending.cap_ring import CapRing
from trireme.gateway.spending.counting import Used
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.leases import Leases
from trireme.gateway.spending.reconcile import GATEWAY, Scope
from trireme.gateway.spending.rows import with_used
from trireme.gateway.spending.settling import Settling


@dataclass(frozen=True, slots=True)
class Cost:
    """Tokens of an attempt, at most. price: None where none is known; then nanos is 0."""

    input: int
    output: int
    price: Price | None

    @property
    def tokens(self) -> int:
        """Input and output. A client may name any max_tokens; counters end at MOST."""
        return min(self.input + self.output, MOST)

    @property
    def nanos(self) -> int:
        """At the dearest price that can apply."""
        return min(self.price.worst(self.input, self.output), MOST) if self.price is not None else 0


@dataclass(frozen=True, slots=True)
class AdmissionParts:
    """ensure: returns once the counters of the scopes may be relied upon; raises UnavailableError. is_strict: who
    cannot be held for is refused, also where no cap holds. tell: is told of every attempt that ended."""

    store: BudgetStore
    ring: CapRing
    ensure: Callable[[Sequence[Scope]], Awaitable[None]]
    settling: Settling
    leases: Leases
    health: StoreHealth
    rules: BudgetRow
    is_strict: bool = False
    tell: Callable[[LedgerRow], None] = lambda _: None


class Admits(Protocol):
    """What attempts are held by: one store's Admission, or those of several regions."""

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """Those in force. Raises UnavailableError before any were read."""
        ...

    async def hold(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Admitted | Refusal:
        """See Admission.hold."""
        ...

    def settle(self, row: LedgerRow) -> asyncio.Task[Any] | None:
        """See Admission.settle."""
        ...


class Admission:
    """Reserves, keeps and settles. For one event loop."""

    def __init__(self, parts: AdmissionParts) -> None:
        self._parts = parts

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """Those in force. Raises UnavailableError before any were read."""
        return self._parts.ring.find(tenant, user)

    async def hold(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Admitted | Refusal:
        """Reserve `cost` for the attempt of `row`. A refusal changed nothing.

        Raises UnavailableError where caps hold, the store is away, and the file's rules refuse then. Cancelling it
        gives back what it may have reserved.
        """
        at = int(time.time() * 1000)
        row = replace(row, at=at, held_tokens=cost.tokens, held_nanos=cost.nanos)
        is_open = not self._parts.is_strict and (not caps or self._parts.rules.without_store == "open")
        try:
            if caps:
                await self._parts.ensure(scopes_of(caps, row.tenant, row.user))
        except UnavailableError:
            if is_open:
                return Admitted(self, row, cost)
            raise _not_now() from None
        try:
            held = await self._reserve(row, caps, cost)
        except UnavailableError:
            if is_open:
                # Its settlement ends what may have been reserved all the same.
                return Admitted(self, row, cost)
            self._parts.settling.refund(_refunded(row))
            raise _not_now() from None
        if isinstance(held, Refusal):
            return held
        return Admitted(self, replace(row, at=held.at), cost)

    async def _reserve(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Hold | Refusal:
        reserving = asyncio.ensure_future(self._parts.store.reserve(self._claim(row, caps, cost)))
        try:
            # Who goes away must not leave a hold behind.
            held = await asyncio.shield(reserving)
        except asyncio.CancelledError:
            self._parts.settling.refund_after(reserving, _refunded(row))
            raise
        except UnavailableError:
            self._parts.health.note_away()
            raise
        self._parts.health.note_answer()
        return held

    def _claim(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Claim:
        spent = replace(row, input_tokens=cost.input, outcome="expired", counted_by="expired")
        nanos = cost.price.worst(cost.input, 0) if cost.price is not None else 0
        spent = replace(spent, nanos=nanos)
        return Claim(
            id=row.attempt,
            tenant=row.tenant,
            user=row.user,
            caps=caps,
            tokens=cost.tokens,
            nanos=cost.nanos,
            spent_tokens=spent.tokens,
            spent_nanos=nanos,
            lease_seconds=self._parts.rules.lease_seconds,
            row=encode_row(spent),
        )

    def keep(self, row: LedgerRow, progress: Callable[[], Progress]) -> None:
        """Extend its lease from now on."""
        self._parts.leases.add(row.attempt, progress)

    def settle(self, row: LedgerRow) -> asyncio.Task[Any] | None:
        """It has ended, and the row says how. Does not block; see Settling.settle."""
        self._parts.leases.remove(row.attempt)
        self._parts.tell(row)
        return self._parts.settling.settle(row)


class Admitted:
    """An attempt that may run. `end` it exactly once; a second end changes nothing."""

    def __init__(self, admission: Admission, row: LedgerRow, cost: Cost) -> None:
        self._admission = admission
        self._row = row
        self._cost = cost
        self._has_ended = False
        self._began = time.monotonic()
        self._first_ms = -1
        self._settling: asyncio.Task[Any] | None = None

    def keep(self, so_far: Callable[[], Used]) -> None:
        """Extend its lease while it runs, with what it has used."""
        self._admission.keep(self._row, lambda: self._progress(so_far()))

    def note_content(self) -> None:
        """The first content is there."""
        if self._first_ms < 0:
            self._first_ms = self._milliseconds()

    def end(self, outcome: str, used: Used) -> int | None:
        """What became of it, and what it is charged: nano-dollars, None where no price is known."""
        row = with_used(self._row, used, self._cost.price)
        cost = row.nanos if self._cost.price is not None else None
        if self._has_ended:
            return cost
        self._has_ended = True
        self._settling = self._admission.settle(
            replace(row, outcome=outcome, first_ms=self._first_ms, total_ms=self._milliseconds())
        )
        return cost

    async def settled(self) -> None:
        """Return when the store has its bill, or does not answer. After `end`."""
        if self._settling is not None:
            await asyncio.shield(self._settling)

    def _progress(self, used: Used) -> Progress:
        row = with_used(self._row, used, self._cost.price)
        return Progress(row.attempt, row.tokens, row.nanos)

    def _milliseconds(self) -> int:
        return int((time.monotonic() - self._began) * 1000)


def _not_now() -> UnavailableError:
    return UnavailableError("a budget holds for this request, and its counters cannot be read now; try again")


def _refunded(row: LedgerRow) -> LedgerRow:
    """Of an attempt that never ran."""
    return replace(row, outcome="unheld", counted_by="counted")


def scopes_of(caps: tuple[Cap, ...], tenant: str, user: str) -> list[Scope]:
    """Those whose counters decide."""
    scopes: dict[Level, Scope] = {"gateway": GATEWAY, "tenant": (tenant, ""), "user": (tenant, user)}
    return list(dict.fromkeys(scopes[cap.level] for cap in caps if cap.window != "minute"))
