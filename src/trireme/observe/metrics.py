"""The one table of metrics, of the gateway and of the models: names, kinds, help, labels.

Dashboards and scalers read these names; docs/signals.md says what the signals mean.
"""

from __future__ import annotations

# Those of the gateway under load, of the agent and of regions are of this table too.
from trireme.observe.degrade_metrics import *  # noqa: F403
from trireme.observe.degrade_metrics import DEGRADE
from trireme.observe.metric import Metric as Metric  # noqa: PLC0414 - for who reads the table
from trireme.observe.region_metrics import *  # noqa: F403
from trireme.observe.replica_metrics import *  # noqa: F403
from trireme.observe.state_metrics import STATE

# Seconds: a cached answer takes milliseconds, a long generation minutes.
SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

# Of a lookup, which is no request.
LOOKUP_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5)

# Of an LLM's answer: to its first token, for each further one, and whole.
FIRST_TOKEN_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
ANSWER_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

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
)
RUNNING = Metric("trireme_gateway_requests_running", "gauge", "requests that have no end yet", ("endpoint",))
TOKENS = Metric(
    "trireme_gateway_tokens_total",
    "counter",
    "tokens that providers counted, by kind: input, cached, output, reasoning",
    ("tenant", "model", "kind"),
)
ATTEMPTS = Metric(
    "trireme_gateway_attempts_total",
    "counter",
    "attempts at a provider's model: ok, escalated (a cascade did not keep it), skipped, or the kind of the fault",
    ("target", "outcome"),
)
OPEN_BREAKERS = Metric(
    "trireme_gateway_breaker_open", "gauge", "1 while a provider's model gets no requests", ("target",)
)
KEYS = Metric("trireme_gateway_keys", "gauge", "keys in force")
KEYS_AGE = Metric("trireme_gateway_keys_age_seconds", "gauge", "seconds since the keys were last read")
HOLDS = Metric("trireme_budget_holds", "gauge", "attempts that run behind a hold")
REFUSED = Metric(
    "trireme_budget_refused_total", "counter", "attempts that a budget refused", ("level", "window", "unit")
)
SHRUNK = Metric(
    "trireme_budget_shrunk_total", "counter", "attempts whose max_tokens was lowered to what is left"
)
SPENT_TOKENS = Metric(
    "trireme_budget_spent_tokens_total", "counter", "tokens that attempts were charged", ("tenant",)
)
SPENT_NANOS = Metric(
    "trireme_budget_spent_nanos_total", "counter", "billionths of a US dollar, as spent_tokens", ("tenant",)
)
UNSETTLED = Metric("trireme_budget_unsettled", "gauge", "attempts that ended and wait for the budget store")
ROWS_WAITING = Metric(
    "trireme_budget_rows_waiting", "gauge", "rows that wait for the ledger, 500 at most, half a second ago"
)
ROWS_LOST = Metric("trireme_budget_rows_lost_total", "counter", "rows that the ledger will never have")
STORE_AWAY = Metric("trireme_budget_store_away", "gauge", "1 while the budget store does not answer")
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
)
CACHE_TOKENS = Metric(
    "trireme_cache_tokens_total",
    "counter",
    "tokens that were not computed anew, by tier: those of cached answers, and of prefixes that providers had",
    ("tier", "tenant"),
)
CACHE_SECONDS = Metric(
    "trireme_cache_seconds",
    "histogram",
    "seconds that a tier took to find or miss",
    ("tier",),
    LOOKUP_SECONDS,
)
SEMANTIC_LOOKUPS = Metric(
    "trireme_semantic_lookups_total",
    "counter",
    "lookups of the semantic cache: hit, or why it missed",
    ("outcome",),
)
SEMANTIC_WORK = Metric(
    "trireme_semantic_work_total",
    "counter",
    "what the semantic cache did in the background: kept, dropped, failed; checks that agreed or differed",
    ("outcome",),
)
SEMANTIC_UPPER = Metric(
    "trireme_semantic_false_hits_upper",
    "gauge",
    "upper limit (one-sided 95 %) of the share of false hits, by the route or tenant whose promise it is",
    ("scope",),
)
SEMANTIC_CHECKS = Metric(
    "trireme_semantic_checks",
    "gauge",
    "checks that the limit rests on, by how they ended",
    ("scope", "result"),
)
SEMANTIC_IS_ON = Metric(
    "trireme_semantic_is_on", "gauge", "0 where the semantic cache has turned itself off", ("scope",)
)

