"""The agent's own metrics: the rows of observe/replica_metrics.py."""

from __future__ import annotations

from trireme.agent.replica import FAULT_KINDS, Replica
from trireme.agent.reports import LoadReports
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.registry import MetricPage


class AgentMetrics:
    """Writes a page of what is known now."""

    def __init__(self, replica: Replica, reports: LoadReports, build: Build | None = None) -> None:
        self._replica = replica
        self._reports = reports
        self._page = MetricPage("agent", names.AGENT, build or Build())
        self._polls: dict[str, int] = {}

    def page(self) -> bytes:
        """The page, in Prometheus's text format."""
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
            counter = self._page.of(names.REPLICA_POLLS, outcome)
            counter.inc(count - self._polls.get(outcome, 0))
        self._polls = dict(replica.polls)
        return self._page.render()

    def _set(self, row: names.Metric, value: float, *labels: str) -> None:
        self._page.of(row, *labels).set(float(value))
