"""The table of metrics of cost: what was spent, and what came of it."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = ["COST", "COSTS", "SUCCESSES"]

COST = Metric(
    "trireme_cost_dollars_total",
    "counter",
    "US dollars that attempts were charged, failed ones and those of hits included, by model asked for",
    ("tenant", "model", "provider", "release"),
    when="once an attempt has ended",
)
SUCCESSES = Metric(
    "trireme_requests_success_total",
    "counter",
    "requests of a model that ended whole: outcome ok and a status below 400, hits of caches included",
    ("tenant", "model", "release"),
    when="once a request of a model has succeeded",
)
COSTS = (COST, SUCCESSES)
