"""Our own wire of budgets and usage: /v1/budgets, /v1/usage."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, get_args

import msgspec

from trireme.budget.caps import MOST, WINDOWS, Cap, Window
from trireme.budget.dollars import read_dollars, write_dollars
from trireme.budget.forecast import Forecast, forecast
from trireme.budget.ledger import UsageBy, UsageQuery, UsageRow
from trireme.budget.periods import read_period, write_time
from trireme.budget.port import Counter
from trireme.budget.standing import Place, place_of
from trireme.errors import InvalidInputError
from trireme.gateway.wire.shapes import shape

USAGE_BY: tuple[UsageBy, ...] = get_args(UsageBy)
# Of one answer: a week of minutes.
MOST_MINUTES = 10_080
_Name = Annotated[str, msgspec.Meta(min_length=1)]
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _Budget(msgspec.Struct, forbid_unknown_fields=True):
    window: Window
    tenant: _Name | None = None
    user: _Name | None = None
    tokens: _Tokens | None = None
    dollars: Any = None


def read_budget(body: Mapping[str, Any]) -> Cap:
    """The cap of a body of PUT /v1/budgets. Raises InvalidInputError that names the field."""
    given = shape(body, _Budget)
    nanos = None if given.dollars is None else _nanos(given.dollars)
    if given.tokens is None and nanos is None:
        raise InvalidInputError("send tokens, dollars or both; DELETE /v1/budgets removes a budget", "tokens")
    return Cap(given.tenant or "", given.user or "", given.window, given.tokens, nanos)


def budget_id(cap: Cap) -> str:
    """Names a budget in pages: its tenant, user and window."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place_of(cap))).decode().rstrip("=")


def after(caps: Iterable[Cap], last: str) -> list[Cap]:
    """Those behind the budget of the id `last`, also where that is gone; all for "". Raises InvalidInputError."""
    if not last:
        return list(caps)
    try:
        raw = base64.b64decode(last + "=" * (-len(last) % 4), altchars=b"-_", validate=True)
        tenant, user, window = msgspec.json.decode(raw, type=tuple[str, str, Window])
    except (ValueError, msgspec.MsgspecError):
        raise InvalidInputError(
            "after is no id of a budget; send the last_id of the page before", "after"
        ) from None
    place = tenant, user, WINDOWS.index(window)
    return [cap for cap in caps if (cap.tenant, cap.user, WINDOWS.index(cap.window)) > place]


def read_window(query: Mapping[str, str]) -> Window:
    """The window that a query names. Raises InvalidInputError."""
    for window in WINDOWS:
        if query.get("window") == window:
            return window
    raise InvalidInputError(f"window must be one of {', '.join(WINDOWS)}", "window")


def read_usage(query: Mapping[str, str], tenant: str, user: str) -> UsageQuery:
    """What GET /v1/usage asks for, of this tenant and user. Raises InvalidInputError that names the parameter."""
    by = read_by(query.get("by", "day"))
    start, end = read_period(query.get("since", ""), query.get("until", ""))
    if by == "minute" and end - start > MOST_MINUTES * 60_000:
        raise InvalidInputError(
            f"by=minute takes at most {MOST_MINUTES} minutes; send a later since or an earlier until", "since"
        )
    return UsageQuery(start, end, by, tenant, user)


def read_by(text: str) -> UsageBy:
    """By what usage is grouped. Raises InvalidInputError."""
    for by in USAGE_BY:
        if text == by:
            return by
    raise InvalidInputError(f"by must be one of {', '.join(USAGE_BY)}, got {text[:40]!r}", "by")


def budget_body(cap: Cap, counters: Mapping[Place, Counter] | None = None, now: int = 0) -> dict[str, Any]:
    """A budget; with `counters` also what is spent and held of it, and what will be; null where it is not known.

    now: milliseconds (Unix)."""
    body: dict[str, Any] = {
        "object": "budget",
        "level": cap.level,
        "tenant": cap.tenant or None,
        "user": cap.user or None,
        "window": cap.window,
        "tokens": cap.tokens,
        "dollars": None if cap.nanos is None else write_dollars(cap.nanos),
    }
    if counters is not None:
        one = counters.get(place_of(cap))
        body["spent"] = one and _amounts(one.spent_tokens, one.spent_nanos)
        body["held"] = one and _amounts(one.held_tokens, one.held_nanos)
        body["forecast"] = one and forecast_body(forecast(cap, one, now))
    return body


def forecast_body(found: Forecast) -> dict[str, Any]:
    """What will be of a budget, in the unit that is used up first."""
    amount = write_dollars if found.unit == "nanos" else int
    return {
        "unit": "dollars" if found.unit == "nanos" else "tokens",
        "used": round(float(found.used), 6),
        "at_end": None if found.at_end is None else amount(found.at_end),
        "exhausted_at": None if found.exhausted_at is None else write_time(found.exhausted_at),
        "ends_at": write_time(found.ends_at),
    }


def deleted_body(cap: Cap) -> dict[str, Any]:
    """The answer to DELETE /v1/budgets."""
    return {
        "object": "budget.deleted",
        "tenant": cap.tenant or None,
        "user": cap.user or None,
        "window": cap.window,
        "deleted": True,
    }


def usage_body(query: UsageQuery, rows: Sequence[UsageRow], requests: int) -> dict[str, Any]:
    """The answer to GET /v1/usage. requests: of all groups, one in several counted once."""
    return {
        "object": "usage",
        "by": query.by,
        "tenant": query.tenant or None,
        "user": query.user or None,
        "since": write_time(query.start),
        "until": write_time(query.end),
        "data": [_usage(row) for row in rows],
        "total": _usage(total_of(rows, requests)),
    }


def total_of(rows: Sequence[UsageRow], requests: int) -> UsageRow:
    """All groups as one."""
    return UsageRow(
        "total",
        requests,
        sum(row.attempts for row in rows),
        sum(row.input_tokens for row in rows),
        sum(row.cached_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        sum(row.nanos for row in rows),
        sum(row.saved_nanos for row in rows),
    )


def _usage(row: UsageRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "requests": row.requests,
        "attempts": row.attempts,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "dollars": write_dollars(row.nanos),
        "saved_dollars": write_dollars(row.saved_nanos),
    }


def _amounts(tokens: int, nanos: int) -> dict[str, Any]:
    return {"tokens": tokens, "dollars": write_dollars(nanos)}


def _nanos(dollars: Any) -> int:
    if isinstance(dollars, int) and not isinstance(dollars, bool):
        return read_dollars(str(dollars)[:40])
    if isinstance(dollars, str):
        return read_dollars(dollars)
    raise InvalidInputError('dollars must be a text such as "2.50", which loses no digit', "dollars")
