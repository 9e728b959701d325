"""The controller's own page of metrics: the rows of observe/region_metrics.py."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from trireme.observe import metrics as names
from trireme.regions.loading import Loading
from trireme.regions.probe import OUTCOMES
from trireme.regions.state import RegionState


class RegionMetrics:
    """Writes a page of what is known now. Threads may share it."""

    def __init__(self, state: RegionState, loading: Loading) -> None:
        from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
        from prometheus_client import Counter as Counted

        self._state, self._loading = state, loading
        self._registry = CollectorRegistry()
        # Memory and processor seconds of this process.
        ProcessCollector(registry=self._registry)
        kinds: dict[str, Any] = {"counter": Counted, "gauge": Gauge}
        self._made = {
            row.name: kinds[row.kind](row.name, row.help, row.labels, registry=self._registry)
            for row in names.REGIONS
        }
        self._counted: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        for region in state.regions:
            for outcome in OUTCOMES:
                self._made[names.REGION_PROBES.name].labels(region.name, outcome)

    def page(self) -> bytes:
        """The page, in Prometheus's text format."""
        from prometheus_client import generate_latest

        state = self._state
        with self._lock:
            for one in state.standings():
                trip = self._made[names.REGION_ROUND_TRIP.name]
                if one.round_trip is None:
                    trip.remove(one.region)
                else:
                    trip.labels(one.region).set(one.round_trip)
                self._made[names.REGION_RANK.name].labels(one.region).set(one.rank)
                self._made[names.REGION_ANSWERS.name].labels(one.region).set(float(one.answers))
                self._made[names.REGION_ADDRESSES.name].labels(one.region).set(len(one.addresses))
            for (region, outcome), count in list(state.probes.items()):
                self._count(names.REGION_PROBES, count, region, outcome)
            self._count(names.REGION_ORDER_CHANGES, state.changes)
            self._count(names.REGION_FILES_WRITTEN, state.written)
            self._show(names.REGION_NEAR_LOAD, self._loading.near.known)
            self._show(names.REGION_FAR_LOAD, self._loading.far_loads())
            self._show(names.REGION_SPILL, self._loading.shares)
            self._made[names.REGION_FILES_FAULTY.name].set(float(bool(state.fault)))
            return generate_latest(self._registry)

    def _show(self, row: names.Metric, values: Mapping[str, float]) -> None:
        """Those of each entry; what is not known is gone."""
        self._made[row.name].clear()
        for entry, value in values.items():
            self._made[row.name].labels(entry).set(value)

    def _count(self, row: names.Metric, count: int, *labels: str) -> None:
        key = (row.name, *labels)
        made = self._made[row.name]
        (made.labels(*labels) if labels else made).inc(count - self._counted[key])
        self._counted[key] = count
