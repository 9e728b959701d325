"""Tenants by their keys, their budgets and the ledger: names first, sums for those of the page alone."""

from __future__ import annotations

from functools import partial

from trireme.access.checks import MAX_NAME_BYTES
from trireme.access.tenants import TenantInfo, TenantQuery
from trireme.budget.caps import EACH
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

CONNECTIONS = 2

# The ledger's names one by one through its index, however many rows each has.
FIND = f"""
    WITH RECURSIVE step AS (
        (SELECT tenant FROM trireme.ledger WHERE tenant > %(after)s ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT l.tenant FROM trireme.ledger l WHERE l.tenant > s.tenant ORDER BY l.tenant LIMIT 1)
        FROM step s WHERE s.tenant IS NOT NULL
    ),
    since AS (SELECT timestamptz 'epoch' + %(since)s::bigint * interval '1 millisecond' AS at),
    page AS (
        SELECT tenant FROM (
            SELECT tenant FROM trireme.keys
            UNION SELECT tenant FROM trireme.caps WHERE tenant NOT IN ('', '{EACH}')
            UNION SELECT s.tenant FROM step s, since WHERE EXISTS (
                SELECT FROM trireme.ledger l WHERE l.tenant = s.tenant AND l.reserved_at >= since.at)
        ) AS known
        WHERE tenant > %(after)s AND strpos(lower(tenant), lower(%(part)s)) > 0
        ORDER BY tenant LIMIT %(limit)s
    )
    SELECT p.tenant,
        (SELECT count(*) FROM trireme.keys k WHERE k.tenant = p.tenant AND k.revoked_at IS NULL),
        (SELECT count(*) FROM trireme.caps c WHERE c.tenant = p.tenant),
        used.requests, used.tokens, used.nanos
    FROM page p CROSS JOIN since CROSS JOIN LATERAL (
        SELECT count(DISTINCT hashtextextended(l.request, 0)) AS requests,
            coalesce(sum(l.input_tokens + l.output_tokens), 0) AS tokens, coalesce(sum(l.nanos), 0) AS nanos
        FROM trireme.ledger l WHERE l.tenant = p.tenant AND l.reserved_at >= since.at
    ) AS used
    ORDER BY p.tenant
    """  # noqa: S608 - of constants


class PostgresTenants:
    """A TenantList over the database of keys, budgets and the ledger. Connects at first use."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)

    def find(self, query: TenantQuery) -> list[TenantInfo]:
        """See TenantList.find."""
        after, part = _storable(query.after), _storable(query.part)
        if after is None or part is None:
            return []
        values = {"since": query.since, "part": part, "after": after, "limit": query.limit}
        rows = self._pool.run(
            lambda c: c.execute(FIND.encode(), values).fetchall(), self._pool.timeouts.read_usage
        )
        return [TenantInfo(row[0], *(int(one) for one in row[1:])) for row in rows]

    def close(self) -> None:
        """See TenantList.close."""
        self._pool.close()


def _storable(text: str) -> str | None:
    """None for what stands in no name, and could not be sent."""
    if "\x00" in text or len(text) > MAX_NAME_BYTES:
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    return text


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute("SET jit = off")