CASCADE_STEPS = Metric(
    "trireme_cascade_steps_total",
    "counter",
    "steps of cascades by what became of them: kept (its answer was shown), or why the next one was asked",
    ("model", "step", "outcome"),
)
CASCADE_SECONDS = Metric(
    "trireme_cascade_decision_seconds",
    "histogram",
    "seconds from asking a step to knowing whether its answer is shown",
    ("model", "step"),
    SECONDS,
)
CASCADE_REFUSED = Metric(
    "trireme_cascade_step_refused",
    "gauge",
    "1 while a step is passed over, since its calibration is of other models than those that answer",
    ("model", "step"),
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
    *DEGRADE,
    *STATE,
)

# What scales and balances by load: the same names for every model, whatever its engine, and for ingestion's queue.
OFFERED = Metric(
    "trireme_offered_work_seconds_total",
    "counter",
    "seconds of work of all requests that arrived, refused ones included, at the replica's measured rate",
    ("model",),
)
REJECTED = Metric(
    "trireme_rejected_work_seconds_total",
    "counter",
    "of the offered work, seconds of requests that were refused because too much waited",
    ("model",),
)
BULK = Metric(
    "trireme_bulk_work_seconds_total",
    "counter",
    "of the offered work, seconds sent by ingestion workers, who send more whenever the server is free",
    ("model",),
)
BACKLOG = Metric(
    "trireme_backlog_seconds",
    "gauge",
    "seconds of work that waits and does not run, at the replica's measured rate",
    ("model", "instance"),
)
CAPACITY = Metric(
    "trireme_capacity_work_per_second",
    "gauge",
    "measured rate at full batch, in the model's unit of work a second; the sum over instances is the replica's",
    ("model", "instance"),
)
INPUT_TOKEN_WORK = Metric(
    "trireme_input_token_work",
    "gauge",
    "work of one input token of an LLM, where one output token is 1",
    ("model", "instance"),
)
WARMUP = Metric(
    "trireme_warmup_seconds",
    "gauge",
    "seconds from the start of initialize to the first answer",
    ("model", "instance"),
)
QUEUE_DEPTH = Metric(
    "trireme_queue_depth", "gauge", "requests that wait and do not run", ("model", "instance")
)
QUEUE_WAIT = Metric(
    "trireme_queue_wait_seconds_total", "counter", "seconds that requests waited before they ran", ("model",)
)
QUEUE_WAITS = Metric(
    "trireme_queue_waits_total",
    "counter",
    "requests that left the queue to run, at once or later",
    ("model",),
)
MODEL_TOKENS = Metric(
    "trireme_tokens_total", "counter", "tokens, by kind: input (read), output (written)", ("model", "kind")
)

SIGNALS = (
    OFFERED,
    REJECTED,
    BULK,
    BACKLOG,
    CAPACITY,
    INPUT_TOKEN_WORK,
    WARMUP,
    QUEUE_DEPTH,
    QUEUE_WAIT,
    QUEUE_WAITS,
    MODEL_TOKENS,
)

