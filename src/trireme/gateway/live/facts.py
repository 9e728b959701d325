"""What is so now, beside what was counted: models, machines, budgets, and whether the stores answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trireme.access.keys import Key
from trireme.budget.caps import Level
from trireme.budget.dollars import write_dollars
from trireme.budget.forecast import forecast
from trireme.budget.ledger import Ledger, SumQuery
from trireme.budget.periods import DAY
from trireme.budget.port import BudgetStore, Counter
from trireme.gateway.chains import Chains
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.file import GatewayFile
from trireme.gateway.key_ring import DATABASE_SECONDS, KeyRing
from trireme.gateway.ledger_reads import LedgerReads, new_sums
from trireme.gateway.live.glance import Glance
from trireme.gateway.live.scopes import Scope
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.ports import ServedModels
from trireme.gateway.spending.spending import Spending
from trireme.gateway.wire.budgets import forecast_body
from trireme.providers.backlogs import BacklogReader
from trireme.providers.models import ServedModel
from trireme.providers.replicas import Replica, ReplicaReader

COUNTER_SECONDS = 2.0
LEDGER_SECONDS = 30.0
BACKLOG_SECONDS = 2.0
REPLICA_SECONDS = 5.0
# Models that are named with their backlog, the longest first.
MOST_BACKLOGS = 50
# Of a budget, where its counter is not known.
_AHEAD = ("unit", "used", "at_end", "exhausted_at", "ends_at")
OK = "ok"
NO_DATABASE = "the database does not answer"
NO_STORE = "the budget store does not answer"


@dataclass(frozen=True, slots=True)
class FactParts:
    """Who knows. budgets: None without a store of them; the ledger says then what was spent. sums: turns at it."""

    file: GatewayFile
    keys: KeyRing
    chains: Chains
    served: ServedModels
    degrade: Degrade
    spending: Spending
    budgets: BudgetStore | None
    ledger: Ledger
    metrics: GatewayMetrics
    backlogs: BacklogReader | None = None
    replicas: ReplicaReader | None = None
    sums: LedgerReads = field(default_factory=new_sums)


class Spent:
    """What one scope spends: its counters in the budget store, or today's sum of the ledger."""

    def __init__(self, parts: FactParts, key: Key, tenant: str, user: str) -> None:
        """key: in whose turn the ledger is asked."""
        self._parts, self._key, self._tenant, self._user = parts, key, tenant, user
        self.level: Level = "user" if user else "tenant" if tenant else "gateway"
        self.counters = Glance(self._read_counters, COUNTER_SECONDS)
        self.today = Glance(self._read_today, LEDGER_SECONDS)

    def body(self) -> dict[str, Any]:
        """Tokens and dollars of today (UTC), and each budget of the scope; null where nobody knows."""
        # Another region keeps the books of a tenant whose home it is.
        if self._parts.file.home_of(self._tenant):
            return {"tokens": None, "dollars": None, "budgets": None}
        counters = self.counters.look() if self._parts.budgets is not None else None
        tokens = dollars = None
        if counters is not None and (day := counters.get("day")) is not None:
            tokens, dollars = day.spent_tokens, write_dollars(day.spent_nanos)
        elif self._is_store_away and (sums := self.today.look()) is not None:
            tokens, dollars = sums[0], write_dollars(sums[1])
        return {"tokens": tokens, "dollars": dollars, "budgets": self._budgets(counters or {})}

    @property
    def store(self) -> str | None:
        """Whether the budget store answers; None without one, or before it was asked."""
        if self._parts.budgets is None:
            return None
        if self.counters.fault:
            return NO_STORE
        return OK if self.counters.look() is not None else None

    @property
    def _is_store_away(self) -> bool:
        """Also where there is none. One that was not asked yet is not: a sum of a day takes seconds."""
        return self._parts.budgets is None or bool(self.counters.fault)

    async def close(self) -> None:
        """Stop reading."""
        await self.counters.close()
        await self.today.close()

    def _budgets(self, counters: Mapping[str, Counter]) -> list[dict[str, Any]]:
        now = int(time.time() * 1000)
        bodies = []
        for cap in self._parts.spending.caps(self._tenant, self._user):
            if cap.level != self.level:
                continue
            one = counters.get(cap.window)
            body = {
                "window": cap.window,
                "level": cap.level,
                "tokens": one and one.spent_tokens,
                "limit_tokens": cap.tokens,
                "dollars": one and write_dollars(one.spent_nanos),
                "limit_dollars": None if cap.nanos is None else write_dollars(cap.nanos),
            }
            ahead = dict.fromkeys(_AHEAD) if one is None else forecast_body(forecast(cap, one, now))
            bodies.append(body | ahead)
        return bodies

    async def _read_counters(self) -> dict[str, Counter]:
        store = self._parts.budgets
        found = await store.read(self._tenant, self._user) if store is not None else []
        return {one.window: one for one in found if one.level == self.level}

    async def _read_today(self) -> tuple[int, int]:
        start = int(time.time() * 1000) // DAY * DAY
        query = SumQuery(self._tenant, self._user, start, start + DAY, "", 0)
        found = await self._parts.sums.read(self._key, self._parts.ledger.sum, query)
        return found.tokens, found.nanos


