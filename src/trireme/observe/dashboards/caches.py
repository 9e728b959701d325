"""The dashboard of what is spared: cached answers, the semantic cache's promise, cascades, and calls of models."""

from __future__ import annotations

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import Dashboard, Row, panel, quantiles
from trireme.observe.queries import WINDOW, rate, ratio, series, total

STEP = "{{model}} {{step}}"
CALL = "gen_ai_provider_name, gen_ai_request_model"
CALL_LEGEND = "{{gen_ai_provider_name}} {{gen_ai_request_model}}"

CACHES = Dashboard(
    "trireme-caches",
    "Trireme: caches and cascades",
    "What is spared: cached answers, the semantic cache's promise, steps of cascades, and calls of models.",
    (
        Row(
            "Cached answers",
            (
                panel(
                    "Lookups by tier and outcome",
                    total(rate(names.CACHE_REQUESTS), "tier, outcome"),
                    "requests per second",
                    "{{tier}} {{outcome}}",
                ),
                panel(
                    "Tokens that were not computed anew",
                    total(rate(names.CACHE_TOKENS), "tier"),
                    "tokens per second",
                    "{{tier}}",
                ),
                quantiles("A tier's lookup", names.CACHE_SECONDS, "tier"),
            ),
        ),
        Row(
            "Semantic cache",
            (
                panel(
                    "How lookups end",
                    total(rate(names.SEMANTIC_LOOKUPS), "outcome"),
                    "requests per second",
                    "{{outcome}}",
                    width=12,
                ),
                panel(
                    "What it does behind answers",
                    total(rate(names.SEMANTIC_WORK), "outcome"),
                    "per second",
                    "{{outcome}}",
                    width=12,
                ),
                panel(
                    "False hits at most, with 95 %",
                    f"max by (scope) ({series(names.SEMANTIC_UPPER)})",
                    "ratio",
                    "{{scope}}",
                ),
                panel(
                    "Checks that this rests on",
                    # Of all gateways, which share them.
                    f"max by (scope, result) ({series(names.SEMANTIC_CHECKS)})",
                    "count",
                    "{{scope}} {{result}}",
                ),
                panel(
                    "Is it on?",
                    f"min by (scope) ({series(names.SEMANTIC_IS_ON)})",
                    "yes or no",
                    "{{scope}}",
                ),
            ),
        ),
        Row(
            "Cascades",
            (
                panel(
                    "What became of each step",
                    total(rate(names.CASCADE_STEPS), "model, step, outcome"),
                    "requests per second",
                    "{{model}} {{step}} {{outcome}}",
                    width=12,
                ),
                panel(
                    "Share of a step's answers that are shown",
                    ratio(
                        rate(names.CASCADE_STEPS, 'outcome="kept"'), rate(names.CASCADE_STEPS), "model, step"
                    ),
                    "ratio",
                    STEP,
                    width=12,
                ),
                quantiles(
                    "Until it is known whether an answer is shown", names.CASCADE_SECONDS, "model, step"
                ),
                panel(
                    "Steps that are passed over: their calibration is of other models",
                    f"max by (model, step) ({series(names.CASCADE_REFUSED)})",
                    "yes or no",
                    STEP,
                    width=16,
                ),
            ),
        ),
        Row(
            "Calls of models, in OpenTelemetry's names",
            (
                panel(
                    "Tokens of calls",
                    total(f"rate({names.CLIENT_TOKENS.name}_sum[{WINDOW}])", f"{CALL}, gen_ai_token_type"),
                    "tokens per second",
                    CALL_LEGEND + " {{gen_ai_token_type}}",
                    width=12,
                ),
                panel(
                    "Calls by their error",
                    total(f"rate({names.CLIENT_DURATION.name}_count[{WINDOW}])", "error_type"),
                    "requests per second",
                    "{{error_type}}",
                    width=12,
                ),
                quantiles("A call, to the end of its answer", names.CLIENT_DURATION, CALL),
                quantiles("A streamed call, to its first content", names.CLIENT_FIRST_CHUNK, CALL),
                panel(
                    "Spans, by what became of them",
                    total(rate(names.SPANS), "job, outcome"),
                    "per second",
                    "{{job}} {{outcome}}",
                ),
            ),
        ),
    ),
)
