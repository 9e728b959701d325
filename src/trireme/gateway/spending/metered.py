"""Spending under budgets: the parts of this package, put together."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from trireme.budget.amounts import clamp
from trireme.budget.caps import EACH, Cap, CapStore, caps_of
from trireme.budget.ledger import Ledger, LedgerRow
from trireme.budget.port import BudgetStore, Refusal, SpendQueue
from trireme.budget.prices import Price, Tokens
from trireme.cost.port import GOOD
from trireme.errors import UnavailableError
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import GatewayFile, split_target
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.spending.admission import Admits, Cost
from trireme.gateway.spending.books import Books, BooksParts
from trireme.gateway.spending.bounds import Bounds
from trireme.gateway.spending.counting import NOTHING, Used, clip_count
from trireme.gateway.spending.home import Home, HomeStores
from trireme.gateway.spending.homes import HomedAdmission
from trireme.gateway.spending.meter import MeterParts, RequestMeter
from trireme.gateway.spending.price_book import PriceBook
from trireme.gateway.spending.reconcile import Difference, Scope
from trireme.gateway.spending.refusals import check_price, refusal_error
from trireme.gateway.spending.rows import new_attempt_id, open_row, with_used
from trireme.gateway.spending.spending import Answer, Spending
from trireme.observe import metrics as names
from trireme.observe import state_metrics
from trireme.providers.chat import Usage
from trireme.providers.meter import Meter
from trireme.providers.targets import Target

# Of what waits when the gateway ends.
DRAIN_SECONDS = 5.0
# What needs less of a model that makes no tokens.
FEWER = "fewer or shorter texts need less"


@dataclass(frozen=True, slots=True)
class SpendingParts:
    """What spending needs. store and queue are usually one object; the caller closes all stores, the first last.

    release: which the rows are of."""

    file: GatewayFile
    caps: CapStore
    ledger: Ledger
    store: BudgetStore
    queue: SpendQueue
    prices: PriceBook
    bounds: Bounds
    metrics: GatewayMetrics
    release: str = ""
    # Of the other regions that are some tenant's home.
    homes: Mapping[str, HomeStores] = field(default_factory=dict)
    # Is told of every attempt that ended.
    tell: Callable[[LedgerRow], None] = lambda _: None


class MeteredSpending(Spending):
    """See Spending."""

    def __init__(self, parts: SpendingParts) -> None:
        self._metrics = parts.metrics
        self._tell = parts.tell
        self._file = parts.file
        self._prices = parts.prices
        # Targets that cost by the hour, whose rate is measured.
        rows = parts.file.prices.items()
        self._by_hour = {":".join(split_target(name)) for name, row in rows if row.is_by_hour}
        books = Books(
            BooksParts(
                store=parts.store,
                queue=parts.queue,
                ledger=parts.ledger,
                caps=parts.caps,
                rules=parts.file.budgets,
                tell=self._count_spent,
                lose=self._count_lost,
                tell_round=self._count_round,
                capped=self._capped,
            )
        )
        self._health, self._ring, self._draining = books.health, books.ring, books.draining
        self._reconciler, self._settling, self._leases = books.reconciler, books.settling, books.leases
        self._homes = {name: self._open_home(name, stores) for name, stores in parts.homes.items()}
        self._admission: Admits = books.admission
        if self._homes:
            self._admission = HomedAdmission(books.admission, self._homes, parts.file.home_of)
        self._release = parts.release
        self._meters = MeterParts(
            parts.file, self._admission, parts.prices, parts.bounds, parts.metrics, parts.release
        )
        self._watch()

    async def start(self) -> None:
        """See Spending."""
        await self._ring.start()
        for home in self._homes.values():
            await home.start()
        self._settling.start()
        self._leases.start()
        self._draining.start()
        self._reconciler.start()

    async def close(self) -> None:
        """See Spending. What runs still is settled by its lease's end."""
        for home in self._homes.values():
            await home.close()
        await self._reconciler.close()
        await self._draining.close()
        await self._settling.close()
        with suppress(Exception):
            # Else the next gateway does it.
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._draining.drain()
        await self._leases.close()
        await self._ring.close()

    async def settle_all(self) -> None:
        """Settle what has ended, and bring all rows to the ledger. Raises UnavailableError."""
        await self._settling.wait()
        await self._settling.try_again()
        await self._draining.drain()

    async def reconcile(self) -> Difference:
        """Compare all counters with the ledger now, and make them good. Raises UnavailableError."""
        return await self._reconciler.compare_all()

    def meter(self, exchange: Exchange) -> Meter:
        """See Spending."""
        return RequestMeter(self._meters, exchange)

    def caps(self, tenant: str, user: str) -> tuple[Cap, ...]:
        """See Spending."""
        caps = self._ring.caps
        # A rule for each tenant is no budget of the gateway's.
        return caps_of(caps if tenant else [cap for cap in caps if not cap.tenant], tenant, user)

    def is_capped(self, exchange: Exchange) -> bool:
        """See Spending."""
        try:
            return bool(self._admission.caps(exchange.caller.tenant, exchange.caller.user))
        except UnavailableError:
            # Before any were read; the meter refuses then.
            return True

    async def pay(
        self,
        exchange: Exchange,
        tokens: int,
        act: Callable[[], Awaitable[Answer]],
        count: Callable[[Answer], int | None],
    ) -> Answer:
        """See Spending."""
        key, label = exchange.caller, exchange.served_by
        caps = self._admission.caps(key.tenant, key.user)
        price = self._price_of(label, reads_only=True)
        check_price(label, price, caps)
        cost = Cost(tokens, 0, price)
        row = self._open_row(exchange, label, price)
        held = await self._admission.hold(row, caps, cost)
        if isinstance(held, Refusal):
            self._metrics.add(names.REFUSED, held.level, held.window, held.unit)
            raise refusal_error(held, cost.tokens, cost.nanos, time.time(), FEWER)
        bound = Used(Tokens(input=tokens), 0, "bound")
        held.keep(lambda: bound)
        outcome, used = "client_gone", bound
        try:
            answer = await act()
            outcome = "ok"
            if (counted := count(answer)) is not None:
                used = Used(Tokens(input=counted), 0, "provider")
            return answer
        except Exception as error:
            # Our own models bill nobody for what they refuse or fail at.
            outcome, used = getattr(error, "code", "INTERNAL").lower(), NOTHING
            raise
        finally:
            held.end(outcome, used)

    def record_hit(self, exchange: Exchange, tier: str, usage: Usage | None, target: Target) -> None:
        """See Spending. It is charged `cache.hit_share` of its tokens and of its price; what else the answer would
        have cost stands in the row as saved."""
        said = usage or Usage()
        counts = (said.input_tokens, said.cached_tokens, said.cache_write_tokens, said.output_tokens)
        whole = Tokens(*(clip_count(count or 0) for count in counts))
        share = self._file.cache.hit_share
        price = self._price_of(target.label, reads_only=False)
        used = Used(_share_of(whole, share), 0, "cached")
        row = self._open_row(exchange, target.label, price)
        row = with_used(replace(row, at=int(time.time() * 1000), tier=tier, outcome="ok"), used, price)
        full = clamp(price.cost(whole)) if price is not None else 0
        charged = math.ceil(full * share)
        row = replace(row, nanos=charged, saved_nanos=full - charged)
        self._admission.settle(row)

    def faults(self) -> list[str]:
        """See Spending."""
        is_closed = self._file.budgets.without_store == "refuse"
        if self._health.is_away and self._ring.caps and is_closed:
            return ["the budget store does not answer"]
        return []

    def _open_row(self, exchange: Exchange, label: str, price: Price | None) -> LedgerRow:
        return open_row(exchange, new_attempt_id(), exchange.model, label, price, release=self._release)

    def _price_of(self, label: str, *, reads_only: bool) -> Price | None:
        provider, _, model = label.partition(":")
        kind = self._file.providers[provider].kind
        now = int(time.time() * 1000)
        return self._prices.price_of(kind, provider, model, now, reads_only=reads_only)

    def _doubt(self) -> None:
        self._reconciler.doubt()

    def _capped(self) -> Iterable[Scope]:
        """Tenants and users that are named in caps."""
        return [(cap.tenant, cap.user) for cap in self._ring.caps if EACH not in (cap.tenant, cap.user)]

    def _open_home(self, region: str, stores: HomeStores) -> Home:
        def note_away(is_away: bool) -> None:
            self._metrics.set(state_metrics.HOME_AWAY, float(is_away), region)

        return Home(
            region,
            stores,
            self._file.budgets,
            tell=self._count_spent,
            lose=self._count_lost,
            note_away=note_away,
            count=lambda way: self._metrics.add(state_metrics.WITHOUT_HOME, region, way),
        )

    def _watch(self) -> None:
        watch = self._metrics.watch
        watch(names.HOLDS, lambda: len(self._leases))
        watch(names.UNSETTLED, lambda: len(self._settling))
        watch(names.ROWS_WAITING, lambda: self._draining.seen)
        watch(names.STORE_AWAY, lambda: float(self._health.is_away))
        watch(names.CAPS_AGE, lambda: self._ring.age)
        self._difference = Difference()
        watch(names.DIFFERENCE_TOKENS, lambda: self._difference.tokens)
        watch(names.DIFFERENCE_NANOS, lambda: self._difference.nanos)

    def _count_lost(self, rows: int) -> None:
        self._metrics.add(names.ROWS_LOST, count=rows)

    def _count_round(self, difference: Difference) -> None:
        self._difference = difference
        self._metrics.add(names.RECONCILED)

    def _count_spent(self, row: LedgerRow) -> None:
        self._tell(row)
        self._metrics.add(names.SPENT_TOKENS, row.tenant, count=row.tokens)
        self._metrics.add(names.SPENT_NANOS, row.tenant, count=row.nanos)
        is_served = row.outcome in GOOD
        self._metrics.spend(row.tenant, row.asked, row.provider, row.nanos, is_served=is_served)
        target = self._prices.priced_as(row.served)
        if target in self._by_hour and row.counted_by == "provider" and row.outcome == "ok":
            now = time.monotonic()
            tokens = row.output_tokens or row.input_tokens
            self._prices.rates.note(target, tokens, now - row.total_ms / 1000, now)


def _share_of(tokens: Tokens, share: float) -> Tokens:
    """A part of each class, rounded up."""
    return Tokens(
        *(
            math.ceil(count * share)
            for count in (tokens.input, tokens.cached, tokens.cache_write, tokens.output)
        )
    )