class Facts:
    """For one event loop. Nobody waits for what it tells: it is as of a few seconds ago."""

    def __init__(self, parts: FactParts) -> None:
        self._parts = parts
        self._backlogs = Glance(self._read_backlogs, BACKLOG_SECONDS)
        self._replicas = Glance(self._read_replicas, REPLICA_SECONDS)

    def new_spent(self, scope: Scope) -> Spent:
        """What a scope spends; the caller closes it."""
        return Spent(self._parts, scope.key, scope.tenant, scope.user)

    async def close(self) -> None:
        """Stop reading, and close the readers."""
        await self._backlogs.close()
        await self._replicas.close()
        if self._parts.backlogs is not None:
            await self._parts.backlogs.close()

    @property
    def running(self) -> int:
        """Requests that have no end yet."""
        return self._parts.metrics.running

    @property
    def database(self) -> str:
        """ "ok", or that it does not answer."""
        return NO_DATABASE if self._parts.keys.age > DATABASE_SECONDS else OK

    def backlog(self) -> dict[str, float] | None:
        """Seconds of work that wait in front of each model, and in the line of each route with a policy."""
        found = dict(self._backlogs.look() or {}) if self._parts.backlogs is not None else {}
        is_known = self._parts.backlogs is not None and self._backlogs.look() is not None
        for name, seconds, _ in self._parts.degrade.standing():
            found[name], is_known = max(seconds, found.get(name, 0.0)), True
        if not is_known:
            return None
        longest = sorted(found.items(), key=lambda one: -one[1])[:MOST_BACKLOGS]
        return {name: round(seconds, 3) for name, seconds in longest}

    def waiting(self) -> int:
        """Calls in the gateway's own lines."""
        return sum(waiting for _, _, waiting in self._parts.degrade.standing())

    def models(self, scope: Scope) -> list[dict[str, Any]] | None:
        """Of our own Triton, those that the scope's key may use; None before it ever answered."""
        known = self._parts.served.known
        if known is None:
            return None
        return [
            _model_body(known[name]) for name in self._parts.chains.names(scope.key, known) if name in known
        ]

    def replicas(self) -> list[dict[str, Any]] | None:
        """Each server of our Triton, by its address."""
        found = self._replicas.look() if self._parts.replicas is not None else None
        return None if found is None else [{"name": one.name, "is_ready": one.is_ready} for one in found]

    def regions(self) -> list[dict[str, Any]] | None:
        """This one and those to which Envoy may send calls; whether those are ready nobody here knows."""
        local = self._parts.file.local
        if not local.region:
            return None
        known = self._parts.served.known
        is_ready = None if known is None else any(one.is_ready and not one.is_far for one in known.values())
        others = [{"name": name, "is_own": False, "is_ready": None} for name in local.other_regions]
        return [{"name": local.region, "is_own": True, "is_ready": is_ready}, *others]

    async def _read_backlogs(self) -> Mapping[str, float]:
        reader = self._parts.backlogs
        return await reader.read() if reader is not None else {}

    async def _read_replicas(self) -> list[Replica]:
        reader = self._parts.replicas
        return await reader.read() if reader is not None else []


def _model_body(model: ServedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "ability": model.ability,
        "is_ready": model.is_ready,
        "is_far": model.is_far,
    }
