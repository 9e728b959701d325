"""Revisions of collections in PostgreSQL, which its triggers change."""

from __future__ import annotations

from functools import partial

from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

READ = "SELECT revision::text FROM trireme.collections WHERE tenant = %s AND collection = %s"
CONNECTIONS = 2


class PostgresRevisions:
    """CollectionRevisions beside PostgresStore, on the same database. Connects at first use."""

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)

    def read(self, tenant: str, collection: str) -> str:
        """See CollectionRevisions.read."""
        if "\x00" in tenant + collection:
            # No name can hold it.
            return ""
        row = self._pool.run(
            lambda connection: connection.execute(READ, (tenant, collection)).fetchone(),
            self._pool.timeouts.read_keys,
        )
        return str(row[0]) if row else ""

    def close(self) -> None:
        """See CollectionRevisions.close."""
        self._pool.close()


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute("SET jit = off")
