"""The dashboard of embedding, reranking and search."""

from __future__ import annotations

from trireme.observe import headlines as first
from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import ANSWERED, REPLICA, Dashboard, Row, of, panel, quantiles
from trireme.observe.queries import rate, ratio, total

_PADS, _TOKENS = (total(rate(row), "model") for row in (names.ENCODER_PADS, names.ENCODER_TOKENS))

RETRIEVAL = Dashboard(
    "trireme-retrieval",
    "Trireme: retrieval",
    "Embedding, reranking and search, and the caches before them.",
    (
        Row(
            "Encoders",
            (
                panel(
                    "Tokens run",
                    total(rate(names.ENCODER_TOKENS), "instance, model"),
                    "tokens per second",
                    REPLICA,
                ),
                panel(
                    "Padding, as a share of all that is run",
                    f"{_PADS} / ({_PADS} + {_TOKENS} > 0)",
                    "ratio",
                    "{{model}}",
                ),
                panel(
                    "Tokens of a micro-batch",
                    ratio(rate(names.ENCODER_TOKENS), rate(names.MICRO_BATCHES), "model"),
                    "tokens",
                    "{{model}}",
                ),
            ),
        ),
        Row(
            "Requests",
            (
                panel(
                    "Requests by model",
                    total(rate(names.TRITON_SUCCEEDED), "model"),
                    "requests per second",
                    "{{model}}",
                ),
                panel(
                    "Errors by code",
                    total(rate(names.FAILURES), "model, code"),
                    "requests per second",
                    "{{model}} {{code}}",
                ),
                panel(
                    "Seconds of a request of an encoder, mean",
                    ratio(rate(names.ENCODER_SECONDS), rate(names.TRITON_SUCCEEDED), "model"),
                    "seconds",
                    "{{model}}",
                ),
                of(first.DEPTH),
                of(first.WAIT),
                panel(
                    "Requests that wait in Triton's own queue",
                    total(names.TRITON_PENDING.name, "model"),
                    "count",
                    "{{model}}",
                ),
                quantiles("Seconds of a request at the gateway", names.DURATION, "endpoint", ANSWERED),
            ),
        ),
        Row(
            "Caches",
            (
                of(first.HITS),
                panel(
                    "Lookups by outcome",
                    total(rate(names.CACHE_REQUESTS), "tier, outcome"),
                    "requests per second",
                    "{{tier}} {{outcome}}",
                ),
                quantiles("Seconds of a lookup", names.CACHE_SECONDS, "tier"),
            ),
        ),
    ),
)
