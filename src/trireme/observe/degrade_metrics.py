"""The table of metrics of degradation: what is left out under load, and who is refused. See docs/degradation.md."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "DEGRADE",
    "DEGRADED",
    "DEGRADE_LEVEL",
    "ROUTE_BACKLOG",
    "ROUTE_OFFERED",
    "ROUTE_WAIT",
    "ROUTE_WAITING",
    "SHED",
    "SHED_WORK",
]

DEGRADED = Metric(
    "trireme_gateway_degraded_total",
    "counter",
    "answers for which a step of the policy was taken, by route and step",
    ("model", "step"),
    when="once a step was taken",
)
DEGRADE_LEVEL = Metric(
    "trireme_gateway_degrade_level",
    "gauge",
    "steps of a route's policy that are taken now",
    ("model",),
    when="where a route has a policy",
)
SHED = Metric(
    "trireme_gateway_shed_total",
    "counter",
    "requests refused under load, by route, priority and reason: backlog, load, deadline",
    ("model", "priority", "reason"),
    when="once a request was refused under load",
)
SHED_WORK = Metric(
    "trireme_gateway_shed_work_seconds_total",
    "counter",
    "seconds of work of the refused requests, by the mean of those that ran; part of the work offered",
    ("model",),
    when="once a request was refused under load",
)
ROUTE_BACKLOG = Metric(
    "trireme_gateway_backlog_seconds",
    "gauge",
    "seconds of work that wait for a route, in the gateway's line or in front of Triton's models",
    ("model",),
    when="where a route has a policy",
)
ROUTE_WAITING = Metric(
    "trireme_gateway_waiting",
    "gauge",
    "requests that wait in the line of a route",
    ("model",),
    when="where a route has a policy",
)
ROUTE_WAIT = Metric(
    "trireme_gateway_line_seconds",
    "histogram",
    "seconds that a request which was let in stood in the line of its route",
    ("model",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    when="once a request of a route with a policy was let in",
)
ROUTE_OFFERED = Metric(
    "trireme_gateway_offered",
    "gauge",
    "load of a route by requests of a priority and higher ones; at 1 they fill all of its places",
    ("model", "priority"),
    unit="ratio",
    when="where a route has a policy",
)
DEGRADE = (
    DEGRADED,
    DEGRADE_LEVEL,
    SHED,
    SHED_WORK,
    ROUTE_BACKLOG,
    ROUTE_WAITING,
    ROUTE_WAIT,
    ROUTE_OFFERED,
)
