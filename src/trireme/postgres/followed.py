"""The database that is followed, as its follower's command reaches and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from psycopg import errors

from trireme.errors import InvalidInputError, SettingError, UnavailableError, UnsupportedError
from trireme.postgres import following
from trireme.postgres.pool import as_trireme_error
from trireme.postgres.schema import schema_version

# No request waits for it. A home that vanished is noticed within half a minute.
PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}
# Of a URL; the second is the pass phrase of a client's key.
SECRETS = ("password", "sslpassword")


def read_conninfo(url: str, *, stores_password: bool) -> str:
    """What the follower's server connects with. Raises SettingError without quoting it."""
    try:
        found = {key: str(value) for key, value in psycopg.conninfo.conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise SettingError("the home's URL is not a valid postgresql:// URL") from None
    if any(found.get(key) for key in SECRETS) and not stores_password:
        raise SettingError(
            "the home's URL holds a password, which PostgreSQL would keep in pg_subscription; put it in a file that"
            " this database's server reads (passfile=FILE in the URL), or add --store-password"
        )
    for key, value in PATIENCE.items():
        found.setdefault(key, value)
    return psycopg.conninfo.make_conninfo("", **found)


@contextmanager
def at_home(conninfo: str, home: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the home. Raises UnavailableError."""
    try:
        connection = psycopg.connect(conninfo, autocommit=True)
    except psycopg.Error:
        raise UnavailableError(
            f"the database of region {home} does not answer, or lets this user not in; check its URL"
        ) from None
    with closing(connection):
        try:
            yield connection
        except psycopg.Error as error:
            raise as_trireme_error(error) from None


def check_home(there: psycopg.Connection[Any], home: str, forbidden: Sequence[str]) -> int:
    """The home's schema version. Raises UnsupportedError, InvalidInputError."""
    if there.execute("SELECT to_regclass('trireme.migrations') IS NULL").fetchone() == (True,):
        raise UnsupportedError(f"the database of region {home} has no schema of Trireme yet; use it once")
    version = schema_version(there)
    if there.execute(following.IS_FOLLOWER.encode()).fetchone() == (True,):
        # What came there by replication goes no further.
        raise UnsupportedError(f"the database of region {home} follows another one itself: follow its home")
    published = {
        name
        for (name,) in there.execute(
            "SELECT tablename FROM pg_publication_tables WHERE pubname = %s AND schemaname = 'trireme'",
            (following.PUBLICATION,),
        )
    }
    if not published.issuperset(following.TABLES):
        raise UnsupportedError(
            f"region {home} publishes nothing, or too little: trireme replication publish there"
        )
    if there.execute("SELECT row_security_active('trireme.passages')").fetchone() == (True,):
        raise UnsupportedError(
            f"the user of region {home}'s URL sees no tenant's rows, so its copy would be empty; give it BYPASSRLS"
        )
    kept = [
        tenant
        for (tenant,) in there.execute(
            "SELECT DISTINCT tenant FROM trireme.collections WHERE tenant = ANY(%s) ORDER BY tenant",
            (list(forbidden),),
        )
    ]
    if kept:
        raise InvalidInputError(
            f"tenant {kept[0]!r} forbids this region and has collections in region {home}: a follower gets all of a"
            " database, so give such tenants one of their own"
        )
    return version


def keys_at(there: psycopg.Connection[Any]) -> list[str]:
    """The ids of all keys there."""
    return [key for (key,) in there.execute("SELECT id FROM trireme.keys")]


def identity_of(connection: psycopg.Connection[Any]) -> str:
    """Of the server that holds the database; "" where this user may not know."""
    try:
        with connection.transaction():
            row = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
    except errors.InsufficientPrivilege:
        return ""
    return str(row[0]) if row else ""
