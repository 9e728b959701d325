"""Dashboards as Grafana's JSON, which it imports as they are. Types: @grafana/schema 13, raw/dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from trireme.observe import metrics as names
from trireme.observe.dashboards.panels import Dashboard, Panel, Variable
from trireme.observe.queries import Query, Unit

SCHEMA_VERSION = 41
COLUMNS, HEIGHT, ROW_HEIGHT = 24, 8, 1
# The user chooses at the head of the dashboard which Prometheus is asked.
SOURCE = MappingProxyType({"type": "prometheus", "uid": "${datasource}"})
UNITS: Mapping[Unit, str] = MappingProxyType(
    {
        "seconds": "s",
        "milliseconds": "ms",
        "bytes": "bytes",
        "tokens": "short",
        "tokens per second": "suffix: tok/s",
        "requests per second": "reqps",
        "per second": "suffix:/s",
        "dollars": "currencyUSD",
        "dollars per hour": "prefix:$/h ",
        "ratio": "percentunit",
        "percent": "percent",
        "count": "short",
        "yes or no": "bool_yes_no",
    }
)
# A build's series is always 1: a deploy is a series that was not there before.
_BUILDS = f"count by (process, release) ({names.BUILD_INFO.name})"
DEPLOYS = f"{_BUILDS} unless {_BUILDS.replace(names.BUILD_INFO.name, names.BUILD_INFO.name + ' offset 2m')}"


def write_dashboard(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(to_grafana(dashboard), indent=1, ensure_ascii=False) + "\n"


def to_grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as Grafana's model of it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row in dashboard.rows:
        panels.append(
            {
                "type": "row",
                "id": len(panels) + 1,
                "title": row.title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": ROW_HEIGHT},
            }
        )
        top += ROW_HEIGHT
        left = 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top = 0, top + HEIGHT
            place = {"x": left, "y": top, "w": panel.width, "h": HEIGHT}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_panel(panel)})
            left += panel.width
        top += HEIGHT
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.says,
        "tags": ["trireme"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "timezone": "",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "links": [_links()],
        "annotations": {"list": [_deploys()]},
        "templating": {"list": [_datasource(), *map(_variable, dashboard.variables)]},
        "panels": panels,
    }


def _panel(panel: Panel) -> dict[str, Any]:
    unit = UNITS[panel.queries[0].unit]
    options: dict[str, Any] = _OPTIONS[panel.kind]
    custom = {"fillOpacity": 10, "showPoints": "never"} if panel.kind == "timeseries" else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": _description(panel.queries),
        "datasource": dict(SOURCE),
        "targets": [
            _target(query, letter, panel.kind) for query, letter in zip(panel.queries, "ABCD", strict=False)
        ],
        "fieldConfig": {"defaults": {"unit": unit, "custom": custom}, "overrides": []},
        "options": options,
        # Columns of a table are labels; which time it was says nothing.
        **({"transformations": _WITHOUT_TIME} if panel.kind == "table" else {}),
    }


_TIMESERIES = {
    "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
    "tooltip": {"mode": "multi", "sort": "desc"},
}
_STAT = {
    "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    "colorMode": "none",
    "graphMode": "area",
    "textMode": "auto",
}
_TABLE = {"showHeader": True, "cellHeight": "sm"}
_OPTIONS: Mapping[str, dict[str, Any]] = {"timeseries": _TIMESERIES, "stat": _STAT, "table": _TABLE}
_WITHOUT_TIME = [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]


def _target(query: Query, letter: str, kind: str) -> dict[str, Any]:
    is_table = kind == "table"
    return {
        "refId": letter,
        "datasource": dict(SOURCE),
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": not is_table,
        "instant": is_table,
        "format": "table" if is_table else "time_series",
    }


def _description(queries: Iterable[Query]) -> str:
    """What the metrics of a panel are, in the words of the table."""
    known = names.every_metric()
    found: dict[str, str] = {}
    for query in queries:
        for word in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", query.expr):
            name = word if word in known else re.sub(r"_(bucket|sum|count)$", "", word)
            if name in known:
                found.setdefault(name, f"{name}: {known[name].help}")
    return "\n\n".join(found.values())


def _datasource() -> dict[str, Any]:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
    }


def _variable(variable: Variable) -> dict[str, Any]:
    query = f"label_values({variable.metric.name}, {variable.label})"
    return {
        "name": variable.name,
        "type": "query",
        "datasource": dict(SOURCE),
        "query": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"], "selected": True},
    }


def _deploys() -> dict[str, Any]:
    return {
        "name": "deploys",
        "datasource": dict(SOURCE),
        "enable": True,
        "iconColor": "blue",
        "expr": DEPLOYS,
        "step": "60s",
        "titleFormat": "{{release}}",
        "textFormat": "{{process}}",
    }


def _links() -> dict[str, Any]:
    return {
        "type": "dashboards",
        "title": "Trireme",
        "tags": ["trireme"],
        "asDropdown": True,
        "includeVars": False,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }
