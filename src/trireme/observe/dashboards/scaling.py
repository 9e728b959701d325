"""The dashboard of signals, replicas, Envoy and routes under load."""

from __future__ import annotations

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import (
    CHOSEN_MODEL,
    REPLICA,
    Dashboard,
    Row,
    Variable,
    panel,
    quantiles,
)
from trireme.observe.foreign_metrics import (
    ENVOY_CALLS,
    ENVOY_HEALTHY,
    ENVOY_REFUSED,
    ENVOY_RETRIED,
    ENVOY_SECONDS,
    MACHINE_CPU,
    MACHINE_MEMORY,
    MACHINE_MEMORY_ALL,
)
from trireme.observe.queries import rate, ratio, series, total

SCALING = Dashboard(
    "trireme-scaling",
    "Trireme: scaling",
    "What is offered and what waits, replicas and their health, Envoy before them, routes under load.",
    (
        Row(
            "Signals",
            (
                panel(
                    "Replicas' worth of offered work",
                    total(rate(names.OFFERED, CHOSEN_MODEL), "model"),
                    "count",
                    "{{model}}",
                ),
                panel("Backlog", total(series(names.BACKLOG, CHOSEN_MODEL), "model"), "seconds", "{{model}}"),
                panel(
                    "Work refused",
                    ratio(rate(names.REJECTED, CHOSEN_MODEL), rate(names.OFFERED, CHOSEN_MODEL), "model"),
                    "ratio",
                    "{{model}}",
                ),
                panel(
                    "Measured capacity, the model's units of work a second",
                    total(series(names.CAPACITY, CHOSEN_MODEL), "instance, model"),
                    "per second",
                    REPLICA,
                ),
                panel(
                    "From start to first answer",
                    f"max by (instance, model) ({series(names.WARMUP, CHOSEN_MODEL)})",
                    "seconds",
                    REPLICA,
                ),
                panel(
                    "Starts of a server after a failure",
                    f"max by (instance) ({names.SERVER_RESTARTS.name})",
                    "count",
                    "{{instance}}",
                ),
            ),
        ),
        Row(
            "Replicas",
            (
                panel(
                    "Replicas that get traffic",
                    total(names.REPLICA_READY.name),
                    "count",
                    "ready",
                    kind="stat",
                    width=4,
                ),
                panel(
                    "Replicas that drain",
                    total(names.REPLICA_DRAINING.name),
                    "count",
                    "draining",
                    kind="stat",
                    width=4,
                ),
                panel(
                    "Utilization, as load reports say it",
                    f"max by (instance) ({names.REPLICA_UTILIZATION.name})",
                    "ratio",
                    "{{instance}}",
                ),
                panel(
                    "Why a replica is not ready",
                    f"max by (instance, kind) ({names.REPLICA_FAULT.name})",
                    "yes or no",
                    "{{instance}} {{kind}}",
                ),
                panel(
                    "Requests that wait or run",
                    total(names.REPLICA_IN_FLIGHT.name, "instance"),
                    "count",
                    "{{instance}}",
                ),
                panel(
                    "Processor time of the machine in use",
                    f"max by (instance) ({MACHINE_CPU.name})",
                    "ratio",
                    "{{instance}}",
                ),
                panel(
                    "Memory of the machine in use",
                    f"max by (instance) ({MACHINE_MEMORY.name} / {MACHINE_MEMORY_ALL.name})",
                    "ratio",
                    "{{instance}}",
                ),
            ),
        ),
        Row(
            "Envoy",
            (
                panel(
                    "Calls",
                    total(rate(ENVOY_CALLS), "envoy_cluster_name"),
                    "requests per second",
                    "{{envoy_cluster_name}}",
                ),
                panel(
                    "Replicas that are healthy",
                    f"max by (envoy_cluster_name) ({ENVOY_HEALTHY.name})",
                    "count",
                    "{{envoy_cluster_name}}",
                ),
                panel(
                    "Calls refused",
                    total(rate(ENVOY_REFUSED), "envoy_cluster_name"),
                    "requests per second",
                    "{{envoy_cluster_name}}",
                ),
                panel(
                    "Calls tried again",
                    total(rate(ENVOY_RETRIED), "envoy_cluster_name"),
                    "requests per second",
                    "{{envoy_cluster_name}}",
                ),
                quantiles("Time of a call", ENVOY_SECONDS, "envoy_cluster_name"),
            ),
        ),
        Row(
            "Routes under load",
            (
                panel(
                    "Backlog of a route",
                    f"max by (instance, model) ({names.ROUTE_BACKLOG.name})",
                    "seconds",
                    REPLICA,
                ),
                panel(
                    "Requests in a route's line",
                    total(names.ROUTE_WAITING.name, "model"),
                    "count",
                    "{{model}}",
                ),
                panel(
                    "Steps of the policy that are taken",
                    f"max by (instance, model) ({names.DEGRADE_LEVEL.name})",
                    "count",
                    REPLICA,
                ),
                panel(
                    "Refused under load",
                    total(rate(names.SHED), "model, priority, reason"),
                    "requests per second",
                    "{{model}} {{priority}} {{reason}}",
                ),
                panel(
                    "Requests that run",
                    total(names.RUNNING.name, "endpoint"),
                    "count",
                    "{{endpoint}}",
                ),
            ),
        ),
    ),
    (Variable("model", names.OFFERED, "model"),),
)
