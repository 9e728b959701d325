"""The table of metrics of an agent: what is known of one replica. docs/agent.md has them too."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "AGENT",
    "REPLICA_DRAINING",
    "REPLICA_FAULT",
    "REPLICA_FAULTY_AT",
    "REPLICA_IN_FLIGHT",
    "REPLICA_LOOK",
    "REPLICA_POLLED",
    "REPLICA_POLLS",
    "REPLICA_READY",
    "REPLICA_UTILIZATION",
]

REPLICA_READY = Metric(
    "trireme_replica_ready",
    "gauge",
    "1 while the replica should get traffic",
    unit="yes or no",
)
REPLICA_DRAINING = Metric(
    "trireme_replica_draining",
    "gauge",
    "1 from the start of a drain on",
    unit="yes or no",
)
REPLICA_IN_FLIGHT = Metric(
    "trireme_replica_requests_in_flight",
    "gauge",
    "requests that wait or run, as far as the server's metrics tell",
)
REPLICA_UTILIZATION = Metric(
    "trireme_replica_utilization",
    "gauge",
    "seconds of waiting work by the target, as load reports say it",
    unit="ratio",
)
REPLICA_POLLS = Metric(
    "trireme_replica_polls_total",
    "counter",
    "looks at the server: ok, or the kind of the fault",
    ("outcome",),
)
REPLICA_POLLED = Metric(
    "trireme_replica_polled_seconds",
    "gauge",
    "when the server was last looked at, Unix time",
    unit="unix seconds",
)
REPLICA_LOOK = Metric("trireme_replica_look_seconds", "gauge", "seconds that the last look took")
REPLICA_FAULT = Metric(
    "trireme_replica_fault",
    "gauge",
    "1 while this keeps the replica from being ready",
    ("kind",),
    unit="yes or no",
)
REPLICA_FAULTY_AT = Metric(
    "trireme_replica_fault_seconds",
    "gauge",
    "when this kind of fault was last there, Unix time; 0: never",
    ("kind",),
    unit="unix seconds",
)

AGENT = (
    REPLICA_READY,
    REPLICA_DRAINING,
    REPLICA_IN_FLIGHT,
    REPLICA_UTILIZATION,
    REPLICA_POLLS,
    REPLICA_POLLED,
    REPLICA_LOOK,
    REPLICA_FAULT,
    REPLICA_FAULTY_AT,
)
