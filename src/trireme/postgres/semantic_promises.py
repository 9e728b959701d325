"""What checks of the semantic cache found, in PostgreSQL: it outlives gateways, and all of them count it."""

from __future__ import annotations

from functools import partial

from trireme.cache.promise import MOST_CHECKS, Check, Evidence
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.semantic_schema import ensure_checks
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

CONNECTIONS = 1
SECONDS = 5.0

RECORD = "INSERT INTO trireme.semantic_checks (scope, family, score, agreed) VALUES (%s, %s, %s, %s)"
CROP = """
    DELETE FROM trireme.semantic_checks WHERE scope = %(scope)s AND id <= (
        SELECT id FROM trireme.semantic_checks WHERE scope = %(scope)s ORDER BY id DESC OFFSET %(most)s LIMIT 1)
    """
READ = """
    SELECT scope, family, score, agreed FROM trireme.semantic_checks WHERE scope = %s ORDER BY id DESC LIMIT %s
    """
STATE = "SELECT is_off FROM trireme.semantic_scopes WHERE scope = %s"
TURN = """
    INSERT INTO trireme.semantic_scopes AS old (scope, is_off) VALUES (%s, %s)
    ON CONFLICT (scope) DO UPDATE SET is_off = EXCLUDED.is_off, changed_at = clock_timestamp()
    WHERE old.is_off <> EXCLUDED.is_off RETURNING xmax = 0
    """


class PostgresPromises:
    """A PromiseStore beside PostgresStore, on the same database. Connects at first use. most: checks of a scope."""

    def __init__(self, url: str, most: int = MOST_CHECKS, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._most = most
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)

    def record(self, check: Check) -> None:
        """See PromiseStore.record."""

        def work(connection: DeadlineConnection) -> None:
            connection.execute(RECORD, (check.scope, check.family, check.score, check.agreed))
            connection.execute(CROP, {"scope": check.scope, "most": self._most})

        self._pool.run(work, SECONDS)

    def read(self, scope: str) -> Evidence:
        """See PromiseStore.read."""

        def work(connection: DeadlineConnection) -> Evidence:
            rows = connection.execute(READ, (scope, self._most)).fetchall()
            state = connection.execute(STATE, (scope,)).fetchone()
            return Evidence(tuple(Check(*row) for row in reversed(rows)), bool(state and state[0]))

        return self._pool.run(work, SECONDS)

    def turn(self, scope: str, *, is_off: bool) -> bool:
        """See PromiseStore.turn."""

        def work(connection: DeadlineConnection) -> bool:
            row = connection.execute(TURN, (scope, is_off)).fetchone()
            # A scope without a row is on.
            return row is not None and (is_off or not row[0])

        return self._pool.run(work, SECONDS)

    def reset(self, scope: str) -> int:
        """See PromiseStore.reset."""

        def work(connection: DeadlineConnection) -> int:
            connection.execute("DELETE FROM trireme.semantic_scopes WHERE scope = %s", (scope,))
            return connection.execute(
                "DELETE FROM trireme.semantic_checks WHERE scope = %s", (scope,)
            ).rowcount

        return self._pool.run(work, SECONDS)

    def close(self) -> None:
        """See PromiseStore.close."""
        self._pool.close()


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    ensure_checks(connection)
    connection.execute("SET jit = off")
