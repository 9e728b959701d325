"""Panels, rows and variables of dashboards, and what several of them share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trireme.observe import metrics as names
from trireme.observe.queries import Query, Unit, quantile

Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. Its queries have one unit. width: of 24."""

    title: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice at the head of a dashboard: the values of a label, all of them unless some are chosen."""

    name: str
    metric: names.Metric
    label: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One file. uid: unique, and for ever the same: links name it."""

    uid: str
    title: str
    says: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()


def panel(
    title: str, expr: str, unit: Unit, legend: str, *, kind: Kind = "timeseries", width: int = 8
) -> Panel:
    """A panel of one query."""
    return Panel(title, (Query(title, expr, unit, legend),), kind, width)


def of(query: Query, kind: Kind = "timeseries", width: int = 8) -> Panel:
    """A panel of a query that has a title."""
    return Panel(query.title, (query,), kind, width)


def quantiles(title: str, metric: names.Metric, by: str = "", matchers: str = "") -> Panel:
    """The median and the 95th percentile of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    unit: Unit = "milliseconds" if metric.unit == "milliseconds" else "seconds"
    return Panel(
        title,
        tuple(
            Query(title, quantile(share, metric, by, matchers), unit, f"p{share * 100:.0f} {legend}".strip())
            for share in (0.5, 0.95)
        ),
    )


REPLICA = "{{model}}, {{instance}}"
# Requests of people, and those of them that failed by a server's fault.
ANSWERED = 'endpoint!~"healthz|readyz|metrics"'
FAILED = f'{ANSWERED},status=~"5.."'
# What a variable of a dashboard chooses.
CHOSEN_MODEL = 'model=~"$model"'
CHOSEN_TENANT = 'tenant=~"$tenant"'
