"""Caps in PostgreSQL: a row for each tenant, user and window, read whole when their revision rises."""

from __future__ import annotations

from functools import partial
from typing import Any

from trireme.access.checks import check_tenant
from trireme.budget.caps import Cap, CapSet
from trireme.budget.checks import check_cap
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate, require_current
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

# Changes take turns from here to their commit.
LOCK = "SELECT FROM trireme.cap_revision FOR UPDATE"

# Microseconds of the clock where they are more: a database that was put back from a copy, or another one at the
# same URL, has no revision that was read before.
BUMP = """
    UPDATE trireme.cap_revision
    SET revision = greatest(revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    """

PUT = """
    INSERT INTO trireme.caps AS old (tenant, caller, period, tokens, nanos)
    VALUES (%(tenant)s, %(user)s, %(window)s, %(tokens)s, %(nanos)s)
    ON CONFLICT (tenant, caller, period) DO UPDATE SET tokens = EXCLUDED.tokens, nanos = EXCLUDED.nanos
    WHERE (old.tokens, old.nanos) IS DISTINCT FROM (EXCLUDED.tokens, EXCLUDED.nanos)
    RETURNING period
    """

REMOVE = """
    DELETE FROM trireme.caps WHERE tenant = %(tenant)s AND caller = %(user)s AND period = %(window)s
    RETURNING period
    """

COLUMNS = "c.tenant, c.caller, c.period, c.tokens, c.nanos"
# '' comes first: the gateway's, then a tenant's before its users'.
ORDER = "c.tenant, c.caller, array_position(ARRAY['minute', 'day', 'month'], c.period::text)"

FIND = f"""
    SELECT {COLUMNS} FROM trireme.caps c WHERE %(tenant)s = '' OR c.tenant = %(tenant)s ORDER BY {ORDER}
    """  # noqa: S608 - of constants

# One statement sees one snapshot. Without any cap it is one row of NULLs.
READ = f"""
    SELECT r.revision, {COLUMNS} FROM trireme.cap_revision r LEFT JOIN trireme.caps c ON true
    WHERE r.revision <> %s ORDER BY {ORDER}
    """  # noqa: S608 - of constants

CONNECTIONS = 2


class PostgresCaps:
    """A CapStore beside PostgresKeys, on the same database. Connects at first use."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS, *, is_own: bool = True) -> None:
        """is_own: else another region's, which is migrated there and not here."""
        configure = partial(_configure, timeouts, is_own)
        self._pool = ConnectionPool(url, CONNECTIONS, configure, timeouts)

    def put(self, cap: Cap) -> None:
        """See CapStore.put."""
        check_cap(cap)
        statement = REMOVE if cap.tokens is None and cap.nanos is None else PUT
        values = {
            "tenant": cap.tenant,
            "user": cap.user,
            "window": cap.window,
            "tokens": cap.tokens,
            "nanos": cap.nanos,
        }

        def work(connection: DeadlineConnection) -> None:
            connection.execute(LOCK)
            if connection.execute(statement, values).fetchone() is not None:
                connection.execute(BUMP)

        self._pool.run(work, self._pool.timeouts.caps)

    def find(self, tenant: str = "") -> list[Cap]:
        """See CapStore.find. Raises InvalidInputError for a name that no tenant can have."""
        if tenant:
            check_tenant(tenant)
        rows = self._pool.run(
            lambda c: c.execute(FIND, {"tenant": tenant}).fetchall(), self._pool.timeouts.caps
        )
        return [Cap(*row) for row in rows]

    def read(self, revision: int) -> CapSet | None:
        """See CapStore.read."""
        rows: list[tuple[Any, ...]] = self._pool.run(
            lambda c: c.execute(READ, (revision,)).fetchall(), self._pool.timeouts.read_caps
        )
        if not rows:
            return None
        return CapSet(rows[0][0], tuple(Cap(*row[1:]) for row in rows if row[1] is not None))

    def close(self) -> None:
        """See CapStore.close."""
        self._pool.close()


def _configure(timeouts: Timeouts, is_own: bool, connection: DeadlineConnection) -> None:
    if is_own:
        migrate(connection, seconds=timeouts.migrate)
    else:
        require_current(connection)
    connection.execute("SET jit = off")
