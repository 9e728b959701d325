"""The table of metrics of cost, of the last hour of the ledger. Names that begin with llm_ are OpenCost's."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = [
    "BUDGET_LEFT_SECONDS",
    "BUDGET_USED",
    "CACHE_SAVINGS",
    "COST_AGE",
    "HOURLY_COST",
    "MACHINE_HOURLY_COST",
    "SPENDING",
    "SUCCESS_COST",
    "TOKEN_COST",
]

HOURLY_COST = Metric(
    "llm_total_hourly_cost",
    "gauge",
    "US dollars an hour; usage: what attempts were charged; allocation: with model_name idle, what is paid for",
    ("model_name", "cost_basis"),
    unit="dollars",
    when="while something was asked in the last hour",
)
TOKEN_COST = Metric(
    "llm_cost_per_million_tokens",
    "gauge",
    "US dollars for a million tokens, read and written; allocation is of all models together (model_name all)",
    ("model_name", "cost_basis"),
    unit="dollars",
    when="while something was asked in the last hour",
)
CACHE_SAVINGS = Metric(
    "llm_cache_savings_fraction",
    "gauge",
    "what cached answers spared, as a share of it and of usage together",
    ("model_name",),
    unit="ratio",
    when="while a cache has answered in the last hour",
)
SUCCESS_COST = Metric(
    "trireme_cost_per_successful_request_dollars",
    "gauge",
    "US dollars of all attempts, failed ones included, for each request that was answered",
    ("release", "cost_basis"),
    when="while something was asked in the last hour",
)
MACHINE_HOURLY_COST = Metric(
    "trireme_machine_hourly_cost_dollars",
    "gauge",
    "US dollars an hour of own machines that were up",
    ("kind",),
    when="while machines have kinds",
)
COST_AGE = Metric("trireme_cost_age_seconds", "gauge", "seconds since these figures were last made")
BUDGET_USED = Metric(
    "trireme_budget_used_fraction",
    "gauge",
    "share of a budget by day or month that is spent; of the gateway and of tenants that are named, the fullest",
    ("level", "tenant", "window"),
    unit="ratio",
    when="while the gateway or a tenant has a budget",
)
BUDGET_LEFT_SECONDS = Metric(
    "trireme_budget_exhausted_in_seconds",
    "gauge",
    "seconds until a budget is used up at the rate since its window began",
    ("level", "tenant", "window"),
    unit="seconds",
    when="while a budget does not last",
)

SPENDING = (
    HOURLY_COST,
    TOKEN_COST,
    CACHE_SAVINGS,
    SUCCESS_COST,
    MACHINE_HOURLY_COST,
    COST_AGE,
    BUDGET_USED,
    BUDGET_LEFT_SECONDS,
)
