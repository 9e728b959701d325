"""The agent's own metrics: the rows of observe/replica_metrics.py."""

from __future__ import annotations

from typing import Any

from trireme.agent.replica import FAULT_KINDS, Replica
from trireme.agent.reports import LoadReports
from trireme.observe import metrics as names


class AgentMetrics:
    """Writes a page of what is known now."""

    def __init__(self, replica: Replica, reports: LoadReports) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

        self._replica = replica
        self._reports = reports
        self._registry = CollectorRegistry()
        # Memory and processor seconds of this process.
        ProcessCollector(registry=self._registry)
        kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge}
        self._made = {
            row.name: kinds[row.kind](row.name, row.help, row.labels, registry=self._registry)
            for row in names.AGENT
        }
        self._polls: dict[str, int] = {}

    def page(self) -> bytes:
        """The page, in Prometheus's text format."""
        from prometheus_client import generate_latest

        replica, report = self._replica, self._reports.read()
        faults = {fault.kind for fault in replica.faults()}
        self._set(names.REPLICA_READY, not faults)
        self._set(names.REPLICA_DRAINING, replica.is_draining)
        self._set(names.REPLICA_IN_FLIGHT, replica.load.in_flight if replica.load else 0)
        self._set(names.REPLICA_UTILIZATION, report.utilization or 0.0)
        self._set(names.REPLICA_POLLED, replica.polled_at)
        self._set(names.REPLICA_LOOK, replica.look_seconds)
        for kind in FAULT_KINDS:
            self._set(names.REPLICA_FAULT, kind in faults, kind)
            self._set(names.REPLICA_FAULTY_AT, replica.faulty_at.get(kind, 0.0), kind)
        for outcome, count in replica.polls.items():
            counter = self._made[names.REPLICA_POLLS.name].labels(outcome)
            counter.inc(count - self._polls.get(outcome, 0))
        self._polls = dict(replica.polls)
        return generate_latest(self._registry)

    def _set(self, row: names.Metric, value: float, *labels: str) -> None:
        made = self._made[row.name]
        (made.labels(*labels) if labels else made).set(float(value))
