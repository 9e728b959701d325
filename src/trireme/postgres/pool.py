"""Connections to PostgreSQL: a small pool that fails at once when the database is gone, and heals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import errors
from psycopg.abc import PQGen

from trireme.errors import (
    FollowerError,
    InvalidInputError,
    SettingError,
    TriremeError,
    UnavailableError,
    UnsupportedError,
)
from trireme.postgres.following import REFUSED
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts

T = TypeVar("T")
RV = TypeVar("RV")

FULL = "the database has no connection left; raise its max_connections or try again"
FULL_WORDS = ("too many clients", "too many connections", "connection slots are reserved")
NO_ANSWER = "the database does not answer; check TRIREME_DATABASE_URL or start it"
LOST_AT_COMMIT = "the database went away while it committed; do the same again, which is safe"


class DeadlineConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection on which nothing waits past `deadline` (of time.monotonic), not even for a frozen server.

    A wait that runs out raises psycopg.OperationalError; the connection must then be closed.
    """

    deadline: float = float("inf")

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """As psycopg's, bounded by the deadline."""
        left = max(0.001, self.deadline - monotonic())
        bound = left if timeout is None else min(left, timeout)
        return super().wait(gen, interval, None if bound == float("inf") else bound)


class ConnectionPool:
    """At most `size` connections, opened by the thread that needs one, so that its failure is known at once.

    `configure` runs once on each new connection. `timeouts` is for those who run something here. psycopg_pool
    is not used: it connects in the background and retries with growing pauses, so a database that is down
    shows as a slow timeout, and one that is back may be noticed late.
    """

    def __init__(
        self,
        url: str,
        size: int,
        configure: Callable[[DeadlineConnection], None],
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        try:
            psycopg.conninfo.conninfo_to_dict(url)
        except psycopg.Error:
            # psycopg's text may quote the URL, and the URL holds a password.
            raise SettingError("TRIREME_DATABASE_URL is not a valid postgresql:// URL") from None
        if size < 1:
            raise InvalidInputError(f"pool_size must be at least 1, got {size}")
        self.timeouts = timeouts
        self._url = url
        self._size = size
        self._configure = configure
        self._slots = threading.BoundedSemaphore(size)
        self._idle: list[DeadlineConnection] = []
        self._alone: set[DeadlineConnection] = set()

    def run(self, work: Callable[[DeadlineConnection], T], seconds: float) -> T:
        """Run `work` in one transaction and commit it, in at most `seconds` all told; else UnavailableError.

        A pooled connection that turns out dead is replaced and `work` runs once more, unless COMMIT was sent.
        """
        deadline = monotonic() + seconds
        with self._slot(seconds):
            pooled = self._idle_connection()
            if pooled:
                try:
                    return self._transact(pooled, work, deadline)
                except _DiedBeforeCommitError:
                    # Its siblings went to the same server: do not try them one after the other.
                    self.close()
            try:
                connection = self._connect(deadline)
                # Later than ours where a migration took its time.
                return self._transact(connection, work, connection.deadline)
            except _DiedBeforeCommitError:
                raise UnavailableError(NO_ANSWER) from None

    def run_alone(self, work: Callable[[DeadlineConnection], T], seconds: float) -> T:
        """Run `work` outside a transaction, on a connection of its own that ends with it.

        For what PostgreSQL refuses within one, and for locks of a session. Not tried again. UnavailableError
        after `seconds`.
        """
        with self._slot(seconds):
            connection = self._connect(monotonic() + seconds)
            self._alone.add(connection)
            try:
                connection.autocommit = True
                connection.execute("SET statement_timeout = 0")
                return work(connection)
            except psycopg.Error as error:
                raise as_trireme_error(error) from None
            finally:
                self._alone.discard(connection)
                connection.close()

    def cancel_alone(self) -> None:
        """End what `run_alone` does now in other threads: it raises UnavailableError there, soon."""
        for connection in tuple(self._alone):
            # For what it asks next; then what runs now.
            connection.deadline = 0.0
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=self.timeouts.connect)

    def close(self) -> None:
        """Close the idle connections."""
        while connection := self._idle_connection():
            connection.close()

    @contextmanager
    def _slot(self, seconds: float) -> Iterator[None]:
        if not self._slots.acquire(timeout=seconds):
            raise UnavailableError(
                f"all {self._size} database connections are busy; send fewer requests at once or raise pool_size"
            )
        try:
            yield
        finally:
            self._slots.release()

    def _idle_connection(self) -> DeadlineConnection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self, deadline: float) -> DeadlineConnection:
        try:
            connection = DeadlineConnection.connect(
                self._url, connect_timeout=self.timeouts.connect, application_name="trireme"
            )
        except psycopg.Error as error:
            # psycopg knows no code of what a server says to a connection that it refuses.
            is_full = any(words in str(error) for words in FULL_WORDS)
            raise UnavailableError(FULL if is_full else NO_ANSWER) from None
        try:
            connection.deadline = deadline
            self._configure(connection)
            connection.commit()
        except psycopg.Error as error:
            connection.close()
            raise as_trireme_error(error) from None
        except BaseException:
            connection.close()
            raise
        return connection

    def _transact(
        self, connection: DeadlineConnection, work: Callable[[DeadlineConnection], T], deadline: float
    ) -> T:
        """Run `work`, commit, and keep the connection if it still works."""
        connection.deadline = deadline
        commit_sent = False
        try:
            result = work(connection)
            commit_sent = True
            connection.commit()
        except psycopg.Error as error:
            alive = _roll_back(connection)
            if commit_sent and not alive:
                raise UnavailableError(LOST_AT_COMMIT) from None
            if not alive:
                raise _DiedBeforeCommitError from None
            self._idle.append(connection)
            raise as_trireme_error(error) from None
        except TriremeError:
            if _roll_back(connection):
                self._idle.append(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result


class _DiedBeforeCommitError(Exception):
    """The connection broke or its time ran out before COMMIT was sent: surely nothing was written."""


def _roll_back(connection: DeadlineConnection) -> bool:
    """Whether the connection is usable again; closed if not."""
    try:
        connection.rollback()
    except psycopg.Error:
        connection.close()
    return not connection.closed


def as_trireme_error(error: psycopg.Error) -> TriremeError:
    """The typed error for what psycopg raised, without its text where that may name the server."""
    reason = error.diag.message_primary or type(error).__name__
    if error.sqlstate == REFUSED:
        return FollowerError(reason)
    by_class: dict[type[psycopg.Error], TriremeError] = {
        errors.QueryCanceled: UnavailableError(
            "the database took too long; ask for less at once or try again"
        ),
        errors.DiskFull: UnavailableError("the database's disk is full; free some space and try again"),
        errors.ReadOnlySqlTransaction: UnavailableError(
            "the database is read-only now; let it take writes, or point TRIREME_DATABASE_URL at the primary"
        ),
        errors.TooManyConnections: UnavailableError(FULL),
        errors.TransactionRollback: UnavailableError("the database gave way to another request; try again"),
        errors.InsufficientPrivilege: UnsupportedError(
            "the database user may not do this; grant it CREATE on the database"
        ),
        psycopg.DataError: InvalidInputError(f"the database cannot store this: {reason}"),
    }
    for kind, translated in by_class.items():
        if isinstance(error, kind):
            return translated
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
        return UnavailableError(NO_ANSWER)
    return TriremeError(f"the database refused a statement: {reason}")
