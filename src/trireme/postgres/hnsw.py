"""HNSW indexes of index versions: one partial index each, built and dropped while others read and write."""

from __future__ import annotations

import time
from typing import Any

from psycopg import Connection, sql

from trireme.errors import UnavailableError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import INDEX_LOCK
from trireme.types import Embedder

LOCK_PAUSE_SECONDS = 0.1

# pgvector's limits of an HNSW index; binary vectors are kept as halfvec, which ends at 16,000.
MAX_INDEXED = {"float32": 2000, "float16": 4000, "binary": 16_000}
# Neighbours, level and allocation of one element beside its vector, in bytes, with pgvector's m of 16.
GRAPH_BYTES = 700
MOST_MEMORY_KB = 2_000_000


def can_be_indexed(embedder: Embedder, storage: str) -> bool:
    """Whether pgvector builds an HNSW index over vectors of these dimensions in this storage."""
    return embedder.dimensions <= MAX_INDEXED[storage]


def index_name(index_id: int) -> sql.Identifier:
    """The name of the HNSW index of an index version, in schema trireme."""
    return sql.Identifier(f"embeddings_hnsw_{index_id}")


def indexed_expression(storage: str, dimensions: int) -> sql.Composed:
    """What the HNSW index holds; an ordering must repeat it for the planner to choose the index."""
    size = sql.Literal(dimensions)
    return {
        "float32": sql.SQL("(embedding::vector({}))"),
        "float16": sql.SQL("(half::halfvec({}))"),
        "binary": sql.SQL("(binary_quantize(half)::bit({}))"),
    }[storage].format(size)


def ensure_hnsw(pool: ConnectionPool, index_id: int, exact_below: int) -> bool:
    """Build the HNSW index of an index version unless it is there, or small, or too wide; whether it is there.

    Small: the collection holds fewer than `exact_below` passages. Blocks until it is built; readers and
    writers do not wait (CREATE INDEX CONCURRENTLY). Processes that build take turns. One that a crash left
    half built is dropped and built again. Raises UnavailableError.
    """

    def work(connection: DeadlineConnection) -> bool:
        found = _find(connection, index_id)
        if found is None:
            return False
        storage, dimensions, passages, is_valid = found
        if passages < exact_below or not can_be_indexed(Embedder("", dimensions), storage):
            return bool(is_valid)
        if is_valid:
            return True
        _take_lock(connection, pool.timeouts.build_index)
        found = _find(connection, index_id)
        if found is None or found[3]:
            return found is not None
        if found[3] is False:
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY trireme.{}").format(index_name(index_id)))
        _grant_memory(connection, passages * (dimensions * 4 + GRAPH_BYTES) // 1024)
        connection.execute(_create_statement(index_id, storage, dimensions))
        # Row counts and the frequencies of words, which full text needs, follow a large load at once.
        connection.execute("ANALYZE trireme.embeddings (index_id), trireme.passages")
        return True

    return pool.run_alone(work, pool.timeouts.build_index)


def lacks_hnsw(connection: Connection[Any], index_id: int, exact_below: int) -> bool:
    """Whether `ensure_hnsw` would build now; costs one look, within the caller's transaction."""
    found = _find(connection, index_id)
    if found is None:
        return False
    storage, dimensions, passages, is_valid = found
    return passages >= exact_below and not is_valid and can_be_indexed(Embedder("", dimensions), storage)


def drop_unused(pool: ConnectionPool) -> None:
    """Drop the HNSW indexes whose index version is gone. Readers and writers do not wait.

    They hold nothing and cost next to nothing, so another process that builds is not waited for long.
    """

    def work(connection: DeadlineConnection) -> None:
        names = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'trireme' AND c.relname ~ '^embeddings_hnsw_[0-9]+$' AND NOT EXISTS "
            "(SELECT FROM trireme.indexes i WHERE c.relname = 'embeddings_hnsw_' || i.id)"
        ).fetchall()
        if not names:
            return
        _take_lock(connection, pool.timeouts.drop_index / 2)
        for (name,) in names:
            connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS trireme.{}").format(sql.Identifier(name))
            )

    pool.run_alone(work, pool.timeouts.drop_index)


def _find(connection: Connection[Any], index_id: int) -> tuple[str, int, int, bool | None] | None:
    """Storage, dimensions, passages, and whether the HNSW index is valid (None: there is none)."""
    row = connection.execute(
        "SELECT i.storage, i.dimensions, c.passages, x.indisvalid FROM trireme.indexes i "
        "JOIN trireme.collections c ON c.id = i.collection_id "
        "LEFT JOIN pg_index x ON x.indexrelid = to_regclass('trireme.embeddings_hnsw_' || i.id) "
        "WHERE i.id = %s",
        (index_id,),
    ).fetchone()
    return None if row is None else (row[0], row[1], row[2], row[3])


def _create_statement(index_id: int, storage: str, dimensions: int) -> sql.Composed:
    operators = {
        "float32": "vector_cosine_ops",
        "float16": "halfvec_cosine_ops",
        "binary": "bit_hamming_ops",
    }[storage]
    return sql.SQL(
        "CREATE INDEX CONCURRENTLY {} ON trireme.embeddings USING hnsw ({} {}) WHERE index_id = {}"
    ).format(
        index_name(index_id),
        indexed_expression(storage, dimensions),
        sql.SQL(operators),
        sql.Literal(index_id),
    )


def _take_lock(connection: DeadlineConnection, seconds: float) -> None:
    """Take the builders' lock for as long as the connection lives.

    In a loop: a statement that waits for a lock has a snapshot, and the build that holds the lock waits for
    every older snapshot to end.
    """
    deadline = time.monotonic() + seconds
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (INDEX_LOCK,)).fetchone()
        if row == (True,):
            return
        if time.monotonic() > deadline:
            raise UnavailableError("another process is building a vector index; try again when it is done")
        time.sleep(LOCK_PAUSE_SECONDS)


def _grant_memory(connection: Connection[Any], kilobytes: int) -> None:
    """Let the build hold its graph in memory: past maintenance_work_mem it is several times slower."""
    connection.execute(
        "SELECT set_config('maintenance_work_mem', greatest(setting::bigint, %s)::text || 'kB', false) "
        "FROM pg_settings WHERE name = 'maintenance_work_mem'",
        (min(kilobytes, MOST_MEMORY_KB),),
    )
