"""The ledger in PostgreSQL: a batch is appended by one statement, and summed by its indexes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from trireme.budget.ledger import (
    MOST_FOUND,
    MOST_MODELS,
    NOT_SERVED,
    OTHER,
    REVERSED,
    LedgerRow,
    Recorded,
    Sum,
    SumQuery,
    UsageBy,
    UsageQuery,
    UsageRow,
)
from trireme.errors import InvalidInputError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate, require_current
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

# Field of a row -> its column, in the order of the table. The rest are as they are called.
_RENAMED = {"user": "caller", "key": "key_id", "at": "reserved_at"}
_COUNTS = frozenset(("at", "nanos", "saved_nanos", "held_tokens", "held_nanos", "first_ms", "total_ms")) | {
    f"{kind}_tokens" for kind in ("input", "cached", "cache_write", "output", "reasoning")
}
_FIELDS = tuple(LedgerRow.__dataclass_fields__)
_COLUMNS = ", ".join(_RENAMED.get(name, name) for name in _FIELDS)
_ARRAYS = ", ".join(f"%s::{'bigint' if name in _COUNTS else 'text'}[]" for name in _FIELDS)
# Milliseconds, exactly.
_TIME = "timestamptz 'epoch' + {} * interval '1 millisecond'"
_VALUES = ", ".join(_TIME.format("at") if name == "at" else f'"{name}"' for name in _FIELDS)
_NAMES = ", ".join(f'"{name}"' for name in _FIELDS)

# The first of equal attempts within one batch is kept.
RECORD = f"""
    INSERT INTO trireme.ledger ({_COLUMNS}, epoch, seq)
    SELECT {_VALUES}, epoch, seq FROM unnest({_ARRAYS}, %s::text[], %s::bigint[]) AS r ({_NAMES}, epoch, seq)
    ON CONFLICT (attempt) DO NOTHING
    """  # noqa: S608 - of constants

# What rows are grouped by; a time in UTC, whatever the session's zone is.
_TIME_OF = "date_trunc('{}', reserved_at AT TIME ZONE 'UTC')"
_GROUPS: dict[UsageBy, str] = {
    "minute": _TIME_OF.format("minute"),
    "day": _TIME_OF.format("day"),
    "month": _TIME_OF.format("month"),
    "model": f"CASE WHEN served IN (SELECT known.name FROM known) THEN served ELSE '{OTHER}' END",  # noqa: S608 - of constants
    "user": "caller",
    "tenant": "tenant",
    "outcome": "outcome",
    "tier": "tier",
}
# How a group of time is written.
_FORMATS: dict[UsageBy, str] = {"minute": 'YYYY-MM-DD"T"HH24:MI"Z"', "day": "YYYY-MM-DD", "month": "YYYY-MM"}

_SCOPE = "(%(tenant)s = '' OR tenant = %(tenant)s) AND (%(user)s = '' OR caller = %(user)s)"
_SPAN = (
    f"reserved_at >= {_TIME.format('%(start)s::bigint')} AND reserved_at < {_TIME.format('%(end)s::bigint')}"
)

# Clients may name their requests: two tenants may use one name. By 64 bits of each: among a million requests two
# are taken for one with a chance of 1 in 37 million.
USAGE = """
    {known} SELECT {name}, count(DISTINCT hashtextextended(request, hashtextextended(tenant, 0))),
        sum(CASE WHEN right(attempt, {signs}) = '{reversed}' THEN -1 ELSE 1 END),
        sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(nanos), sum(saved_nanos)
    FROM trireme.ledger WHERE {scope} AND {span} GROUP BY {group} ORDER BY {order}
    """
_DEAREST = "sum(nanos) DESC, sum(input_tokens + output_tokens) DESC, 1"
# The models that have a group of their own.
_KNOWN = f"""
    WITH known AS MATERIALIZED (
        SELECT served AS name FROM trireme.ledger WHERE {_SCOPE} AND {_SPAN} GROUP BY served
        HAVING bool_or(outcome <> '{NOT_SERVED}') OR sum(nanos) <> 0
        ORDER BY sum(nanos) DESC, sum(input_tokens + output_tokens) DESC, 1 LIMIT {MOST_MODELS})
    """  # noqa: S608 - of constants

SUM = f"""
    SELECT coalesce(sum(input_tokens + output_tokens), 0), coalesce(sum(nanos), 0)
    FROM trireme.ledger WHERE {_SCOPE} AND {_SPAN} AND NOT (epoch = %(epoch)s AND seq > %(seq)s)
    """  # noqa: S608 - of constants

# Rows of versions before have no release.
_READ = {"at": "(extract(epoch FROM reserved_at) * 1000)::bigint", "release": "coalesce(release, '')"}
FIND = f"""
    SELECT {", ".join(_READ.get(name, _RENAMED.get(name, name)) for name in _FIELDS)} FROM (
        SELECT * FROM trireme.ledger WHERE request = %(request)s AND {_SCOPE}
        ORDER BY reserved_at DESC LIMIT {MOST_FOUND}) AS latest
    ORDER BY reserved_at, attempt
    """  # noqa: S608 - of constants


def _usage_by(by: UsageBy) -> str:
    group, form = _GROUPS[by], _FORMATS.get(by)
    name, order = (f"to_char({group}, '{form}')", group) if form else (group, _DEAREST)
    return USAGE.format(
        known=_KNOWN if by == "model" else "",
        name=name,
        group=group,
        order=order,
        scope=_SCOPE,
        span=_SPAN,
        reversed=REVERSED,
        signs=len(REVERSED),
    )


_USAGES = {by: _usage_by(by) for by in _GROUPS}

# Of those who ask.
CONNECTIONS = 4
# Of recording and of comparing with counters, which wait for nobody's long question.
RECORDING_CONNECTIONS = 2
# Of looking up one request, which takes milliseconds.
FINDING_CONNECTIONS = 2


class PostgresLedger:
    """A Ledger beside PostgresCaps, on the same database. Connects at first use.

    What PostgreSQL cannot store in a text, NUL and half surrogate pairs, is kept as U+FFFD and "?".
    """

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS, *, is_own: bool = True) -> None:
        """is_own: else another region's, which is migrated there and not here."""
        configure = partial(_configure, timeouts, is_own)
        self._pool = ConnectionPool(url, CONNECTIONS, configure, timeouts)
        self._recording = ConnectionPool(url, RECORDING_CONNECTIONS, configure, timeouts)
        self._finding = ConnectionPool(url, FINDING_CONNECTIONS, configure, timeouts)

    def record(self, rows: Sequence[Recorded]) -> int:
        """See Ledger.record."""
        if not rows:
            return 0
        # Two batches that share attempts take them in one order, or each would wait for the other.
        rows = sorted(rows, key=lambda one: one.row.attempt)
        columns = [_column(name, rows) for name in _FIELDS]
        columns += [[_clean(one.epoch) for one in rows], [one.seq for one in rows]]
        return self._recording.run(
            lambda c: c.execute(RECORD.encode(), columns).rowcount, self._recording.timeouts.record_usage
        )

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        """See Ledger.usage. Raises InvalidInputError for a `by` that nothing is grouped by."""
        if query.by not in _GROUPS:
            raise InvalidInputError(f"no usage by {query.by[:40]!r}; known: {', '.join(_GROUPS)}", "by")
        rows = _ask(self._pool, _USAGES[query.by], query)
        return [UsageRow(row[0], *(int(one) for one in row[1:])) for row in rows]

    def sum(self, query: SumQuery) -> Sum:
        """See Ledger.sum."""
        # One that is compared with nothing is a question of somebody's.
        pool = self._recording if query.epoch else self._pool
        ((tokens, nanos),) = _ask(pool, SUM, query, epoch=_clean(query.epoch), seq=query.seq)
        return Sum(int(tokens), int(nanos))

    def find(self, request: str, tenant: str = "", user: str = "") -> list[LedgerRow]:
        """See Ledger.find."""
        values = {"request": _clean(request), "tenant": _clean(tenant), "user": _clean(user)}
        rows = self._finding.run(
            lambda c: c.execute(FIND.encode(), values).fetchall(), self._finding.timeouts.find_request
        )
        return [LedgerRow(*row) for row in rows]

    def close(self) -> None:
        """See Ledger.close."""
        self._pool.close()
        self._recording.close()
        self._finding.close()


def _ask(
    pool: ConnectionPool, statement: str, query: UsageQuery | SumQuery, **more: Any
) -> list[tuple[Any, ...]]:
    values = {
        "tenant": _clean(query.tenant),
        "user": _clean(query.user),
        "start": query.start,
        "end": query.end,
        **more,
    }
    return pool.run(lambda c: c.execute(statement.encode(), values).fetchall(), pool.timeouts.read_usage)


def _column(name: str, rows: Sequence[Recorded]) -> list[Any]:
    values = [getattr(one.row, name) for one in rows]
    return values if name in _COUNTS else [_clean(value) for value in values]


def _clean(text: str) -> str:
    # A row that cannot be stored would keep all behind it waiting.
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def _configure(timeouts: Timeouts, is_own: bool, connection: DeadlineConnection) -> None:
    if is_own:
        migrate(connection, seconds=timeouts.migrate)
    else:
        require_current(connection)
    connection.execute("SET jit = off")
