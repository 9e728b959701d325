"""Keys in PostgreSQL: kept by the digest of their secret, read whole, their requests counted for all processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from trireme.access.checks import check_after, check_key, check_tenant, no_such_after
from trireme.access.keys import ALL_KEYS, Key, KeyQuery, KeySet
from trireme.access.priorities import NORMAL, PRIORITIES
from trireme.errors import InvalidInputError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

# Changes take turns from here to their commit.
LOCK = "SELECT FROM trireme.key_revision FOR UPDATE"

# Microseconds of the clock where they are more: a database that was put back from a copy, or another one at the
# same URL, has no revision that was read before.
BUMP = """
    UPDATE trireme.key_revision
    SET revision = greatest(revision + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
    """

CREATE = """
    INSERT INTO trireme.keys
        (id, digest, tenant, caller, models, collections, endpoints, requests_per_minute, priority, created_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())
    ON CONFLICT DO NOTHING RETURNING id
    """

COLUMNS = """
    k.id, k.tenant, k.caller, k.models, k.collections, k.endpoints, k.requests_per_minute,
    extract(epoch FROM k.created_at)::float8, k.revoked_at IS NOT NULL, k.priority
    """

FIND = f"""
    SELECT {COLUMNS} FROM trireme.keys k
    WHERE (%(tenant)s = '' OR k.tenant = %(tenant)s)
        AND (%(is_revoked)s::boolean IS NULL OR (k.revoked_at IS NOT NULL) = %(is_revoked)s)
        AND (%(after)s = '' OR (k.created_at, k.id) < (
            SELECT a.created_at, a.id FROM trireme.keys a WHERE a.id = %(after)s))
    ORDER BY k.created_at DESC, k.id DESC LIMIT %(limit)s
    """  # noqa: S608 - of constants
IS_THERE = "SELECT EXISTS (SELECT FROM trireme.keys WHERE id = %s)"

REVOKE = """
    UPDATE trireme.keys SET revoked_at = clock_timestamp()
    WHERE id = ANY(%(ids)s) AND revoked_at IS NULL AND (%(tenant)s = '' OR tenant = %(tenant)s) RETURNING id
    """

# One statement sees one snapshot. Without any key it is one row of NULLs.
READ = f"""
    SELECT r.revision, k.digest, {COLUMNS}
    FROM trireme.key_revision r LEFT JOIN trireme.keys k ON k.revoked_at IS NULL
    WHERE r.revision <> %s
    """  # noqa: S608 - of constants

# A statement that waited past the end of its minute counts for the minute that it finds. A clock that was put
# back further than that begins anew.
COUNT = """
    WITH clock AS (SELECT date_trunc('minute', statement_timestamp()) AS minute),
    counted AS (
        INSERT INTO trireme.key_minutes AS old (key_id, minute, requests) SELECT %(key)s, minute, 1 FROM clock
        ON CONFLICT (key_id) DO UPDATE SET
            minute = CASE WHEN old.minute - EXCLUDED.minute = interval '1 minute' THEN old.minute
                ELSE EXCLUDED.minute END,
            requests = CASE WHEN old.minute - EXCLUDED.minute IN (interval '0', interval '1 minute')
                THEN old.requests + 1 ELSE 1 END
        WHERE old.requests < %(limit)s
            OR old.minute - EXCLUDED.minute NOT IN (interval '0', interval '1 minute')
        RETURNING key_id)
    SELECT CASE WHEN EXISTS (SELECT FROM counted) THEN 0.0
        ELSE extract(epoch FROM minute + interval '1 minute' - statement_timestamp())::float8 END
    FROM clock
    """

# Of changes and readings; and of counting, which is what requests wait for.
CONNECTIONS = 2
COUNTING_CONNECTIONS = 4


class PostgresKeys:
    """A KeyStore beside PostgresStore, on the same database. `created_at` is by the database's clock.

    Connects at first use.
    """

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)
        self._counting = ConnectionPool(
            url, COUNTING_CONNECTIONS, partial(_configure_counting, timeouts), timeouts
        )

    def create(self, key: Key, digest: str) -> None:
        """See KeyStore.create. Raises InvalidInputError also where id or digest are there already."""
        check_key(key, digest)
        lists = [list(names) for names in (key.models, key.collections, key.endpoints)]
        row = (key.id, digest, key.tenant, key.user, *lists, key.requests_per_minute, key.priority)

        def work(connection: DeadlineConnection) -> None:
            connection.execute(LOCK)
            if connection.execute(CREATE, row).fetchone() is None:
                raise InvalidInputError("a key with this id or secret is there already; make a new one")
            connection.execute(BUMP)

        self._pool.run(work, self._pool.timeouts.keys)

    def find(self, query: KeyQuery = ALL_KEYS) -> list[Key]:
        """See KeyStore.find. Raises InvalidInputError also for a name that no tenant can have."""
        if query.tenant:
            check_tenant(query.tenant)
        if query.after:
            check_after(query.after)

        def work(connection: DeadlineConnection) -> list[tuple[Any, ...]]:
            if query.after and not connection.execute(IS_THERE, (query.after,)).fetchall()[0][0]:
                raise no_such_after(query.after)
            return connection.execute(FIND, asdict(query)).fetchall()

        return [_key(row) for row in self._pool.run(work, self._pool.timeouts.keys)]

    def revoke(self, ids: Sequence[str], tenant: str = "") -> list[str]:
        """See KeyStore.revoke; in the order of `ids`. Raises InvalidInputError as `find`."""
        if tenant:
            check_tenant(tenant)
        # What cannot be stored is no key's.
        known = [one for one in dict.fromkeys(ids) if one.isascii() and "\x00" not in one]

        def work(connection: DeadlineConnection) -> set[str]:
            connection.execute(LOCK)
            rows = connection.execute(REVOKE, {"ids": known, "tenant": tenant}).fetchall()
            if rows:
                connection.execute(BUMP)
            return {one for (one,) in rows}

        revoked = self._pool.run(work, self._pool.timeouts.keys)
        return [one for one in known if one in revoked]

    def read(self, revision: int) -> KeySet | None:
        """See KeyStore.read."""
        rows = self._pool.run(
            lambda c: c.execute(READ, (revision,)).fetchall(), self._pool.timeouts.read_keys
        )
        if not rows:
            return None
        return KeySet(rows[0][0], {row[1]: _key(row[2:]) for row in rows if row[1] is not None})

    def count(self, key_id: str, limit: int) -> float:
        """See KeyStore.count. A `limit` below 1 is none, and nothing is counted."""
        if limit < 1:
            return 0.0
        row = self._counting.run(
            lambda c: c.execute(COUNT, {"key": key_id, "limit": limit}).fetchone(),
            self._counting.timeouts.count_request,
        )
        return float(row[0]) if row else 0.0

    def close(self) -> None:
        """See KeyStore.close."""
        self._pool.close()
        self._counting.close()


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute("SET jit = off")


def _configure_counting(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    _configure(timeouts, connection)
    connection.execute("SET synchronous_commit = off")


def _key(row: tuple[Any, ...]) -> Key:
    id_, tenant, user, models, collections, endpoints, limit, created_at, is_revoked, priority = row
    lists = tuple(models), tuple(collections), tuple(endpoints)
    # A word of a later version must not stop all keys of this one.
    known = next((one for one in PRIORITIES if one == priority), NORMAL)
    return Key(id_, tenant, user, *lists, limit, created_at, is_revoked, known)
