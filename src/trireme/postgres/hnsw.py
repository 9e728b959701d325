"""HNSW indexes of index versions, of vectors and of sparse weights: built and dropped while others go on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from trireme.errors import UnavailableError
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.schema import INDEX_LOCK
from trireme.retrieve.sparse import SPARSE_DIMENSIONS
from trireme.types import Embedder

LOCK_PAUSE_SECONDS = 0.1

# pgvector's limits of an HNSW index; binary vectors are kept as halfvec, which ends at 16,000.
MAX_INDEXED = {"float32": 2000, "float16": 4000, "binary": 16_000}
# Neighbours, level and allocation of one element beside its vector, in bytes, with pgvector's m of 16.
GRAPH_BYTES = 700
# Of a passage; where there are more, a build past its memory is slower.
USUAL_WEIGHTS = 250
MOST_MEMORY_KB = 2_000_000
OPERATORS = {
    "float32": "vector_cosine_ops",
    "float16": "halfvec_cosine_ops",
    "binary": "bit_hamming_ops",
}
# The columns of HnswState, of all versions.
STATES = b"""
    SELECT i.id, i.storage, i.dimensions, i.has_sparse, c.passages, x.indisvalid, y.indisvalid
    FROM trireme.indexes i JOIN trireme.collections c ON c.id = i.collection_id
    LEFT JOIN pg_index x ON x.indexrelid = to_regclass('trireme.embeddings_hnsw_' || i.id)
    LEFT JOIN pg_index y ON y.indexrelid = to_regclass('trireme.embeddings_sparse_' || i.id)
    """


def can_be_indexed(embedder: Embedder, storage: str) -> bool:
    """Whether pgvector builds an HNSW index over vectors of these dimensions in this storage."""
    return 0 < embedder.dimensions <= MAX_INDEXED[storage]


def indexed_expression(storage: str, dimensions: int) -> sql.Composed:
    """What the HNSW index holds; an ordering must repeat it for the planner to choose the index."""
    size = sql.Literal(dimensions)
    return {
        "float32": sql.SQL("(embedding::vector({}))"),
        "float16": sql.SQL("(half::halfvec({}))"),
        "binary": sql.SQL("(binary_quantize(half)::bit({}))"),
    }[storage].format(size)


# Stored ones all say SPARSE_DIMENSIONS; an index needs to be told.
INDEXED_WEIGHTS = sql.SQL("(sparse::sparsevec({}))").format(sql.Literal(SPARSE_DIMENSIONS))


@dataclass(frozen=True, slots=True)
class HnswState:
    """The HNSW indexes of one version: whether each is valid, None where there is none."""

    index_id: int
    storage: str
    dimensions: int
    has_sparse: bool
    passages: int
    dense: bool | None
    sparse: bool | None

    def lacking(self, exact_below: int) -> list[str]:
        """Which of "hnsw" (of vectors) and "sparse" (of weights) should be there and are not valid."""
        if self.passages < exact_below:
            return []
        is_dense = can_be_indexed(Embedder("", self.dimensions), self.storage)
        wanted = {"hnsw": is_dense and not self.dense, "sparse": self.has_sparse and not self.sparse}
        return [kind for kind, is_lacking in wanted.items() if is_lacking]


def ensure_hnsw(pool: ConnectionPool, index_id: int, exact_below: int) -> bool:
    """Build the HNSW indexes of an index version that are due; whether it has any then.

    Not due are those that are there, those of vectors too wide for one, and all of a collection of fewer than
    `exact_below` passages. Blocks until they are built; readers and writers do not wait (CREATE INDEX
    CONCURRENTLY). Processes that build take turns. One that a crash left half built is dropped and built again.
    Raises UnavailableError.
    """

    def work(connection: DeadlineConnection) -> bool:
        found = find_state(connection, index_id)
        if found is None or not found.lacking(exact_below):
            return found is not None and bool(found.dense or found.sparse)
        _take_lock(connection, pool.timeouts.build_index)
        found = find_state(connection, index_id)
        if found is None:
            return False
        lacking = found.lacking(exact_below)
        for kind in lacking:
            _build(connection, found, kind)
        if lacking:
            # Row counts and the frequencies of words, which full text needs, follow a large load at once.
            connection.execute("ANALYZE trireme.embeddings (index_id), trireme.passages")
        return True

    return pool.run_alone(work, pool.timeouts.build_index)


def lacks_hnsw(connection: Connection[Any], index_id: int, exact_below: int) -> bool:
    """Whether `ensure_hnsw` would build now; costs one look, within the caller's transaction."""
    found = find_state(connection, index_id)
    return found is not None and bool(found.lacking(exact_below))


def drop_unused(pool: ConnectionPool) -> None:
    """Drop the HNSW indexes whose index version is gone. Readers and writers do not wait.

    They hold nothing and cost next to nothing, so another process that builds is not waited for long.
    """

    def work(connection: DeadlineConnection) -> None:
        names = connection.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = 'trireme' AND c.relname ~ '^embeddings_(hnsw|sparse)_[0-9]+$' AND NOT EXISTS "
            "(SELECT FROM trireme.indexes i WHERE c.relname IN ('embeddings_hnsw_' || i.id, "
            "'embeddings_sparse_' || i.id))"
        ).fetchall()
        if not names:
            return
        _take_lock(connection, pool.timeouts.drop_index / 2)
        for (name,) in names:
            connection.execute(
                sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS trireme.{}").format(sql.Identifier(name))
            )

    pool.run_alone(work, pool.timeouts.drop_index)


def find_state(connection: Connection[Any], index_id: int) -> HnswState | None:
    """What an index version has of HNSW indexes; None where there is no such version."""
    row = connection.execute(STATES + b"WHERE i.id = %s", (index_id,)).fetchone()
    return None if row is None else HnswState(*row)


def _build(connection: Connection[Any], version: HnswState, kind: str) -> None:
    name = sql.Identifier(f"embeddings_{kind}_{version.index_id}")
    if (version.dense if kind == "hnsw" else version.sparse) is False:
        connection.execute(sql.SQL("DROP INDEX CONCURRENTLY trireme.{}").format(name))
    if kind == "hnsw":
        width = version.dimensions * 4
        what, operators = indexed_expression(version.storage, version.dimensions), OPERATORS[version.storage]
    else:
        width, what, operators = USUAL_WEIGHTS * 8, INDEXED_WEIGHTS, "sparsevec_ip_ops"
    _grant_memory(connection, version.passages * (width + GRAPH_BYTES) // 1024)
    connection.execute(
        sql.SQL(
            "CREATE INDEX CONCURRENTLY {} ON trireme.embeddings USING hnsw ({} {}) WHERE index_id = {}"
        ).format(name, what, sql.SQL(operators), sql.Literal(version.index_id))
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
