"""The table of metrics of the gateway."""

from __future__ import annotations

from trireme.observe.cost_metrics import COSTS
from trireme.observe.degrade_metrics import DEGRADE
from trireme.observe.genai_metrics import GENAI
from trireme.observe.metric import Metric
from trireme.observe.span_metrics import SPANS
from trireme.observe.spend_metrics import SPENDING
from trireme.observe.state_metrics import STATE

__all__ = [
    "ATTEMPTS",
    "CACHE_REQUESTS",
    "CACHE_SECONDS",
    "CACHE_TOKENS",
    "CAPS_AGE",
    "CASCADE_REFUSED",
    "CASCADE_SECONDS",
    "CASCADE_STEPS",
    "DIFFERENCE_NANOS",
    "DIFFERENCE_TOKENS",
    "DURATION",
    "FAR_MODELS",
    "FIRST",
    "GATEWAY",
    "HOLDS",
    "KEYS",
    "KEYS_AGE",
    "LIVE_STREAMS",
    "LOOKUP_SECONDS",
    "OPEN_BREAKERS",
    "RECONCILED",
    "REFUSED",
    "REQUESTS",
    "ROWS_LOST",
    "ROWS_WAITING",
    "RUNNING",
    "SECONDS",
    "SEMANTIC_CHECKS",
    "SEMANTIC_IS_ON",
    "SEMANTIC_LOOKUPS",
    "SEMANTIC_UPPER",
    "SEMANTIC_WORK",
    "SHRUNK",
    "SPENT_NANOS",
    "SPENT_TOKENS",
    "STORE_AWAY",
    "TOKENS",
    "UNSETTLED",
]

# Seconds: a cached answer takes milliseconds, a long generation minutes.
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Of a lookup, which is no request.
LOOKUP_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)

REQUESTS = Metric(
    "trireme_gateway_requests_total",
    "counter",
    "requests ended, by endpoint, tenant, model that was asked for, status and outcome",
    ("endpoint", "tenant", "model", "status", "outcome"),
)
DURATION = Metric(
    "trireme_gateway_request_seconds",
    "histogram",
    "seconds from a request's first byte to the end of its answer",
    ("endpoint",),
    SECONDS,
)
FIRST = Metric(
    "trireme_gateway_time_to_first_token_seconds",
    "histogram",
    "seconds from a request to the first content of a streamed answer",
    ("endpoint",),
    SECONDS,
    when="once an answer was streamed",
)
RUNNING = Metric("trireme_gateway_requests_running", "gauge", "requests that have no end yet", ("endpoint",))
TOKENS = Metric(
    "trireme_gateway_tokens_total",
    "counter",
    "tokens that providers counted, by kind: input, cached, output, reasoning",
    ("tenant", "model", "kind"),
    unit="tokens",
    when="once a provider has counted tokens",
)
ATTEMPTS = Metric(
    "trireme_gateway_attempts_total",
    "counter",
    "attempts at a provider's model: ok, escalated (a cascade did not keep it), skipped, or the kind of the fault",
    ("target", "outcome"),
    when="once a provider was asked",
)
OPEN_BREAKERS = Metric(
    "trireme_gateway_breaker_open",
    "gauge",
    "1 while a provider's model gets no requests",
    ("target",),
    unit="yes or no",
    when="while a provider's model gets no requests",
)
KEYS = Metric("trireme_gateway_keys", "gauge", "keys in force")
KEYS_AGE = Metric("trireme_gateway_keys_age_seconds", "gauge", "seconds since the keys were last read")
LIVE_STREAMS = Metric("trireme_gateway_live_streams", "gauge", "streams of /v1/live that are open")
HOLDS = Metric("trireme_budget_holds", "gauge", "attempts that run behind a hold")
REFUSED = Metric(
    "trireme_budget_refused_total",
    "counter",
    "attempts that a budget refused",
    ("level", "window", "unit"),
    when="once a budget has refused an attempt",
)
SHRUNK = Metric(
    "trireme_budget_shrunk_total", "counter", "attempts whose max_tokens was lowered to what is left"
)
SPENT_TOKENS = Metric(
    "trireme_budget_spent_tokens_total",
    "counter",
    "tokens that attempts were charged",
    ("tenant",),
    when="once an attempt has ended",
)
SPENT_NANOS = Metric(
    "trireme_budget_spent_nanos_total",
    "counter",
    "billionths of a US dollar, as spent_tokens",
    ("tenant",),
    when="once an attempt has ended",
)
UNSETTLED = Metric("trireme_budget_unsettled", "gauge", "attempts that ended and wait for the budget store")
ROWS_WAITING = Metric(
    "trireme_budget_rows_waiting", "gauge", "rows that wait for the ledger, 500 at most, half a second ago"
)
ROWS_LOST = Metric("trireme_budget_rows_lost_total", "counter", "rows that the ledger will never have")
STORE_AWAY = Metric(
    "trireme_budget_store_away",
    "gauge",
    "1 while the budget store does not answer",
    unit="yes or no",
)
CAPS_AGE = Metric("trireme_budget_caps_age_seconds", "gauge", "seconds since the caps were last read")
RECONCILED = Metric("trireme_budget_reconciled_total", "counter", "rounds of counters against the ledger")
DIFFERENCE_TOKENS = Metric(
    "trireme_budget_ledger_difference_tokens",
    "gauge",
    "tokens by which counters and ledger differed in the last round, before it was made good",
)
DIFFERENCE_NANOS = Metric(
    "trireme_budget_ledger_difference_nanos", "gauge", "billionths of a US dollar, as difference_tokens"
)
CACHE_REQUESTS = Metric(
    "trireme_cache_requests_total",
    "counter",
    "lookups of cached answers by tier: hit, miss, late, stale (another version runs by now), failed, bypass",
    ("tier", "outcome"),
    when="once a cache was asked",
)
CACHE_TOKENS = Metric(
    "trireme_cache_tokens_total",
    "counter",
    "tokens that were not computed anew, by tier: those of cached answers, and of prefixes that providers had",
    ("tier", "tenant"),
    when="once a cache had an answer",
)
CACHE_SECONDS = Metric(
    "trireme_cache_seconds",
    "histogram",
    "seconds that a tier took to find or miss",
    ("tier",),
    LOOKUP_SECONDS,
    when="once a cache was asked",
)
SEMANTIC_LOOKUPS = Metric(
    "trireme_semantic_lookups_total",
    "counter",
    "lookups of the semantic cache: hit, or why it missed",
    ("outcome",),
    when="where the semantic cache is on",
)
SEMANTIC_WORK = Metric(
    "trireme_semantic_work_total",
    "counter",
    "what the semantic cache did in the background: kept, dropped, failed; checks that agreed or differed",
    ("outcome",),
    when="where the semantic cache is on",
)
SEMANTIC_UPPER = Metric(
    "trireme_semantic_false_hits_upper",
    "gauge",
    "upper limit (one-sided 95 %) of the share of false hits, by the route or tenant whose promise it is",
    ("scope",),
    unit="ratio",
    when="where the semantic cache is on",
)
SEMANTIC_CHECKS = Metric(
    "trireme_semantic_checks",
    "gauge",
    "checks that the limit rests on, by how they ended",
    ("scope", "result"),
    when="where the semantic cache is on",
)
SEMANTIC_IS_ON = Metric(
    "trireme_semantic_is_on",
    "gauge",
    "0 where the semantic cache has turned itself off",
    ("scope",),
    unit="yes or no",
    when="where the semantic cache is on",
)