READY = Metric(
    "trireme_model_ready",
    "gauge",
    "1 when the model's session, files and database answer, else 0",
    ("model", "instance"),
)
CHECKED = Metric(
    "trireme_model_checked_seconds",
    "gauge",
    "when trireme_model_ready was found out, Unix time",
    ("model", "instance"),
)
LOADED = Metric(
    "trireme_model_loaded_seconds",
    "gauge",
    "what the model has loaded, as one name that no other load has: Unix time at which it last said so",
    ("model", "instance", "digest", "version"),
)
SERVER_RESTARTS = Metric(
    "trireme_server_restarts", "gauge", "how often trireme serve has started the server again", ("model",)
)
FAILURES = Metric(
    "trireme_request_failures_total",
    "counter",
    "requests answered with an error, by its code",
    ("model", "code"),
)
INTERACTIVE = Metric(
    "trireme_interactive_requests_total", "counter", "requests that were not a worker's bulk", ("model",)
)
ENCODER_TOKENS = Metric(
    "trireme_encoder_tokens_total", "counter", "tokens run, special tokens included", ("model",)
)
ENCODER_PADS = Metric(
    "trireme_encoder_pad_tokens_total",
    "counter",
    "padding added to even out rows that ran together",
    ("model",),
)
MICRO_BATCHES = Metric("trireme_encoder_micro_batches_total", "counter", "micro-batches run", ("model",))
ENCODER_SECONDS = Metric(
    "trireme_encoder_request_seconds_total",
    "counter",
    "seconds from Triton's queue to the responses",
    ("model",),
)
ENGINE_RESTARTS = Metric(
    "trireme_engine_restarts_total", "counter", "starts of the engine after a failure", ("model",)
)
# Names are those of vLLM's own metrics; docs/generation.md has the mapping.
DECODING = Metric("vllm:num_requests_running", "gauge", "requests being decoded", ("model",))
LLM_WAITING = Metric("vllm:num_requests_waiting", "gauge", "requests that wait for a place", ("model",))
KV_USAGE = Metric("vllm:kv_cache_usage_perc", "gauge", "share of the KV cache in use, 0 to 1", ("model",))
PROMPT_TOKENS = Metric("vllm:prompt_tokens_total", "counter", "prompt tokens read", ("model",))
GENERATION_TOKENS = Metric("vllm:generation_tokens_total", "counter", "tokens generated", ("model",))
PREFIX_QUERIES = Metric(
    "vllm:prefix_cache_queries_total", "counter", "prompt tokens looked up in the prefix cache", ("model",)
)
PREFIX_HITS = Metric(
    "vllm:prefix_cache_hits_total", "counter", "prompt tokens found in the prefix cache", ("model",)
)
ANSWERS = Metric(
    "vllm:request_success_total",
    "counter",
    "requests ended, by how they ended",
    ("model", "finished_reason"),
)
FIRST_TOKEN = Metric(
    "vllm:time_to_first_token_seconds",
    "histogram",
    "from request to first token",
    ("model",),
    FIRST_TOKEN_SECONDS,
)
PER_TOKEN = Metric(
    "vllm:request_time_per_output_token_seconds",
    "histogram",
    "mean time between the tokens of one request",
    ("model",),
    TOKEN_SECONDS,
)
ANSWER_TIME = Metric(
    "vllm:e2e_request_latency_seconds",
    "histogram",
    "from request to last token",
    ("model",),
    ANSWER_SECONDS,
)

# What the backends write on the server's page, beside the signals.
SERVER = (
    READY,
    CHECKED,
    LOADED,
    SERVER_RESTARTS,
    FAILURES,
    INTERACTIVE,
    ENCODER_TOKENS,
    ENCODER_PADS,
    MICRO_BATCHES,
    ENCODER_SECONDS,
    ENGINE_RESTARTS,
    DECODING,
    LLM_WAITING,
    KV_USAGE,
    PROMPT_TOKENS,
    GENERATION_TOKENS,
    PREFIX_QUERIES,
    PREFIX_HITS,
    ANSWERS,
    FIRST_TOKEN,
    PER_TOKEN,
    ANSWER_TIME,
)
