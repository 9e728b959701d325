"""Metrics of what several regions share: budgets with a home elsewhere, and databases that follow each other."""

from __future__ import annotations

from trireme.observe.metric import Metric

HOME_AWAY = Metric(
    "trireme_budget_home_away",
    "gauge",
    "1 while the budgets of another region do not answer",
    ("region",),
    when="where the home of a tenant is another region",
)
WITHOUT_HOME = Metric(
    "trireme_budget_without_home_total",
    "counter",
    "attempts while the home of their budgets did not answer, by what was done: closed, share, open",
    ("region", "way"),
    when="once the home of a tenant did not answer",
)
REPLICATION_CONNECTED = Metric(
    "trireme_replication_connected",
    "gauge",
    "1 while a link of the database to another region's is up; role: follower of it, or home of it",
    ("role", "region"),
    when="where the database follows another or is followed",
)
REPLICATION_BEHIND = Metric(
    "trireme_replication_behind_bytes",
    "gauge",
    "bytes of the home's log that its follower has not reported as applied",
    ("role", "region"),
    when="where the database follows another or is followed",
)
REPLICATION_SILENT = Metric(
    "trireme_replication_silent_seconds",
    "gauge",
    "seconds since the other end was heard of",
    ("role", "region"),
    when="where the database follows another or is followed",
)
REPLICATION_LEFT = Metric(
    "trireme_replication_left_bytes",
    "gauge",
    "bytes of log that a home still keeps for a follower before that must copy anew",
    ("role", "region"),
    when="where the database follows another or is followed",
)

STATE = (
    HOME_AWAY,
    WITHOUT_HOME,
    REPLICATION_CONNECTED,
    REPLICATION_BEHIND,
    REPLICATION_SILENT,
    REPLICATION_LEFT,
)
