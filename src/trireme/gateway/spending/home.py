"""Budgets whose home is another region: held and settled there, and what stands in while it does not answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from trireme.budget.caps import Cap, CapStore
from trireme.budget.ledger import Ledger, LedgerRow
from trireme.budget.port import BudgetStore, Refusal, SpendQueue
from trireme.errors import UnavailableError
from trireme.gateway.budget_rows import BudgetRow
from trireme.gateway.spending.admission import Admitted, Cost, scopes_of
from trireme.gateway.spending.books import Books, BooksParts
from trireme.gateway.spending.reconcile import GATEWAY, Scope
from trireme.gateway.spending.rows import new_attempt_id

_log = logging.getLogger(__name__)
# Between two looks at the home, so that few requests find out by themselves that it does not answer.
LOOK_SECONDS = 1.0


class Store(BudgetStore, SpendQueue, Protocol):
    """Both ports of a budget store, which one object serves."""


@dataclass(frozen=True, slots=True)
class HomeStores:
    """Of one other region. caps, ledger: its database's, which the caller closes. open_store: its budget store.

    open_stand_in: this region's own budget store, with a space apart for that home: holds of attempts that it does
    not know of, and their rows until its ledger has them. Both are called once, in the event loop.
    """

    caps: CapStore
    ledger: Ledger
    open_store: Callable[[], Store]
    open_stand_in: Callable[[], Store]


class Home:
    """Admits for the tenants of one other region. For one event loop; `start` before use, `close` after it.

    While the home answers, an attempt costs one round trip to it before its call and one after it, for which nobody
    waits. While it does not, `rules.without_home` decides. The way back is taken in the background: first the rows
    that were kept here go to its ledger, then its counters are compared with that, then it holds again.
    """

    def __init__(
        self,
        region: str,
        stores: HomeStores,
        rules: BudgetRow,
        *,
        tell: Callable[[LedgerRow], None] = lambda _: None,
        lose: Callable[[int], None] = lambda _: None,
        note_away: Callable[[bool], None] = lambda _: None,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """note_away: is told whether the home is away. count: of each attempt without it, what was done."""
        self._region = region
        self._rules = rules
        self._note = note_away
        self._count = count
        self._store, self._kept = stores.open_store(), stores.open_stand_in()
        far = BooksParts(
            store=self._store,
            queue=self._store,
            ledger=stores.ledger,
            caps=stores.caps,
            rules=rules,
            is_strict=True,
            tell=tell,
            lose=lose,
        )
        # Its counters are of what the home's ledger does not have yet: there is nothing to compare them with.
        is_strict = rules.without_home != "open"
        near = replace(far, store=self._kept, queue=self._kept, is_strict=is_strict, is_compared=False)
        self._far, self._near = Books(far), Books(near)
        # Whose counters are compared at the next look; at the first one nobody waits for new connections then.
        self._used: set[Scope] = {GATEWAY}
        self._keeper: asyncio.Task[None] | None = None
        self.is_away = False

    async def start(self) -> None:
        """Read its caps, and look at it from now on. A home that is away is waited for in the background."""
        await self._far.ring.start()
        for books in (self._far, self._near):
            books.settling.start()
            books.leases.start()
        self._note(False)
        self._keeper = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Settle what has ended and bring its rows home, in a few seconds; what cannot be waits where it is."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        for books in (self._far, self._near):
            await books.settling.close()
            await books.leases.close()
        with suppress(Exception):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bring_rows()
        await self._far.ring.close()
        await self._store.close()
        await self._kept.close()

    @property
    def rows_waiting(self) -> int:
        """Rows kept here for the home's ledger, 500 at most, when we looked last."""
        return self._near.draining.seen

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """See Admits. Those that were read last stay in force while the home is away."""
        try:
            return self._far.ring.find(tenant, user)
        except UnavailableError:
            if self._rules.without_home == "open":
                return ()
            # Without caps there is nothing of which a share could be.
            raise self._not_now() from None

    async def hold(self, row: LedgerRow, caps: tuple[Cap, ...], cost: Cost) -> Admitted | Refusal:
        """See Admits."""
        if not self.is_away:
            try:
                return await self._far.admission.hold(row, caps, cost)
            except UnavailableError:
                self._go()
        way = self._rules.without_home
        self._count(way)
        if way == "closed":
            raise self._not_now()
        # A name of its own: what the home may hold under the first one is given back under it.
        row = replace(row, attempt=new_attempt_id())
        self._used.update(scopes_of(caps, row.tenant, row.user))
        shares = () if way == "open" else tuple(share_of(cap, self._rules.share) for cap in caps)
        return await self._near.admission.hold(row, shares, cost)

    def settle(self, row: LedgerRow) -> asyncio.Task[Any] | None:
        """See Admits. Of what was never held; an attempt that was held ends where it was."""
        return (self._near if self.is_away else self._far).admission.settle(row)

    def _go(self) -> None:
        if not self.is_away:
            self.is_away = True
            self._note(True)
            _log.warning("the budgets of region %s do not answer; %s", self._region, self._rules.without_home)

    async def _look(self) -> None:
        """Raises UnavailableError where the home does not answer."""
        with suppress(UnavailableError):
            # Of gateways of this region that died: nobody else looks here.
            await self._kept.expire()
        await self._store.snapshot(*GATEWAY)
        try:
            await self._compare()
        except UnavailableError:
            # A home that holds may go on without its database.
            if self.is_away:
                raise
        if not self.is_away:
            return
        self.is_away = False
        self._note(False)
        _log.warning("the budgets of region %s answer again", self._region)

    async def _compare(self) -> None:
        """Bring what was kept here to the home's ledger, and its counters to what that says. Raises
        UnavailableError."""
        reconciler = self._far.reconciler
        if await self._bring_rows():
            # They are in no counter of the home.
            reconciler.forget()
        if self.is_away:
            reconciler.doubt()
        used, self._used = self._used, set()
        try:
            await reconciler.ensure(sorted(used))
        except BaseException:
            self._used |= used
            raise

    async def _bring_rows(self) -> bool:
        """Whether rows that were kept here have gone to the home's ledger. Raises UnavailableError."""
        try:
            has_rows = bool(await self._kept.peek(1))
        except UnavailableError:
            # Of this region's own store: they wait there.
            return False
        if has_rows:
            await self._near.draining.drain()
        return has_rows

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._look()
            except UnavailableError:
                self._go()
            except Exception as error:
                _log.error("looking at region %s failed: %s", self._region, type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    def _not_now(self) -> UnavailableError:
        return UnavailableError(
            f"the budgets of this tenant are kept in region {self._region}, which does not answer now; try again,"
            " or let budgets.without_home in gateway.toml name what else is done"
        )


def share_of(cap: Cap, share: float) -> Cap:
    """The cap of a part of what it gives, rounded down; a unit without a limit stays without."""
    tokens, nanos = (None if amount is None else int(amount * share) for amount in (cap.tokens, cap.nanos))
    return replace(cap, tokens=tokens, nanos=nanos)
