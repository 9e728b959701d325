"""Parts of PromQL over the table's rows, and the query of a panel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trireme.observe.metric import Metric

# What Grafana puts its own window in for; four scrapes at least.
WINDOW = "$__rate_interval"

Unit = Literal[
    "seconds",
    "milliseconds",
    "bytes",
    "tokens",
    "tokens per second",
    "requests per second",
    "per second",
    "dollars",
    "dollars per hour",
    "ratio",
    "percent",
    "count",
    "yes or no",
]


@dataclass(frozen=True, slots=True)
class Query:
    """One figure of a panel. legend: Grafana's name of each series, with labels as {{label}}."""

    title: str
    expr: str
    unit: Unit
    legend: str


def rate(metric: Metric, matchers: str = "") -> str:
    """How much a counter grows a second."""
    return f"rate({series(metric, matchers)}[{WINDOW}])"


def increase(metric: Metric, matchers: str = "") -> str:
    """How much a counter grows within the window."""
    return f"increase({series(metric, matchers)}[{WINDOW}])"


def series(metric: Metric, matchers: str = "") -> str:
    """All series of a metric that match."""
    return f"{metric.name}{{{matchers}}}" if matchers else metric.name


def total(expr: str, by: str = "") -> str:
    """The sum by these labels, with commas between them."""
    return f"sum by ({by}) ({expr})" if by else f"sum({expr})"


def ratio(part: str, whole: str, by: str = "") -> str:
    """Sums of a part by those of a whole; nothing where the whole is 0, and 0 where only the part is missing."""
    return f"({total(part, by)} or 0 * {total(whole, by)}) / ({total(whole, by)} > 0)"


def quantile(share: float, metric: Metric, by: str = "", matchers: str = "") -> str:
    """A quantile of a histogram within the window."""
    buckets = f"{metric.name}_bucket{{{matchers}}}" if matchers else f"{metric.name}_bucket"
    grouped = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {total(f'rate({buckets}[{WINDOW}])', grouped)})"
