"""The table of metrics that backends write on the page of their tritonserver: the signals, and the rest.

docs/signals.md says what the signals mean.
"""

from __future__ import annotations

from trireme.observe.metric import Metric
from trireme.observe.process_metrics import BUILD_INFO, MODEL_CPU, MODEL_INFO, MODEL_MEMORY
from trireme.observe.span_metrics import MODEL_SPANS, SPANS

__all__ = [
    "ANSWERS",
    "ANSWER_SECONDS",
    "ANSWER_TIME",
    "BACKLOG",
    "BULK",
    "CAPACITY",
    "CHECKED",
    "DECODING",
    "ENCODER_PADS",
    "ENCODER_SECONDS",
    "ENCODER_TOKENS",
    "ENGINE_RESTARTS",
    "FAILURES",
    "FIRST_TOKEN",
    "FIRST_TOKEN_SECONDS",
    "GENERATION_TOKENS",
    "INPUT_TOKEN_WORK",
    "INTERACTIVE",
    "KV_USAGE",
    "LLM_WAITING",
    "LOADED",
    "MICRO_BATCHES",
    "MODEL_TOKENS",
    "OFFERED",
    "PER_TOKEN",
    "PREFIX_HITS",
    "PREFIX_QUERIES",
    "PROMPT_TOKENS",
    "QUEUE_DEPTH",
    "QUEUE_WAIT",
    "QUEUE_WAITS",
    "READY",
    "REJECTED",
    "SERVER",
    "SERVER_RESTARTS",
    "SIGNALS",
    "TOKEN_SECONDS",
    "WARMUP",
    "WORKER",
]

# Of an LLM's answer: to its first token, for each further one, and whole.
FIRST_TOKEN_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0)
ANSWER_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

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
    when="once the rate is known",
)
CAPACITY = Metric(
    "trireme_capacity_work_per_second",
    "gauge",
    "measured rate at full batch, in the model's unit of work a second; the sum over instances is the replica's",
    ("model", "instance"),
    unit="work per second",
    when="once the rate is known",
)
INPUT_TOKEN_WORK = Metric(
    "trireme_input_token_work",
    "gauge",
    "work of one input token of an LLM, where one output token is 1",
    ("model", "instance"),
    unit="ratio",
    when="an LLM",
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
    "trireme_tokens_total",
    "counter",
    "tokens, by kind: input (read), output (written)",
    ("model", "kind"),
    unit="tokens",
    when="an encoder, an LLM, ingestion",
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
    unit="yes or no",
)
CHECKED = Metric(
    "trireme_model_checked_seconds",
    "gauge",
    "when trireme_model_ready was found out, Unix time",
    ("model", "instance"),
    unit="unix seconds",
)
LOADED = Metric(
    "trireme_model_loaded_seconds",
    "gauge",
    "what the model has loaded, as one name that no other load has: Unix time at which it last said so",
    ("model", "instance", "digest", "version"),
    unit="unix seconds",
)
SERVER_RESTARTS = Metric(
    "trireme_server_restarts", "gauge", "how often trireme serve has started the server again", ("model",)
)
FAILURES = Metric(
    "trireme_request_failures_total",
    "counter",
    "requests answered with an error, by its code",
    ("model", "code"),
    when="once a request has failed",
)
INTERACTIVE = Metric(
    "trireme_interactive_requests_total",
    "counter",
    "requests that were not a worker's bulk",
    ("model",),
    when="an encoder",
)
ENCODER_TOKENS = Metric(
    "trireme_encoder_tokens_total",
    "counter",
    "tokens run, special tokens included",
    ("model",),
    unit="tokens",
    when="an encoder",
)
ENCODER_PADS = Metric(
    "trireme_encoder_pad_tokens_total",
    "counter",
    "padding added to even out rows that ran together",
    ("model",),
    unit="tokens",
    when="an encoder",
)
MICRO_BATCHES = Metric(
    "trireme_encoder_micro_batches_total",
    "counter",
    "micro-batches run",
    ("model",),
    when="an encoder",
)
ENCODER_SECONDS = Metric(
    "trireme_encoder_request_seconds_total",
    "counter",
    "seconds from Triton's queue to the responses",
    ("model",),
    when="an encoder",
)
ENGINE_RESTARTS = Metric(
    "trireme_engine_restarts_total",
    "counter",
    "starts of the engine after a failure",
    ("model",),
    when="an LLM",
)
# Names are those of vLLM's own metrics; docs/generation.md has the mapping.
DECODING = Metric(
    "vllm:num_requests_running",
    "gauge",
    "requests being decoded",
    ("model",),
    when="an LLM",
)
LLM_WAITING = Metric(
    "vllm:num_requests_waiting",
    "gauge",
    "requests that wait for a place",
    ("model",),
    when="an LLM",
)
KV_USAGE = Metric(
    "vllm:kv_cache_usage_perc",
    "gauge",
    "share of the KV cache in use, 0 to 1",
    ("model",),
    unit="ratio",
    when="an LLM",
)
PROMPT_TOKENS = Metric(
    "vllm:prompt_tokens_total",
    "counter",
    "prompt tokens read",
    ("model",),
    unit="tokens",
    when="an LLM",
)
GENERATION_TOKENS = Metric(
    "vllm:generation_tokens_total",
    "counter",
    "tokens generated",
    ("model",),
    unit="tokens",
    when="an LLM",
)
PREFIX_QUERIES = Metric(
    "vllm:prefix_cache_queries_total",
    "counter",
    "prompt tokens looked up in the prefix cache",
    ("model",),
    unit="tokens",
    when="an LLM",
)
PREFIX_HITS = Metric(
    "vllm:prefix_cache_hits_total",
    "counter",
    "prompt tokens found in the prefix cache",
    ("model",),
    unit="tokens",
    when="an LLM",
)
ANSWERS = Metric(
    "vllm:request_success_total",
    "counter",
    "requests ended, by how they ended",
    ("model", "finished_reason"),
    when="an LLM",
)
FIRST_TOKEN = Metric(
    "vllm:time_to_first_token_seconds",
    "histogram",
    "from request to first token",
    ("model",),
    FIRST_TOKEN_SECONDS,
    when="an LLM",
)
PER_TOKEN = Metric(
    "vllm:request_time_per_output_token_seconds",
    "histogram",
    "mean time between the tokens of one request",
    ("model",),
    TOKEN_SECONDS,
    when="an LLM",
)
ANSWER_TIME = Metric(
    "vllm:e2e_request_latency_seconds",
    "histogram",
    "from request to last token",
    ("model",),
    ANSWER_SECONDS,
    when="an LLM",
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
    BUILD_INFO,
    MODEL_INFO,
    MODEL_MEMORY,
    MODEL_CPU,
    MODEL_SPANS,
)

# Ingestion's: the queue belongs to all workers, each tells its share.
WORKER = (OFFERED, BACKLOG, CAPACITY, QUEUE_DEPTH, MODEL_TOKENS, SPANS)
