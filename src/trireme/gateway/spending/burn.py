"""Watches how fast budgets burn down: the metrics that alerts are made of."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from trireme.budget.caps import EACH, Cap, CapStore
from trireme.budget.forecast import forecast
from trireme.budget.port import BudgetStore
from trireme.budget.standing import Place, place_of, read_counters
from trireme.errors import TriremeError
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names

_log = logging.getLogger(__name__)
EVERY_SECONDS = 15.0
# Budgets that have series of their own, the fullest first; all others are one, the fullest of them.
MOST_BUDGETS = 200


class BudgetWatch:
    """Reads the counters of the gateway's budgets and of those of named tenants. For one event loop."""

    def __init__(
        self,
        caps: CapStore,
        store: BudgetStore,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._caps = caps
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self) -> None:
        """Make the gauges anew. Raises UnavailableError, and leaves none: what is not known must not look well."""
        try:
            caps = [cap for cap in await asyncio.to_thread(self._caps.find) if _is_watched(cap)]
            counters = await read_counters(self._store, caps)
        except TriremeError:
            self._set({}, {})
            raise
        now = int(self._clock() * 1000)
        used: dict[Place, float] = {}
        left: dict[Place, float] = {}
        for cap in caps:
            place = place_of(cap)
            if place not in counters:
                continue
            found = forecast(cap, counters[place], now)
            used[place] = float(found.used)
            if found.exhausted_at is not None:
                left[place] = max(0.0, (found.exhausted_at - now) / 1000)
        self._set(used, left)

    def _set(self, used: dict[Place, float], left: dict[Place, float]) -> None:
        fullest = sorted(used, key=lambda place: -used[place])
        own = set(fullest[:MOST_BUDGETS])
        series: tuple[dict[tuple[str, ...], float], ...] = ({}, {})
        for place in fullest:
            tenant, _, window = place
            level = "tenant" if tenant else "gateway"
            labels = (level, tenant if place in own else names.OTHER, window)
            series[0][labels] = max(used[place], series[0].get(labels, 0.0))
            if place in left:
                series[1][labels] = min(left[place], series[1].get(labels, float("inf")))
        self._metrics.replace(names.BUDGET_USED, series[0])
        self._metrics.replace(names.BUDGET_LEFT_SECONDS, series[1])

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look()
            except TriremeError:
                # Of caps or counters: they are asked again.
                pass
            except Exception as error:
                _log.error("budgets cannot be watched: %s", type(error).__name__)
            await asyncio.sleep(EVERY_SECONDS)


def _is_watched(cap: Cap) -> bool:
    """Users are too many, a minute is over before anybody hears of it, and EACH names nobody."""
    return not cap.user and cap.tenant != EACH and cap.window != "minute"
