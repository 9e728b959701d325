"""The cost book in PostgreSQL: the ledger in groups, and spans of machines that beats move on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from trireme.budget.ledger import MOST_MODELS, NOT_SERVED, OTHER, REVERSED
from trireme.cost.machines import GAP_SECONDS, Span, cut
from trireme.cost.port import GOOD, NEUTRAL, Beat, Charge, CostBy, CostGroup, CostQuery, Own
from trireme.errors import InvalidInputError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

CONNECTIONS = 4
# Charges that are handed on at a time.
BATCH = 1_000

# Milliseconds, exactly.
_TIME = "timestamptz 'epoch' + {} * interval '1 millisecond'"
_MILLISECONDS = "(extract(epoch FROM {}) * 1000)::bigint"
_SPAN = (
    f"reserved_at >= {_TIME.format('%(start)s::bigint')} AND reserved_at < {_TIME.format('%(end)s::bigint')}"
)
_SCOPE = "(%(tenant)s = '' OR tenant = %(tenant)s) AND (%(user)s = '' OR caller = %(user)s)"
_OWN = "(provider = ANY(%(providers)s::text[]) OR served = ANY(%(targets)s::text[]))"
_ATTEMPTS = f"sum(CASE WHEN right(attempt, {len(REVERSED)}) = '{REVERSED}' THEN -1 ELSE 1 END)"
# As the ledger counts requests: those of two tenants may have one name.
_REQUEST = "hashtextextended(request, hashtextextended(tenant, 0))"
_IS_GOOD = "outcome = ANY(%(good)s::text[])"

_GROUPS: dict[CostBy, str] = {
    "tenant": "tenant",
    "model": "served",
    "step": "step",
    "tier": "tier",
    "release": "coalesce(release, '')",
    "day": "to_char(reserved_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
    "all": "''::text",
}

GROUPS = """
    WITH one AS (
        SELECT {group} AS name, {request} AS request, bool_or({good}) AS good,
            bool_or(outcome <> '{unserved}') AS served,
            bool_or(NOT {good} AND outcome <> ALL(%(neutral)s::text[])) AS bad, {attempts} AS attempts,
            sum(input_tokens) AS input, sum(cached_tokens) AS cached, sum(output_tokens) AS output,
            coalesce(sum(nanos) FILTER (WHERE {own}), 0) AS own,
            coalesce(sum(nanos) FILTER (WHERE NOT {own}), 0) AS other,
            sum(saved_nanos) AS saved, sum(total_ms) AS ms,
            max(total_ms) FILTER (WHERE {good} AND tier = '') AS took,
            min(first_ms) FILTER (WHERE {good} AND tier = '' AND first_ms >= 0) AS first
        FROM trireme.ledger WHERE {scope} AND {span} GROUP BY 1, 2
    ){bound}
    SELECT name, count(*), count(*) FILTER (WHERE good), count(*) FILTER (WHERE bad AND NOT good),
        sum(attempts), sum(input), sum(cached), sum(output), sum(own), sum(other), sum(saved), sum(ms),
        percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY took),
        percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first)
    FROM {counted} GROUP BY name ORDER BY {order}
    """
# A request is in the group of the others once, however many of them it asked.
BOUND = f""",
    known AS (
        SELECT name FROM one GROUP BY name HAVING bool_or(served) OR sum(own + other) <> 0
        ORDER BY sum(own + other) DESC, sum(input + output) DESC, name LIMIT {MOST_MODELS}),
    bounded AS (
        SELECT CASE WHEN name IN (SELECT known.name FROM known) THEN name ELSE '{OTHER}' END AS name, request,
            bool_or(good) AS good, bool_or(bad) AS bad, sum(attempts) AS attempts, sum(input) AS input,
            sum(cached) AS cached, sum(output) AS output, sum(own) AS own, sum(other) AS other,
            sum(saved) AS saved, sum(ms) AS ms, max(took) AS took, min(first) AS first
        FROM one GROUP BY 1, 2)
    """  # noqa: S608 - of constants
_DEAREST = "sum(own + other) DESC, sum(input + output) DESC, name"

_ALIKE = (
    "tenant",
    "caller",
    "endpoint",
    "provider",
    "asked",
    "served",
    "tier",
    "step",
    "coalesce(release, '')",
    "prices",
)
CHARGES = f"""
    SELECT {_MILLISECONDS.format("date_trunc('hour', reserved_at, 'UTC')")}, {", ".join(_ALIKE)}, {_OWN},
        count(DISTINCT {_REQUEST}), {_ATTEMPTS}, sum(input_tokens), sum(cached_tokens), sum(output_tokens),
        sum(nanos), sum(saved_nanos)
    FROM trireme.ledger WHERE {_SCOPE} AND {_SPAN}
    GROUP BY {", ".join(str(place) for place in range(1, len(_ALIKE) + 3))}
    ORDER BY {", ".join(str(place) for place in range(1, len(_ALIKE) + 2))}
    """  # noqa: S608 - of constants

SPANS = f"""
    SELECT machine, kind, release, {_MILLISECONDS.format("began")}, {_MILLISECONDS.format("seen")}
    FROM trireme.machine_spans
    WHERE seen > {_TIME.format("%(start)s::bigint")} AND began < {_TIME.format("%(end)s::bigint")}
    ORDER BY began, machine, id
    """  # noqa: S608 - of constants

# Beats of one machine take turns: two spans at once would be paid for twice.
TURN = "SELECT pg_advisory_xact_lock(hashtextextended(%(machine)s, 7239161006))"
LAST = """
    SELECT id, kind, release, seen FROM trireme.machine_spans
    WHERE machine = %s ORDER BY seen DESC, id DESC LIMIT 1
    """
NOW = f"SELECT coalesce({_TIME.format('%(at)s::bigint')}, date_trunc('milliseconds', clock_timestamp()))"
MOVE_ON = "UPDATE trireme.machine_spans SET seen = %s WHERE id = %s"
BEGIN = """
    INSERT INTO trireme.machine_spans (machine, kind, release, began, seen)
    VALUES (%(machine)s, %(kind)s, %(release)s, %(began)s, %(seen)s)
    """


def _groups_by(by: CostBy) -> str:
    return GROUPS.format(
        group=_GROUPS[by],
        bound=BOUND if by == "model" else "",
        counted="bounded" if by == "model" else "one",
        order="name" if by == "day" else _DEAREST,
        request=_REQUEST,
        good=_IS_GOOD,
        own=_OWN,
        attempts=_ATTEMPTS,
        unserved=NOT_SERVED,
        scope=_SCOPE,
        span=_SPAN,
    )


_STATEMENTS = {by: _groups_by(by) for by in _GROUPS}


class PostgresCosts:
    """A CostBook over the ledger's database. Connects at first use."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)

    def groups(self, query: CostQuery) -> list[CostGroup]:
        """See CostBook.groups."""
        if query.by not in _GROUPS:
            raise InvalidInputError(f"no cost by {query.by[:40]!r}; known: {', '.join(_GROUPS)}", "by")
        values = {**_values(query.start, query.end, query.own, query.tenant, query.user)}
        values |= {"good": list(GOOD), "neutral": list(NEUTRAL)}
        statement = _STATEMENTS[query.by].encode()
        rows = self._pool.run(
            lambda c: c.execute(statement, values).fetchall(), self._pool.timeouts.read_usage
        )
        return [_group(row) for row in rows]

    def charges(
        self, start: int, end: int, own: Own, tenant: str, take: Callable[[Sequence[Charge]], None]
    ) -> None:
        """See CostBook.charges. One snapshot of the ledger; PostgreSQL sorts on its disk what is too much."""
        values = _values(start, end, own, tenant, "")

        def read(connection: DeadlineConnection) -> None:
            # In a transaction: the cursor lives in one.
            with connection.transaction(), connection.cursor("charges") as cursor:
                cursor.execute(CHARGES.encode(), values)
                while rows := cursor.fetchmany(BATCH):
                    take([_charge(row) for row in rows])

        self._pool.run_alone(read, self._pool.timeouts.export_usage)

    def spans(self, start: int, end: int) -> list[Span]:
        """See CostBook.spans."""
        rows = self._pool.run(
            lambda c: c.execute(SPANS.encode(), {"start": start, "end": end}).fetchall(),
            self._pool.timeouts.read_usage,
        )
        return list(cut((Span(*row) for row in rows), start, end))

    def beat(self, beat: Beat) -> None:
        """See CostBook.beat."""
        self._pool.run(partial(_beat, beat), self._pool.timeouts.beat)

    def close(self) -> None:
        """See CostBook.close."""
        self._pool.close()


