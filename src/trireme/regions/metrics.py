"""The controller's own page of metrics: the rows of observe/region_metrics.py."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.registry import MetricPage
from trireme.regions.loading import Loading
from trireme.regions.probe import OUTCOMES
from trireme.regions.state import RegionState


class RegionMetrics:
    """Writes a page of what is known now. Threads may share it."""

    def __init__(self, state: RegionState, loading: Loading, build: Build | None = None) -> None:
        self._state, self._loading = state, loading
        self._page = MetricPage("regions", names.REGIONS, build or Build())
        self._counted: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()
        for region in state.regions:
            for outcome in OUTCOMES:
                self._page.of(names.REGION_PROBES, region.name, outcome)

    def page(self) -> bytes:
        """The page, in Prometheus's text format."""
        state = self._state
        with self._lock:
            for one in state.standings():
                trip = self._page.family(names.REGION_ROUND_TRIP)
                if one.round_trip is None:
                    trip.remove(one.region)
                else:
                    trip.labels(one.region).set(one.round_trip)
                self._page.of(names.REGION_RANK, one.region).set(one.rank)
                self._page.of(names.REGION_ANSWERS, one.region).set(float(one.answers))
                self._page.of(names.REGION_ADDRESSES, one.region).set(len(one.addresses))
            for (region, outcome), count in list(state.probes.items()):
                self._count(names.REGION_PROBES, count, region, outcome)
            self._count(names.REGION_ORDER_CHANGES, state.changes)
            self._count(names.REGION_FILES_WRITTEN, state.written)
            self._show(names.REGION_NEAR_LOAD, self._loading.near.known)
            self._show(names.REGION_FAR_LOAD, self._loading.far_loads())
            self._show(names.REGION_SPILL, self._loading.shares)
            self._page.of(names.REGION_FILES_FAULTY).set(float(bool(state.fault)))
            return self._page.render()

    def _show(self, row: names.Metric, values: Mapping[str, float]) -> None:
        """Those of each entry; what is not known is gone."""
        self._page.family(row).clear()
        for entry, value in values.items():
            self._page.of(row, entry).set(value)

    def _count(self, row: names.Metric, count: int, *labels: str) -> None:
        key = (row.name, *labels)
        self._page.of(row, *labels).inc(count - self._counted[key])
        self._counted[key] = count
