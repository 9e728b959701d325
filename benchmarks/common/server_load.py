"""What a run cost on the server's side, by the counters on its Prometheus page."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from trireme.observe import metrics as table

_SAMPLE = re.compile(r'^(\w+)\{[^}]*model="([^"]+)"[^}]*\} (\S+)$', re.MULTILINE)
COUNTERS = {
    table.TRITON_SUCCEEDED.name: "requests",
    table.TRITON_WAITED.name: "queue_us",
    table.ENCODER_TOKENS.name: "tokens",
    table.ENCODER_PADS.name: "pad_tokens",
    table.MICRO_BATCHES.name: "micro_batches",
    table.ENCODER_SECONDS.name: "request_s",
}

Counts = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class StepLoad:
    """One model's share of a run. `queue_ms`: mean wait of a request in Triton's queue, which ends when a backend
    with a queue of its own takes it. `pad_share` is of all tokens run.
    """

    model: str
    requests: int
    queue_ms: float
    tokens: int
    tokens_per_micro_batch: float
    pad_share: float


def read_counts(page: str) -> dict[str, dict[str, float]]:
    """Model -> counter -> value, of a Prometheus page; versions and instances of a model are added up."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, model, value in _SAMPLE.findall(page):
        if name in COUNTERS:
            counts[model][COUNTERS[name]] += float(value)
    return {model: dict(values) for model, values in counts.items()}


def compare_counts(before: Counts, after: Counts) -> tuple[StepLoad, ...]:
    """The models that answered requests in between, by name."""
    loads = []
    for model, counts in sorted(after.items()):
        earlier = before.get(model, {})
        grown = {key: counts.get(key, 0.0) - earlier.get(key, 0.0) for key in COUNTERS.values()}
        requests, tokens, padding = grown["requests"], grown["tokens"], grown["pad_tokens"]
        if requests > 0:
            loads.append(
                StepLoad(
                    model=model,
                    requests=int(requests),
                    queue_ms=grown["queue_us"] / requests / 1000,
                    tokens=int(tokens),
                    tokens_per_micro_batch=tokens / max(grown["micro_batches"], 1.0),
                    pad_share=padding / max(tokens + padding, 1.0),
                )
            )
    return tuple(loads)