def _beat(beat: Beat, connection: DeadlineConnection) -> None:
    connection.execute(TURN, {"machine": beat.machine})
    ((now,),) = connection.execute(NOW.encode(), {"at": beat.at}).fetchall()
    began = now
    last = connection.execute(LAST, (beat.machine,)).fetchone()
    if last is not None:
        number, kind, release, seen = last
        is_near = (now - seen).total_seconds() <= GAP_SECONDS
        if is_near and (kind, release) == (beat.kind, beat.release):
            connection.execute(MOVE_ON, (max(now, seen), number))
            return
        # What changed its release was up meanwhile; a clock that went back must not make two spans overlap.
        began = seen if is_near else now
    values = {"machine": beat.machine, "kind": beat.kind, "release": beat.release}
    connection.execute(BEGIN, {**values, "began": began, "seen": max(now, began)})


def _values(start: int, end: int, own: Own, tenant: str, user: str) -> dict[str, Any]:
    return {
        "start": start,
        "end": end,
        "tenant": tenant,
        "user": user,
        "providers": list(own.providers),
        "targets": list(own.targets),
    }


def _group(row: tuple[Any, ...]) -> CostGroup:
    counts = [int(one) for one in row[1:-2]]
    took, first = (None if both is None or both[0] is None else (both[0], both[1]) for both in row[-2:])
    values: tuple[Any, ...] = (row[0], *counts, took, first)
    return CostGroup(*values)


_TEXTS = 1 + len(_ALIKE) + 1
_CHARGE = len(fields(Charge))


def _charge(row: tuple[Any, ...]) -> Charge:
    return Charge(*row[:_TEXTS], *(int(one) for one in row[_TEXTS:_CHARGE]))


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute("SET jit = off")
