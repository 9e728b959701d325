"""The dashboard of the workers."""

from __future__ import annotations

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import Dashboard, Row, panel
from trireme.observe.process_metrics import PROCESS_MEMORY
from trireme.observe.queries import rate, ratio, series, total

_INGEST = 'model="ingest"'
_WORKER = 'process="worker"'

INGESTION = Dashboard(
    "trireme-ingestion",
    "Trireme: ingestion",
    "What waits for the workers, how fast they are, and what they take of the encoders.",
    (
        Row(
            "Queue",
            (
                panel("Documents that wait", total(series(names.QUEUE_DEPTH, _INGEST)), "count", "documents"),
                panel("Backlog", total(series(names.BACKLOG, _INGEST)), "seconds", "all workers together"),
                panel(
                    "Passages a second, of workers with enough to do",
                    total(series(names.CAPACITY, _INGEST)),
                    "per second",
                    "all workers",
                ),
            ),
        ),
        Row(
            "Work",
            (
                panel(
                    "Tokens embedded by workers",
                    total(rate(names.MODEL_TOKENS, _INGEST), "instance"),
                    "tokens per second",
                    "{{instance}}",
                ),
                panel(
                    "Seconds of work published, a second",
                    total(rate(names.OFFERED, _INGEST)),
                    "count",
                    "workers' time",
                ),
                panel(
                    "Workers' share of a model's work",
                    ratio(rate(names.BULK), rate(names.OFFERED, 'model!="ingest"'), "model"),
                    "ratio",
                    "{{model}}",
                ),
                panel(
                    "Workers",
                    f"count by (release) ({series(names.BUILD_INFO, _WORKER)})",
                    "count",
                    "{{release}}",
                ),
                panel(
                    "Memory of workers",
                    f"{PROCESS_MEMORY.name} and on (instance) {series(names.BUILD_INFO, _WORKER)}",
                    "bytes",
                    "{{instance}}",
                ),
            ),
        ),
    ),
)
