"""A process's own page of metrics, with prometheus_client: one metric for each row of its exporter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trireme.observe.build_info import Build
from trireme.observe.metric import Metric
from trireme.observe.process_metrics import BUILD_INFO, OF_PROCESS

_OF_PROCESS = frozenset(row.name for row in OF_PROCESS)


class MetricPage:
    """The metrics of `rows`, and what every process says of itself. Not more: what is on a page is in the table."""

    def __init__(self, process: str, rows: Iterable[Metric], build: Build) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

        self.registry = CollectorRegistry()
        # Of OF_PROCESS all but the build.
        ProcessCollector(registry=self.registry)
        kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._made: dict[str, Any] = {}
        for row in (*(row for row in rows if row.name not in _OF_PROCESS), BUILD_INFO):
            more = {"buckets": row.buckets} if row.buckets else {}
            self._made[row.name] = kinds[row.kind](
                row.name, row.help, row.labels, registry=self.registry, **more
            )
        self.of(BUILD_INFO, process, "", build.version, build.revision, build.release).set(1.0)

    def of(self, metric: Metric, *labels: str) -> Any:
        """prometheus_client's metric of a row, with these labels if it has any."""
        made = self._made[metric.name]
        return made.labels(*labels) if labels else made

    def family(self, metric: Metric) -> Any:
        """prometheus_client's metric of a row, all labels of it together."""
        return self._made[metric.name]

    def render(self) -> bytes:
        """All of them in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)
