"""Collections and keys of one database followed by others, by PostgreSQL's own logical replication."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import errors, sql

from trireme.errors import (
    InvalidInputError,
    NotFoundError,
    SettingError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.postgres import following
from trireme.postgres.followed import at_home, check_home, identity_of, keys_at, read_conninfo
from trireme.postgres.hnsw import drop_unused
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import migrate, schema_version
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.retrieve.replication import ReplicationLink

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
# Until a follower has all of its home's log, when it takes over.
CATCH_UP_SECONDS = 60.0
LOOK_SECONDS = 0.1
STATES = {"lost": "lost", "unreserved": "nearly lost"}
OLDEST_SERVER = 160_000


class PostgresReplication:
    """A Replication, and the acts on it, for one database. Connects at first use.

    The user owns the tables; at a home it may make publications (CREATE on the database), at a follower
    subscriptions (a superuser, or a member of pg_create_subscription).
    """

    def __init__(self, url: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, 2, lambda c: migrate(c, seconds=timeouts.migrate), timeouts)

    def read(self) -> list[ReplicationLink]:
        """See Replication."""

        def work(connection: DeadlineConnection) -> list[ReplicationLink]:
            homes = [following.home_link(row) for row in connection.execute(following.FOLLOWED.encode())]
            followers = [
                following.follower_link(row) for row in connection.execute(following.FOLLOWERS.encode())
            ]
            return homes + followers

        return self._pool.run(work, self._pool.timeouts.search)

    def close(self) -> None:
        """See Replication."""
        self._pool.close()

    def publish(self) -> None:
        """Publish what searches and keys need; once more after an upgrade. Readers and writers do not wait.

        Raises UnsupportedError naming the server's setting that is missing, and at a follower.
        """

        def work(connection: DeadlineConnection) -> None:
            if _is_guarded(connection):
                raise UnsupportedError(
                    "this database follows another one: publish at its home, or trireme replication promote first"
                )
            _require_settings(connection)
            tables = sql.SQL(", ").join(sql.Identifier("trireme", name) for name in following.TABLES)
            known = connection.execute(
                "SELECT 1 FROM pg_publication WHERE pubname = %s", (following.PUBLICATION,)
            ).fetchone()
            act = "ALTER PUBLICATION {} SET TABLE {}" if known else "CREATE PUBLICATION {} FOR TABLE {}"
            connection.execute(sql.SQL(act).format(sql.Identifier(following.PUBLICATION), tables))

        self._pool.run(work, self._pool.timeouts.write_passages)

    def follow(
        self,
        url: str,
        home: str,
        name: str,
        *,
        forbidden: Sequence[str] = (),
        replaces: bool = False,
        stores_password: bool = False,
    ) -> None:
        """Follow the database at `url`, of region `home`, as `name`. The copy goes on in the background.

        forbidden: tenants that may not be here. replaces: what this database has of collections is removed first.
        stores_password: a password in `url` may be kept in this database's pg_subscription. Raises SettingError,
        InvalidInputError, UnsupportedError saying what to change, UnavailableError.
        """
        _check_names(home, name)
        if home == name:
            raise InvalidInputError(f"region {home} cannot follow itself: --home is the other region")
        conninfo = read_conninfo(url, stores_password=stores_password)
        with at_home(conninfo, home) as there:
            theirs = check_home(there, home, forbidden)
            identity, keys = identity_of(there), keys_at(there)

        def begin(connection: DeadlineConnection) -> None:
            _check_empty(connection, replaces=replaces)
            connection.execute(following.LET_GO.encode())
            _empty(connection, None if replaces else keys)
            _guard(connection, home)
            made = sql.Identifier(_subscription_of(home))
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} ENABLE").format(made))

        self._pool.run(
            lambda c: self._check_may_follow(c, theirs, identity, replaces=replaces),
            self._pool.timeouts.search,
        )
        # It copies nothing yet: where it cannot be made, this database is as it was.
        self._subscribe(conninfo, home, name)
        try:
            self._pool.run(begin, self._pool.timeouts.drop)
        except BaseException:
            with suppress(TriremeError):
                self.stop()
            raise

    def _check_may_follow(
        self, connection: DeadlineConnection, version: int, identity: str, *, replaces: bool
    ) -> None:
        """version, identity: of the home's schema and server. Raises UnsupportedError, InvalidInputError."""
        if (ours := schema_version(connection)) != version:
            raise UnsupportedError(
                f"the home has schema version {version}, this database {ours}: upgrade both to one release first"
            )
        if identity and identity == identity_of(connection):
            raise UnsupportedError("the home is a database of this same server; follow another server's")
        if self._subscription(connection):
            raise InvalidInputError("this database follows already; trireme replication stop ends that")
        _check_empty(connection, replaces=replaces)

    def stop(self) -> None:
        """Follow no longer. Collections stay as they are, and closed to writers. Raises NotFoundError.

        Where the home does not answer, what it keeps for this follower stays there until its bound.
        """

        def work(connection: DeadlineConnection) -> None:
            found = self._subscription(connection)
            if not found:
                raise NotFoundError("this database follows no other")
            name = sql.Identifier(found)
            connection.execute(sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(name))
            try:
                connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))
            except psycopg.OperationalError:
                # The server cannot reach the home, which keeps the slot.
                connection.execute(sql.SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(name))
                connection.execute(sql.SQL("DROP SUBSCRIPTION {}").format(name))

        self._pool.run_alone(work, self._pool.timeouts.write_passages)

    def promote(self, url: str = "", *, is_lost: bool = False) -> None:
        """Make this follower the one that is written. is_lost: its home is gone for good.

        url: of the home, where this user may not read what is kept of it. Without `is_lost` the home must answer,
        and all of its log be here: end its writers first. Raises NotFoundError, UnavailableError, InvalidInputError
        where a home that is said to be lost answers.
        """
        found = self._pool.run(self._subscription, self._pool.timeouts.search)
        if found:
            self._check_takeover(found, url or self._kept_conninfo(), is_lost=is_lost)
            self.stop()
        elif not self._pool.run(_is_guarded, self._pool.timeouts.search):
            raise NotFoundError("this database follows no other")

        def work(connection: DeadlineConnection) -> None:
            connection.execute(following.LET_GO.encode())
            connection.execute(following.TAKE_OVER.encode())

        self._pool.run(work, self._pool.timeouts.write_passages)
        # Of index versions that the home dropped.
        drop_unused(self._pool)

    def _subscribe(self, conninfo: str, home: str, name: str) -> None:
        statement = sql.SQL(
            "CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {}"
            " WITH (slot_name = {}, origin = none, enabled = false)"
        ).format(
            sql.Identifier(_subscription_of(home)),
            sql.Literal(conninfo),
            sql.Identifier(following.PUBLICATION),
            sql.Literal(following.SLOT + name.replace("-", "_")),
        )

        def work(connection: DeadlineConnection) -> None:
            try:
                connection.execute(statement)
            except errors.InsufficientPrivilege:
                raise UnsupportedError(
                    "the database user may not subscribe; run as an administrator:"
                    " GRANT pg_create_subscription TO it, and CREATE ON DATABASE"
                ) from None
            except psycopg.Error as error:
                # Its text may quote what the server was told, but no password: there is none, or it is left out.
                reason = (error.diag.message_primary or type(error).__name__).splitlines()[0]
                raise UnavailableError(
                    f"the database cannot follow the home: {reason}; its server, not this command, must reach it"
                ) from None

        self._pool.run_alone(work, self._pool.timeouts.write_passages)

    def _subscription(self, connection: DeadlineConnection) -> str:
        """The name of what this database follows; "" where it follows nothing."""
        row = connection.execute(
            "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
            " WHERE d.datname = current_database() AND s.subname ^@ %s",
            (following.SLOT,),
        ).fetchone()
        return str(row[0]) if row else ""

    def _kept_conninfo(self) -> str:
        """How the home is reached. Raises SettingError where this user may not know."""
        try:
            rows = self._pool.run(
                lambda c: c.execute(
                    "SELECT subconninfo FROM pg_subscription WHERE subname = %s", (self._subscription(c),)
                ).fetchall(),
                self._pool.timeouts.search,
            )
        except UnsupportedError:
            raise SettingError(
                "only a superuser reads how the home is reached; give its URL: --from"
            ) from None
        return str(rows[0][0])

    def _check_takeover(self, name: str, conninfo: str, *, is_lost: bool) -> None:
        home = name.removeprefix(following.SLOT)
        try:
            with at_home(conninfo, home) as there:
                if is_lost:
                    raise InvalidInputError(
                        f"region {home} answers, so it is not lost: end its writers, and leave out --lost"
                    )
                end = there.execute("SELECT pg_current_wal_lsn()").fetchone()
        except UnavailableError:
            if is_lost:
                return
            raise UnavailableError(
                f"region {home} does not answer; where it is lost for good: trireme replication promote --lost"
            ) from None
        deadline = time.monotonic() + CATCH_UP_SECONDS

        def has_all(connection: DeadlineConnection) -> bool:
            row = connection.execute(
                "SELECT latest_end_lsn >= %s::pg_lsn FROM pg_stat_subscription"
                " WHERE subname = %s AND worker_type = 'apply'",
                (end[0] if end else None, name),
            ).fetchone()
            return row == (True,)

        while not self._pool.run(has_all, self._pool.timeouts.search):
            if time.monotonic() > deadline:
                raise UnavailableError(
                    "this database has not caught up with its home; trireme replication status shows by how much"
                )
            time.sleep(LOOK_SECONDS)


