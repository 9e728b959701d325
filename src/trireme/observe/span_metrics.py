"""The table of metrics of spans that are sent to a collector."""

from __future__ import annotations

from trireme.observe.metric import Metric

__all__ = ["MODEL_SPANS", "SPANS", "SPAN_OUTCOMES"]

# Fields of SpanCounts.
SPAN_OUTCOMES = ("sent", "dropped", "failed")

SPANS = Metric(
    "trireme_spans_total",
    "counter",
    "spans by what became of them: sent, dropped (more waited than may), failed (the collector did not take them)",
    ("outcome",),
    when="where spans are sent to a collector",
)
MODEL_SPANS = Metric(
    "trireme_model_spans_total",
    "counter",
    "as trireme_spans_total, of the model's process",
    ("model", "instance", "outcome"),
    when="where spans of models are sent to a collector",
)
