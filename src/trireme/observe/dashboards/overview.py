"""The first dashboard: the five figures, and whether anything fails."""

from __future__ import annotations

from trireme.observe import headlines as first
from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import ANSWERED, FAILED, REPLICA, Dashboard, Row, of, panel
from trireme.observe.queries import rate, ratio, total

OVERVIEW = Dashboard(
    "trireme-overview",
    "Trireme: overview",
    "The five figures to look at first, and whether anything fails.",
    (
        Row(
            "What is done",
            (
                of(first.TOKENS),
                panel(
                    "Requests",
                    total(rate(names.REQUESTS, ANSWERED), "endpoint"),
                    "requests per second",
                    "{{endpoint}}",
                ),
                panel(
                    "Requests that end in a server's error",
                    ratio(rate(names.REQUESTS, FAILED), rate(names.REQUESTS, ANSWERED), "endpoint"),
                    "ratio",
                    "{{endpoint}}",
                ),
            ),
        ),
        Row("What waits", (of(first.DEPTH, width=12), of(first.WAIT, width=12))),
        Row(
            "What is used",
            (
                of(first.GPU, width=6),
                of(first.GPU_MEMORY, width=6),
                of(first.CORES, width=6),
                of(first.MEMORY, width=6),
            ),
        ),
        Row("What is spared and spent", (of(first.HITS), of(first.PREFIX_HITS), of(first.COST))),
        Row(
            "What is there",
            (
                panel(
                    "Models ready",
                    f"min by (instance, model) ({names.READY.name})",
                    "yes or no",
                    REPLICA,
                    width=12,
                ),
                panel(
                    "Processes by release",
                    f"count by (process, release) ({names.BUILD_INFO.name})",
                    "count",
                    "{{process}} {{release}}",
                    width=12,
                ),
            ),
        ),
    ),
)
