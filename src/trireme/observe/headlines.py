"""The five figures to look at first, as PromQL over the table. docs/metrics.md and the dashboards have them."""

from __future__ import annotations

from dataclasses import dataclass

from trireme.observe import metrics as names

# What Grafana puts its own window in for; four scrapes at least.
WINDOW = "$__rate_interval"


@dataclass(frozen=True, slots=True)
class Query:
    """One figure. legend: Grafana's name of each series. unit: of metric.UNITS."""

    title: str
    expr: str
    unit: str
    legend: str


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the five. says: what it is and where it comes from."""

    name: str
    says: str
    queries: tuple[Query, ...]


def rate(metric: names.Metric, matchers: str = "") -> str:
    """How much of a counter a second."""
    return f"rate({metric.name}{{{matchers}}}[{WINDOW}])" if matchers else f"rate({metric.name}[{WINDOW}])"


def ratio(part: str, whole: str, by: str = "") -> str:
    """Sums of a part by those of a whole; nothing where the whole is 0, and 0 where only the part is missing."""
    grouped = f"sum by ({by}) " if by else "sum"
    return f"({grouped}({part}) or 0 * {grouped}({whole})) / ({grouped}({whole}) > 0)"


def mean(seconds: names.Metric, count: names.Metric, by: str) -> str:
    """Seconds of each."""
    return ratio(rate(seconds), rate(count), by)


_LOOKED = 'outcome=~"hit|miss|late|stale"'
TOKENS = Query(
    "Tokens per second per replica",
    f"sum by (instance, model, kind) ({rate(names.MODEL_TOKENS)})",
    "tokens",
    "{{model}} {{kind}}, {{instance}}",
)
DEPTH = Query(
    "Queue depth",
    f"sum by (instance, model) ({names.QUEUE_DEPTH.name})",
    "count",
    "{{model}}, {{instance}}",
)
WAIT = Query(
    "Queue wait, mean",
    mean(names.QUEUE_WAIT, names.QUEUE_WAITS, "instance, model"),
    "seconds",
    "{{model}}, {{instance}}",
)
GPU = Query("GPU utilization", names.GPU_UTILIZATION.name, "percent", "{{Hostname}} GPU {{gpu}}")
GPU_MEMORY = Query(
    "GPU memory in use",
    f"{names.GPU_MEMORY.name} / ({names.GPU_MEMORY.name} + {names.GPU_MEMORY_FREE.name})",
    "ratio",
    "{{Hostname}} GPU {{gpu}}",
)
CORES = Query(
    "Cores in use by models",
    f"sum by (instance, model) ({rate(names.MODEL_CPU)})",
    "count",
    "{{model}}, {{instance}}",
)
MEMORY = Query(
    "Memory of models",
    f"sum by (instance, model) ({names.MODEL_MEMORY.name})",
    "bytes",
    "{{model}}, {{instance}}",
)
HITS = Query(
    "Cache hit rate by tier",
    ratio(rate(names.CACHE_REQUESTS, 'outcome="hit"'), rate(names.CACHE_REQUESTS, _LOOKED), "tier"),
    "ratio",
    "{{tier}}",
)
PREFIX_HITS = Query(
    "Prefix cache: tokens found",
    ratio(rate(names.PREFIX_HITS), rate(names.PREFIX_QUERIES), "instance, model"),
    "ratio",
    "prefix, {{model}}, {{instance}}",
)
COST = Query(
    "Cost per successful request",
    f"sum by (release) (increase({names.COST.name}[{WINDOW}]))"
    f" / (sum by (release) (increase({names.SUCCESSES.name}[{WINDOW}])) > 0)",
    "dollars",
    "{{release}}",
)

HEADLINES = (
    Headline(
        "tokens per second per replica",
        "what each replica reads and writes; an encoder reads, an LLM does both",
        (TOKENS,),
    ),
    Headline(
        "queue depth and wait",
        "requests that wait in front of a model, and how long those waited that ran",
        (DEPTH, WAIT),
    ),
    Headline(
        "GPU utilization and memory",
        "of DCGM's exporter where there is a GPU; cores and memory of each model's process everywhere",
        (GPU, GPU_MEMORY, CORES, MEMORY),
    ),
    Headline(
        "cache hit rate by tier",
        "lookups that found an answer, of those that looked; tokens found in the LLM's prefix cache",
        (HITS, PREFIX_HITS),
    ),
    Headline(
        "cost per successful request",
        "all that attempts were charged, failed ones too, by the requests that ended whole",
        (COST,),
    ),
)
