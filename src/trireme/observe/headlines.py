"""The five figures to look at first, as PromQL over the table. docs/metrics.md and the dashboards have them."""

from __future__ import annotations

from dataclasses import dataclass

from trireme.observe import metrics as names
from trireme.observe.queries import Query, increase, rate, ratio, total


@dataclass(frozen=True, slots=True)
class Headline:
    """One of the five. says: what it is and where it comes from."""

    name: str
    says: str
    queries: tuple[Query, ...]


_REPLICA = "{{model}}, {{instance}}"
# A bypass looked at nothing, and a failure found out nothing.
_LOOKED = 'outcome=~"hit|miss|late|stale"'
TOKENS = Query(
    "Tokens per second per replica",
    total(rate(names.MODEL_TOKENS), "instance, model, kind"),
    "tokens per second",
    "{{model}} {{kind}}, {{instance}}",
)
DEPTH = Query("Queue depth", total(names.QUEUE_DEPTH.name, "instance, model"), "count", _REPLICA)
WAIT = Query(
    "Queue wait, mean",
    ratio(rate(names.QUEUE_WAIT), rate(names.QUEUE_WAITS), "instance, model"),
    "seconds",
    _REPLICA,
)
GPU = Query("GPU utilization", names.GPU_UTILIZATION.name, "percent", "{{Hostname}} GPU {{gpu}}")
GPU_MEMORY = Query(
    "GPU memory in use",
    f"{names.GPU_MEMORY.name} / ({names.GPU_MEMORY.name} + {names.GPU_MEMORY_FREE.name})",
    "ratio",
    "{{Hostname}} GPU {{gpu}}",
)
CORES = Query("Cores in use by models", total(rate(names.MODEL_CPU), "instance, model"), "count", _REPLICA)
MEMORY = Query("Memory of models", total(names.MODEL_MEMORY.name, "instance, model"), "bytes", _REPLICA)
HITS = Query(
    "Cache hit rate by tier",
    ratio(rate(names.CACHE_REQUESTS, 'outcome="hit"'), rate(names.CACHE_REQUESTS, _LOOKED), "tier"),
    "ratio",
    "{{tier}}",
)
PREFIX_HITS = Query(
    "Prefix cache: share of tokens found",
    ratio(rate(names.PREFIX_HITS), rate(names.PREFIX_QUERIES), "instance, model"),
    "ratio",
    "prefix, " + _REPLICA,
)
COST = Query(
    "Cost per successful request",
    f"{total(increase(names.COST), 'release')} / ({total(increase(names.SUCCESSES), 'release')} > 0)",
    "dollars",
    "{{release}}",
)

HEADLINES = (
    Headline(
        "Tokens per second per replica",
        "what each replica reads and writes; an encoder reads, an LLM does both",
        (TOKENS,),
    ),
    Headline(
        "Queue depth and wait",
        "requests that wait in front of a model, and how long those waited that ran",
        (DEPTH, WAIT),
    ),
    Headline(
        "GPU utilization and memory",
        "of DCGM's exporter where there is a GPU; cores and memory of each model's process everywhere",
        (GPU, GPU_MEMORY, CORES, MEMORY),
    ),
    Headline(
        "Cache hit rate by tier",
        "lookups that found an answer, of those that looked; tokens found in the LLM's prefix cache",
        (HITS, PREFIX_HITS),
    ),
    Headline(
        "Cost per successful request",
        "all that attempts were charged, failed ones too, by the requests that ended whole",
        (COST,),
    ),
)
