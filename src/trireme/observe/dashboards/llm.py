"""The dashboard of generation."""

from __future__ import annotations

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import (
    CHOSEN_MODEL,
    REPLICA,
    Dashboard,
    Row,
    Variable,
    panel,
    quantiles,
)
from trireme.observe.queries import increase, rate, ratio, series, total

LLM = Dashboard(
    "trireme-llm",
    "Trireme: LLM",
    "Generation: speed, waiting, the KV cache, how answers end.",
    (
        Row(
            "Speed",
            (
                panel(
                    "Tokens written",
                    total(rate(names.GENERATION_TOKENS, CHOSEN_MODEL), "instance, model"),
                    "tokens per second",
                    REPLICA,
                ),
                panel(
                    "Tokens read",
                    total(rate(names.PROMPT_TOKENS, CHOSEN_MODEL), "instance, model"),
                    "tokens per second",
                    REPLICA,
                ),
                panel(
                    "Measured capacity, output tokens a second",
                    total(series(names.CAPACITY, CHOSEN_MODEL), "instance, model"),
                    "tokens per second",
                    REPLICA,
                ),
                quantiles("To the first token", names.FIRST_TOKEN, "model", CHOSEN_MODEL),
                quantiles("Between two tokens", names.PER_TOKEN, "model", CHOSEN_MODEL),
                quantiles("To the last token", names.ANSWER_TIME, "model", CHOSEN_MODEL),
            ),
        ),
        Row(
            "Waiting",
            (
                panel(
                    "Answers being written",
                    total(series(names.DECODING, CHOSEN_MODEL), "instance, model"),
                    "count",
                    REPLICA,
                ),
                panel(
                    "Requests that wait for a place",
                    total(series(names.LLM_WAITING, CHOSEN_MODEL), "instance, model"),
                    "count",
                    REPLICA,
                ),
                panel(
                    "Backlog",
                    total(series(names.BACKLOG, CHOSEN_MODEL), "instance, model"),
                    "seconds",
                    REPLICA,
                ),
            ),
        ),
        Row(
            "Cache and ends",
            (
                panel(
                    "KV cache in use",
                    f"max by (instance, model) ({series(names.KV_USAGE, CHOSEN_MODEL)})",
                    "ratio",
                    REPLICA,
                ),
                panel(
                    "Prefix cache: share of tokens found",
                    ratio(
                        rate(names.PREFIX_HITS, CHOSEN_MODEL),
                        rate(names.PREFIX_QUERIES, CHOSEN_MODEL),
                        "instance, model",
                    ),
                    "ratio",
                    REPLICA,
                ),
                panel(
                    "How answers end",
                    total(rate(names.ANSWERS, CHOSEN_MODEL), "model, finished_reason"),
                    "requests per second",
                    "{{model}} {{finished_reason}}",
                ),
                panel(
                    "Starts of the engine after a failure",
                    total(increase(names.ENGINE_RESTARTS, CHOSEN_MODEL), "instance, model"),
                    "count",
                    REPLICA,
                ),
                quantiles("To the first content of a stream, at the gateway", names.FIRST, "endpoint"),
                panel(
                    "Tokens by kind, as providers count them",
                    total(rate(names.TOKENS), "model, kind"),
                    "tokens per second",
                    "{{model}} {{kind}}",
                ),
            ),
        ),
    ),
    (Variable("model", names.DECODING, "model"),),
)
