"""Counters against the ledger: rebuilt after a loss, compared each minute."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from trireme.budget.caps import Level
from trireme.budget.ledger import Ledger, SumQuery, UsageQuery
from trireme.budget.periods import window_end
from trireme.budget.port import Counter, Snapshot, SpendQueue
from trireme.errors import UnavailableError
from trireme.gateway.spending.draining import Draining
from trireme.gateway.spending.health import StoreHealth

_log = logging.getLogger(__name__)
EVERY_SECONDS = 60.0
# After a round that could not be made.
AGAIN_SECONDS = 1.0
# Somebody else may correct between a snapshot and its correction.
MOST_TRIES = 10
# Seconds of a day, and a month that is surely over.
DAY = 86_400
LONGEST_MONTH = 32 * DAY
# Tenant and user, each "" for none.
Scope = tuple[str, str]
GATEWAY: Scope = ("", "")


@dataclass(frozen=True, slots=True)
class Difference:
    """Tokens and nano-dollars by which counters and ledger differed, summed over scopes, days and months."""

    tokens: int = 0
    nanos: int = 0


async def _nothing() -> None:
    pass


class Reconciler:
    """For one event loop. A counter is relied upon only after it was compared with the ledger in the store's
    present epoch: a store that lost all it had starts a new one, and would admit what is spent already."""

    def __init__(
        self,
        queue: SpendQueue,
        ledger: Ledger,
        draining: Draining,
        health: StoreHealth,
        *,
        settle: Callable[[], Awaitable[None]] = _nothing,
        capped: Callable[[], Iterable[Scope]] = tuple,
        tell: Callable[[Difference], None] = lambda _: None,
    ) -> None:
        """settle: sends the store what waits for it, whose rows the ledger may have: else both would count it.
        capped: scopes that have caps. tell: is told the difference that each round found, before it is made
        good."""
        self._queue = queue
        self._ledger = ledger
        self._draining = draining
        self._health = health
        self._settle = settle
        self._capped = capped
        self._tell = tell
        self._epoch = ""
        self._is_doubtful = True
        self._sure: set[Scope] = set()
        self._lock = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()

    def start(self) -> None:
        """Compare now, each minute, and when the store has lost its counters."""
        self._keeper = asyncio.create_task(self._keep_comparing())

    async def close(self) -> None:
        """Stop."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])

    def doubt(self) -> None:
        """The store was away: it may have come back empty."""
        self._is_doubtful = True

    def forget(self) -> None:
        """Rows have come to the ledger that the counters do not know: rely on none before it is compared again."""
        self._sure.clear()

    def compare_soon(self) -> None:
        """Begin a round now, in the background."""
        self._wake.set()

    async def ensure(self, scopes: Sequence[Scope]) -> None:
        """Return once the counters of `scopes` are what the ledger says. Raises UnavailableError."""
        if not self._is_doubtful and self._sure.issuperset(scopes):
            return
        async with self._lock:
            await self._look()
        # At once: each waits for several answers, of another region's stores maybe.
        await asyncio.gather(*(self._compare(scope) for scope in scopes if scope not in self._sure))

    async def compare_all(self) -> Difference:
        """One round over the gateway, and all tenants and users with caps or rows of this month.

        Raises UnavailableError.
        """
        async with self._lock:
            await self._look()
        total = Difference()
        for scope in await self._scopes():
            found = await self._compare(scope)
            total = Difference(total.tokens + found.tokens, total.nanos + found.nanos)
        self._tell(total)
        return total

    async def _look(self) -> None:
        """Learn whether the store is still the one whose counters we know."""
        self._is_doubtful = False
        try:
            epoch = (await self._queue.snapshot(*GATEWAY)).epoch
        except BaseException as error:
            self._is_doubtful = True
            if isinstance(error, UnavailableError):
                self._health.note_away()
            raise
        self._health.note_answer()
        if epoch != self._epoch:
            if self._epoch:
                self._wake.set()
            self._epoch = epoch
            self._sure.clear()

    async def _scopes(self) -> list[Scope]:
        now = datetime.now(UTC)
        start = int(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)
        end = start + LONGEST_MONTH * 1000
        tenants = await asyncio.to_thread(self._ledger.usage, UsageQuery(start, end, "tenant"))
        names = [row.name for row in tenants]
        scopes: list[Scope] = [GATEWAY, *((name, "") for name in names)]
        for name in names:
            query = UsageQuery(start, end, "user", name)
            users = await asyncio.to_thread(self._ledger.usage, query)
            scopes += [(name, row.name) for row in users if row.name]
        return list(dict.fromkeys([*scopes, *self._capped(), *self._sure]))

    async def _compare(self, scope: Scope) -> Difference:
        """Make good the difference of one scope's days and months; returns it. Raises UnavailableError."""
        first: Difference | None = None
        for _ in range(MOST_TRIES):
            await self._settle()
            snapshot = await self._queue.snapshot(*scope)
            # Lost since we looked: what we are sure of was another store's.
            self._is_doubtful = self._is_doubtful or snapshot.epoch != self._epoch
            # What the counters count must be in the ledger before it is summed.
            await self._draining.drain(snapshot)
            wrong = await self._differences(scope, snapshot)
            found = _total(wrong)
            first = first or found
            right = [of_ledger for _, of_ledger in wrong]
            if not right or await self._queue.correct(snapshot, *scope, right):
                if snapshot.epoch == self._epoch:
                    self._sure.add(scope)
                if right:
                    _log.warning("counters of a budget differed from the ledger by %d tokens", first.tokens)
                return first
        raise UnavailableError("the counters of a budget change too fast to be compared; try again")

    async def _differences(self, scope: Scope, snapshot: Snapshot) -> list[tuple[Counter, Counter]]:
        """Counters of days and months that the ledger has otherwise, each with the ledger's."""
        level = level_of(scope)
        # Rows of a minute are on their way while it lasts.
        counters = [one for one in snapshot.counters if one.level == level and one.window != "minute"]
        summed = await asyncio.gather(*(self._sum(scope, one, snapshot) for one in counters))
        return [(one, of_ledger) for one, of_ledger in zip(counters, summed, strict=True) if of_ledger != one]

    async def _sum(self, scope: Scope, counter: Counter, snapshot: Snapshot) -> Counter:
        """The counter as the ledger has it."""
        end = window_end(counter.window, counter.start)
        query = SumQuery(*scope, counter.start, end, snapshot.epoch, snapshot.seq)
        summed = await asyncio.to_thread(self._ledger.sum, query)
        return replace(counter, spent_tokens=summed.tokens, spent_nanos=summed.nanos)

    async def _keep_comparing(self) -> None:
        while True:
            # Whoever asks for a round while one runs may mean what that has passed already.
            self._wake.clear()
            try:
                await self.compare_all()
            except UnavailableError:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            except Exception as error:
                _log.error("comparing budgets with the ledger failed: %s", type(error).__name__)
            # asyncio.wait_for of Python 3.11 may swallow a cancel that comes with the event.
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._wake.wait()


def _total(wrong: Sequence[tuple[Counter, Counter]]) -> Difference:
    return Difference(
        sum(abs(one.spent_tokens - other.spent_tokens) for one, other in wrong),
        sum(abs(one.spent_nanos - other.spent_nanos) for one, other in wrong),
    )


def level_of(scope: Scope) -> Level:
    """Whose counters a scope adds to those of the wider ones."""
    tenant, user = scope
    if not tenant:
        return "gateway"
    return "user" if user else "tenant"
