"""Our own wire of cost and releases: /v1/cost, /v1/releases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from trireme.budget.dollars import write_dollars
from trireme.budget.periods import read_period, write_time
from trireme.cost.machines import HOUR
from trireme.cost.port import COST_BY, CostBy, CostQuery, Own
from trireme.cost.releases import ReleaseInfo, quality_of
from trireme.cost.report import CostLine, CostReport, per_million_tokens, per_success
from trireme.errors import InvalidInputError


def read_cost(query: Mapping[str, str], own: Own, tenant: str, user: str) -> CostQuery:
    """What GET /v1/cost asks for, of this tenant and user. Raises InvalidInputError that names the parameter."""
    start, end = read_period(query.get("since", ""), query.get("until", ""))
    return CostQuery(start, end, read_by(query.get("by", "model")), own, tenant, user)


def read_by(text: str) -> CostBy:
    """By what cost is grouped. Raises InvalidInputError."""
    for by in COST_BY:
        if text == by:
            return by
    raise InvalidInputError(f"by must be one of {', '.join(COST_BY)}, got {text[:40]!r}", "by")


def cost_body(report: CostReport, tenant: str = "", user: str = "") -> dict[str, Any]:
    """The answer to GET /v1/cost. Of one tenant nothing is said of machines: an idle one is nobody's."""
    return {
        "object": "cost",
        "by": report.by,
        "tenant": tenant or None,
        "user": user or None,
        "since": write_time(report.start),
        "until": write_time(report.end),
        "bill_dollars": write_dollars(report.bill_nanos),
        "unexplained_dollars": write_dollars(report.unexplained_nanos),
        "machines": None
        if tenant
        else [
            {
                "kind": line.kind,
                "hours": line.milliseconds / HOUR,
                "dollars": write_dollars(line.nanos),
                "is_priced": line.is_priced,
            }
            for line in report.machines
        ],
        "data": [line_body(line) for line in report.lines],
        "total": line_body(report.total),
    }


def line_body(line: CostLine) -> dict[str, Any]:
    """One line. Amounts are texts, which lose no digit."""
    group = line.group
    has_machines = line.idle_nanos is not None
    return {
        "name": group.name,
        "requests": group.requests,
        "succeeded": group.succeeded,
        "failed": group.failed,
        "attempts": group.attempts,
        "input_tokens": group.input_tokens,
        "cached_tokens": group.cached_tokens,
        "output_tokens": group.output_tokens,
        "attempt_seconds": group.milliseconds / 1000,
        "machine_seconds": line.machine_milliseconds / 1000 if has_machines else None,
        "own_dollars": write_dollars(group.own_nanos),
        "provider_dollars": write_dollars(group.provider_nanos),
        "usage_dollars": write_dollars(line.usage_nanos),
        "idle_dollars": write_dollars(line.idle_nanos) if line.idle_nanos is not None else None,
        "allocation_dollars": write_dollars(line.allocation_nanos) if has_machines else None,
        "saved_dollars": write_dollars(group.saved_nanos),
        "dollars_per_success": {
            "usage": _each(per_success(line.usage_nanos, group)),
            "allocation": _each(per_success(line.allocation_nanos, group)) if has_machines else None,
        },
        "dollars_per_million_tokens": _each(per_million_tokens(line.usage_nanos, group)),
        "answer_ms": _percentiles(group.took),
        "first_content_ms": _percentiles(group.first),
    }


def releases_body(releases: Sequence[ReleaseInfo], report: CostReport) -> dict[str, Any]:
    """The answer to GET /v1/releases: those deployed, and those that have cost in the time without being noted."""
    lines = {line.group.name: line for line in report.lines}
    unknown = [name for name in lines if name not in {one.name for one in releases}]
    return {
        "object": "list",
        "since": write_time(report.start),
        "until": write_time(report.end),
        "data": [_release(one, lines.get(one.name)) for one in releases]
        + [_release(ReleaseInfo(name, "", "", (), {}), lines[name]) for name in unknown],
    }


def _release(info: ReleaseInfo, line: CostLine | None) -> dict[str, Any]:
    return {
        "object": "release",
        "name": info.name,
        "version": info.version,
        "revision": info.revision,
        "deployed": [write_time(at) for at in info.deployed],
        "notes": [{"at": write_time(note.at), "text": note.note} for note in info.notes],
        "models": {name: facts.get("digest", "") for name, facts in info.models.items()},
        "quality": quality_of(info),
        "cost": line_body(line) if line is not None else None,
    }


def _each(nanos: Fraction | None) -> str | None:
    return None if nanos is None else write_dollars(round(nanos))


def _percentiles(both: tuple[int, int] | None) -> dict[str, int] | None:
    return None if both is None else {"p50": both[0], "p95": both[1]}