CASCADE_STEPS = Metric(
    "trireme_cascade_steps_total",
    "counter",
    "steps of cascades by what became of them: kept (its answer was shown), or why the next one was asked",
    ("model", "step", "outcome"),
    when="where a model has steps",
)
CASCADE_SECONDS = Metric(
    "trireme_cascade_decision_seconds",
    "histogram",
    "seconds from asking a step to knowing whether its answer is shown",
    ("model", "step"),
    SECONDS,
    when="where a model has steps",
)
CASCADE_REFUSED = Metric(
    "trireme_cascade_step_refused",
    "gauge",
    "1 while a step is passed over, since its calibration is of other models than those that answer",
    ("model", "step"),
    unit="yes or no",
    when="where a model has steps",
)

FAR_MODELS = Metric(
    "trireme_gateway_far_models",
    "gauge",
    "models that no server of this region has, and that another region answers for",
    unit="count",
    when="where other regions may answer",
)

GATEWAY = (
    REQUESTS,
    DURATION,
    FIRST,
    RUNNING,
    TOKENS,
    ATTEMPTS,
    OPEN_BREAKERS,
    KEYS,
    KEYS_AGE,
    LIVE_STREAMS,
    HOLDS,
    REFUSED,
    SHRUNK,
    SPENT_TOKENS,
    SPENT_NANOS,
    UNSETTLED,
    ROWS_WAITING,
    ROWS_LOST,
    STORE_AWAY,
    CAPS_AGE,
    RECONCILED,
    DIFFERENCE_TOKENS,
    DIFFERENCE_NANOS,
    CACHE_REQUESTS,
    CACHE_TOKENS,
    CACHE_SECONDS,
    SEMANTIC_LOOKUPS,
    SEMANTIC_WORK,
    SEMANTIC_UPPER,
    SEMANTIC_CHECKS,
    SEMANTIC_IS_ON,
    CASCADE_STEPS,
    CASCADE_SECONDS,
    CASCADE_REFUSED,
    FAR_MODELS,
    *DEGRADE,
    *STATE,
    *COSTS,
    *SPENDING,
    *GENAI,
    SPANS,
)
