"""The tables of the PostgreSQL store and how they come to be."""

from __future__ import annotations

from typing import Any

from psycopg import Connection, errors

from trireme.errors import UnsupportedError

# Any fixed numbers: they serialize the processes on one database.
MIGRATION_LOCK = 7_239_161_004
INDEX_LOCK = 7_239_161_005
# The first with iterative index scans.
OLDEST_PGVECTOR = (0, 8)

MIGRATIONS = (
    """
    CREATE TABLE trireme.collections (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        collection text COLLATE "C" NOT NULL,
        embedder text NOT NULL,
        dimensions integer NOT NULL,
        passages bigint NOT NULL DEFAULT 0,
        UNIQUE (tenant, collection)
    );
    -- Rows stay in line up to 8 kB: fetching each vector from a TOAST table slows exact search down.
    CREATE TABLE trireme.passages (
        collection_id bigint NOT NULL REFERENCES trireme.collections (id),
        id text COLLATE "C" NOT NULL,
        text text NOT NULL,
        metadata json NOT NULL,
        embedding vector NOT NULL,
        PRIMARY KEY (collection_id, id)
    ) WITH (toast_tuple_target = 8160);
    """,
)


def migrate(connection: Connection[Any]) -> None:
    """Bring the schema to this version, in the open transaction. Safe in several processes at once.

    Raises UnsupportedError when pgvector is missing or too old, or when a newer Trireme made the schema.
    """
    if _is_current(connection):
        return
    connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
    _require_pgvector(connection)
    connection.execute("CREATE SCHEMA IF NOT EXISTS trireme")
    connection.execute("CREATE TABLE IF NOT EXISTS trireme.migrations (version integer PRIMARY KEY)")
    done = _version(connection)
    if done > len(MIGRATIONS):
        raise UnsupportedError(
            f"the database has schema version {done}, newer than version {len(MIGRATIONS)}: upgrade Trireme"
        )
    for version in range(done, len(MIGRATIONS)):
        connection.execute(MIGRATIONS[version].encode())
        connection.execute("INSERT INTO trireme.migrations VALUES (%s)", (version + 1,))


def _is_current(connection: Connection[Any]) -> bool:
    row = connection.execute("SELECT to_regclass('trireme.migrations') IS NOT NULL").fetchone()
    return bool(row and row[0]) and _version(connection) == len(MIGRATIONS)


def _version(connection: Connection[Any]) -> int:
    row = connection.execute("SELECT count(*) FROM trireme.migrations").fetchone()
    return int(row[0]) if row else 0


def _require_pgvector(connection: Connection[Any]) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.FeatureNotSupported, errors.UndefinedFile, errors.InsufficientPrivilege):
        raise UnsupportedError(
            "the database lacks pgvector; install it and run CREATE EXTENSION vector as its superuser"
        ) from None
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = str(row[0]) if row else "0"
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PGVECTOR:
        raise UnsupportedError(f"pgvector 0.8 or newer is needed, the database has {version}; update it")