def _check_names(*names: str) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise InvalidInputError(
                f"a region's name has up to 40 lower-case letters, digits, - and _, got {name[:50]!r}"
            )


def _subscription_of(home: str) -> str:
    return following.SLOT + home.replace("-", "_")


def _check_empty(connection: DeadlineConnection, *, replaces: bool) -> None:
    row = connection.execute("SELECT count(*) FROM trireme.collections").fetchone()
    if row and row[0] and not replaces:
        raise InvalidInputError(
            f"this database has {row[0]} collections of its own; drop them, or add --replace to remove them"
        )


def _empty(connection: DeadlineConnection, keys: Sequence[str] | None) -> None:
    """Removes collections, and keys of the ids `keys`, which come again from the home; None: all."""
    tables = sql.SQL(", ").join(sql.Identifier("trireme", name) for name in following.COLLECTION_TABLES)
    connection.execute(sql.SQL("TRUNCATE {}").format(tables))
    if keys is None:
        connection.execute("DELETE FROM trireme.keys")
    else:
        connection.execute("DELETE FROM trireme.keys WHERE id = ANY(%s)", (list(keys),))


def _guard(connection: DeadlineConnection, home: str) -> None:
    """Refuse what is written here from now on."""
    connection.execute(following.FOLLOW.format(refused=following.REFUSED).encode())
    guarded = [(name, "INSERT OR UPDATE OR DELETE") for name in following.COLLECTION_TABLES]
    for table, events in [*guarded, ("submissions", "INSERT")]:
        connection.execute(
            sql.SQL(following.REFUSE).format(
                events=sql.SQL(events), table=sql.Identifier(table), home=sql.Literal(home)
            )
        )
    connection.execute(following.NOTE_KEYS.encode())


def _is_guarded(connection: DeadlineConnection) -> bool:
    row = connection.execute(following.IS_FOLLOWER.encode()).fetchone()
    return row == (True,)


def _require_settings(connection: DeadlineConnection) -> None:
    row = connection.execute(
        "SELECT current_setting('wal_level'), current_setting('max_slot_wal_keep_size')"
    ).fetchone()
    level, kept = row or ("", "")
    if connection.info.server_version < OLDEST_SERVER:
        raise UnsupportedError("replication needs PostgreSQL 16 or newer")
    if level != "logical":
        raise UnsupportedError(
            f"the database's wal_level is {level}: set TRIREME_REPLICATION=on, or wal_level = logical in the"
            " postgresql.conf of your own one, and start it again"
        )
    if kept == "-1":
        raise UnsupportedError(
            "the database's max_slot_wal_keep_size is -1: a follower that is away would fill its disk; set it in"
            " postgresql.conf, such as 4GB, and reload it"
        )
