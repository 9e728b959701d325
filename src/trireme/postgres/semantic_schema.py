"""The tables of the semantic cache: one of questions for each embedder, and what was found out about its promises.

They are made when they are first used: no version of the schema waits for a cache that may never be turned on.
"""

from __future__ import annotations

import hashlib

from psycopg import sql

from trireme.errors import InvalidInputError
from trireme.postgres.pool import DeadlineConnection

# Serializes those who make the tables; and the indexes of partitions.
SEMANTIC_LOCK = 7_239_161_006
SEMANTIC_INDEX_LOCK = 7_239_161_007
# pgvector's limit of an HNSW index over halfvec.
MOST_DIMENSIONS = 4000

# What a crash takes is a cache. Rows stay in line up to 8 kB: an exact search reads every vector of a partition.
QUESTIONS = """
    CREATE UNLOGGED TABLE IF NOT EXISTS trireme.{table} (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        partition text COLLATE "C" NOT NULL,
        entry text COLLATE "C" NOT NULL,
        question text NOT NULL,
        vector halfvec({dimensions}) NOT NULL,
        made_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        UNIQUE (partition, entry)
    ) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);
    ALTER TABLE trireme.{table} ALTER COLUMN vector SET STORAGE PLAIN;
    CREATE INDEX IF NOT EXISTS {table}_age ON trireme.{table} (partition, made_at, id);
    CREATE INDEX IF NOT EXISTS {table}_end ON trireme.{table} (expires_at);
    REVOKE ALL ON trireme.{table} FROM trireme_tenant, PUBLIC;
    """

CHECKS = """
    CREATE TABLE IF NOT EXISTS trireme.semantic_checks (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        scope text COLLATE "C" NOT NULL,
        family text COLLATE "C" NOT NULL,
        score float8 NOT NULL,
        agreed boolean NOT NULL,
        made_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    CREATE INDEX IF NOT EXISTS semantic_checks_scope ON trireme.semantic_checks (scope, id);
    -- A row for each scope that has ever turned itself off.
    CREATE TABLE IF NOT EXISTS trireme.semantic_scopes (
        scope text COLLATE "C" PRIMARY KEY,
        is_off boolean NOT NULL,
        changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    REVOKE ALL ON trireme.semantic_checks, trireme.semantic_scopes FROM trireme_tenant, PUBLIC;
    """


def table_of(embedder: str, dimensions: int) -> str:
    """The table of an embedder's questions: vectors of another one compare with none of these.

    Raises InvalidInputError for dimensions that no index holds.
    """
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise InvalidInputError(f"an embedder has 1 to {MOST_DIMENSIONS} dimensions here, got {dimensions}")
    digest = hashlib.sha256(f"{embedder}|{dimensions}".encode()).hexdigest()
    return f"semantic_{digest[:16]}"


def index_of(table: str, partition: str) -> str:
    """The HNSW index of a partition that has one."""
    return f"{table}_near_{hashlib.sha256(partition.encode()).hexdigest()[:24]}"


def ensure_questions(connection: DeadlineConnection, table: str, dimensions: int) -> None:
    """Make the table in the open transaction unless it is there."""
    _ensure(
        connection,
        table,
        sql.SQL(QUESTIONS).format(
            table=sql.SQL(table),
            dimensions=sql.Literal(dimensions),
        ),
    )


def ensure_checks(connection: DeadlineConnection) -> None:
    """Make the tables in the open transaction unless they are there."""
    _ensure(connection, "semantic_scopes", sql.SQL(CHECKS))


def _ensure(connection: DeadlineConnection, table: str, statements: sql.Composable) -> None:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"trireme.{table}",)).fetchone()
    if found != (True,):
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (SEMANTIC_LOCK,))
        connection.execute(statements.as_string(connection).encode())
