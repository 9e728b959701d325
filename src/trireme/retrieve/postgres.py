"""The PostgreSQL + pgvector store: exact search of small collections, HNSW for large ones."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import psycopg
from pgvector import Vector
from pgvector.psycopg import register_vector
from psycopg import sql

from trireme.errors import InvalidInputError
from trireme.retrieve.postgres_pool import ConnectionPool, DeadlineConnection
from trireme.retrieve.postgres_rows import IndexRow, find_active, lock_collection, write_passages
from trireme.retrieve.postgres_schema import INDEX_LOCK, migrate
from trireme.retrieve.store import check_embedder, check_names, check_put, check_query, raise_unknown
from trireme.types import CollectionInfo, Embedder, FloatArray, Hit, Passage, StoreQuery

READ_SECONDS = 3.0
WRITE_SECONDS = 60.0
READY_SECONDS = 1.0
# An index over a million passages takes minutes; nobody waits for it but the put that crossed the size.
INDEX_SECONDS = 3600.0

# pgvector's own limits: dimensions of an HNSW index over `vector`, and hnsw.ef_search.
MAX_HNSW_DIMENSIONS = 2000
MAX_EF_SEARCH = 1000


class PostgresStore:
    """A VectorStore in PostgreSQL with pgvector 0.8 or newer; the schema is made at the first use.

    Each collection that reaches `exact_below` passages gets an HNSW index of its own, partial on the
    collection, so that a search does not spend its candidates on other tenants' passages. Under that size,
    and above 2,000 dimensions, every passage is compared. HNSW: Malkov and Yashunin, arXiv:1603.09320.
    """

    def __init__(self, url: str, pool_size: int, exact_below: int, ef_search: int) -> None:
        """Does not connect. SettingError for a malformed URL, InvalidInputError for numbers out of range."""
        if exact_below < 0:
            raise InvalidInputError(f"exact_below must be 0 or more, got {exact_below}")
        if not 1 <= ef_search <= MAX_EF_SEARCH:
            raise InvalidInputError(f"ef_search must be 1 to {MAX_EF_SEARCH}, got {ef_search}")
        self._exact_below = exact_below
        self._ef_search = ef_search
        self._pool = ConnectionPool(url, pool_size, self._configure)
        # Its own connection: a server whose connections are all in use is busy, not unready.
        self._probe_pool = ConnectionPool(url, 1, self._configure)

    def put(
        self,
        tenant: str,
        collection: str,
        embedder: Embedder,
        passages: Sequence[Passage],
        embeddings: FloatArray,
    ) -> int:
        """See VectorStore.put. Puts into one collection take turns; one may build its index (blocks)."""
        row_of = check_put(tenant, collection, embedder, passages, embeddings)
        rows = list(row_of.values())

        def work(connection: DeadlineConnection) -> tuple[int, int]:
            _allow_seconds(connection, WRITE_SECONDS)
            active = lock_collection(connection, tenant, collection, embedder)
            chosen = [passages[row] for row in rows]
            return active.index_id, write_passages(connection, active, chosen, embeddings[rows])

        index_id, stored = self._pool.run(work, WRITE_SECONDS)
        if self._uses_index(stored, embedder):
            self._ensure_index(index_id, embedder.dimensions)
        return len(rows)

    def search(self, query: StoreQuery) -> list[Hit]:
        """See VectorStore.search. Ends within about 3 s, whatever the database does."""
        check_query(query)

        def work(connection: DeadlineConnection) -> list[Hit]:
            active = _find_collection(connection, query)
            index_id, passages = active.index_id, active.passages
            if not self._uses_index(passages, query.embedder):
                return _exact(connection, index_id, query)
            # Twice top_k, since recall falls off towards the end of the candidate list.
            candidates = min(max(self._ef_search, 2 * query.top_k), MAX_EF_SEARCH)
            hits = _nearest(connection, index_id, query, candidates)
            # HNSW may run out of candidates before it has top_k; then only the exact answer is honest.
            short = len(hits) < min(query.top_k, passages)
            return _exact(connection, index_id, query) if short else hits

        return self._pool.run(work, READ_SECONDS)

    def collections(self, tenant: str | None) -> list[CollectionInfo]:
        """See VectorStore.collections."""

        def work(connection: DeadlineConnection) -> list[tuple[Any, ...]]:
            return connection.execute(
                "SELECT c.tenant, c.collection, i.embedder, i.dimensions, c.passages FROM trireme.collections c "
                "JOIN trireme.indexes i ON i.collection_id = c.id AND i.state = 'active' "
                "WHERE %(tenant)s::text IS NULL OR c.tenant = %(tenant)s ORDER BY c.tenant, c.collection",
                {"tenant": tenant},
            ).fetchall()

        return [
            CollectionInfo(owner, name, Embedder(digest, dimensions), passages)
            for owner, name, digest, dimensions, passages in self._pool.run(work, READ_SECONDS)
        ]

    def drop(self, tenant: str, collection: str) -> int:
        """See VectorStore.drop."""
        check_names(tenant, collection)

        def work(connection: DeadlineConnection) -> int:
            _allow_seconds(connection, WRITE_SECONDS)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INDEX_LOCK,))
            row = connection.execute(
                "SELECT id, passages FROM trireme.collections WHERE tenant = %s AND collection = %s FOR UPDATE",
                (tenant, collection),
            ).fetchone()
            if row is None:
                raise_unknown(collection)
            indexes = connection.execute(
                "SELECT id FROM trireme.indexes WHERE collection_id = %s", (row[0],)
            ).fetchall()
            # Vectors before passages and documents: one statement each instead of a cascade for every row.
            connection.execute(
                "DELETE FROM trireme.embeddings WHERE index_id = ANY(%s)", ([one for (one,) in indexes],)
            )
            connection.execute("DELETE FROM trireme.passages WHERE collection_id = %s", (row[0],))
            connection.execute("DELETE FROM trireme.collections WHERE id = %s", (row[0],))
            # Last, since it locks the whole table.
            for (one,) in indexes:
                connection.execute(sql.SQL("DROP INDEX IF EXISTS trireme.{}").format(_index_name(one)))
            return int(row[1])

        return self._pool.run(work, WRITE_SECONDS)

    def is_ready(self) -> bool:
        """See VectorStore.is_ready. True when the database answers a query and holds the schema."""
        answer = threading.Event()
        # In a thread, since connecting to a host that drops packets cannot be given less than two seconds.
        thread = threading.Thread(target=self._probe, args=(answer,), daemon=True)
        thread.start()
        thread.join(READY_SECONDS)
        return answer.is_set()

    def close(self) -> None:
        """Close the idle connections. Idempotent; a later verb opens new ones."""
        self._pool.close()
        self._probe_pool.close()

    def _probe(self, answer: threading.Event) -> None:
        try:
            self._probe_pool.run(lambda c: c.execute("SELECT FROM trireme.collections LIMIT 1"), READ_SECONDS)
        except Exception:
            return
        answer.set()

    def _uses_index(self, passages: int, embedder: Embedder) -> bool:
        return passages >= self._exact_below and embedder.dimensions <= MAX_HNSW_DIMENSIONS

    def _ensure_index(self, index_id: int, dimensions: int) -> None:
        """Build the collection's HNSW index unless it exists. Blocks, and writers to any collection wait."""

        def work(connection: DeadlineConnection) -> None:
            name = f"trireme.{_index_name(index_id).as_string()}"
            row = connection.execute("SELECT to_regclass(%s) IS NULL", (name,)).fetchone()
            if row == (False,):
                return
            _allow_seconds(connection, INDEX_SECONDS)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (INDEX_LOCK,))
            connection.execute(
                sql.SQL(
                    "CREATE INDEX IF NOT EXISTS {} ON trireme.embeddings "
                    "USING hnsw ((embedding::vector({})) vector_cosine_ops) WHERE index_id = {}"
                ).format(_index_name(index_id), sql.Literal(dimensions), sql.Literal(index_id))
            )

        self._pool.run(work, INDEX_SECONDS)

    def _configure(self, connection: DeadlineConnection) -> None:
        migrate(connection)
        register_vector(connection)
        _allow_seconds(connection, READ_SECONDS, local=False)
        # One search is one core's work: with many at once, parallel workers and JIT only add overhead.
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute("SET jit = off")
        connection.execute("SET hnsw.iterative_scan = strict_order")


def _allow_seconds(connection: psycopg.Connection[Any], seconds: float, local: bool = True) -> None:
    # A little less than the pool's deadline, so that a slow statement is told from a dead server.
    milliseconds = str(int(seconds * 1000) - 300)
    connection.execute("SELECT set_config('statement_timeout', %s, %s)", (milliseconds, local))


def _find_collection(connection: DeadlineConnection, query: StoreQuery) -> IndexRow:
    """The active index of the query's collection, once its embedder is known to be the query's."""
    active = find_active(connection, query.tenant, query.collection)
    if active is None:
        raise_unknown(query.collection)
    check_embedder(query.collection, active.embedder, query.embedder)
    return active


def _exact(connection: DeadlineConnection, index_id: int, query: StoreQuery) -> list[Hit]:
    # Without the index's cast to vector(n) the ordering cannot match the HNSW index: every row is compared.
    # Ties with the last come too, so that the ids decide among them.
    return _hits(connection, index_id, sql.SQL("embedding <=> %(q)s"), sql.SQL("WITH TIES"), query)


def _nearest(connection: DeadlineConnection, index_id: int, query: StoreQuery, candidates: int) -> list[Hit]:
    # A sort is the plan without the index; row counts may be too old for the planner to see its cost.
    connection.execute(
        "SELECT set_config('hnsw.ef_search', %s, true), set_config('enable_sort', 'off', true)",
        (str(candidates),),
    )
    ordering = sql.SQL("embedding::vector({}) <=> %(q)s").format(sql.Literal(query.embedder.dimensions))
    return _hits(connection, index_id, ordering, sql.SQL("ONLY"), query)


def _hits(
    connection: DeadlineConnection,
    index_id: int,
    ordering: sql.Composable,
    ties: sql.Composable,
    query: StoreQuery,
) -> list[Hit]:
    # The id is a literal: a planner that sees a parameter cannot prove that the partial index applies.
    # Texts are fetched for the winners alone: sorting whole rows makes exact search a third slower.
    statement = sql.SQL(
        "SELECT id, text, metadata::text, 1 - distance FROM (SELECT passage_key, embedding <=> %(q)s AS distance "
        "FROM trireme.embeddings WHERE index_id = {id} ORDER BY {ordering} FETCH FIRST %(top_k)s ROWS {ties}) "
        "AS nearest JOIN trireme.passages ON key = passage_key"
    ).format(id=sql.Literal(index_id), ordering=ordering, ties=ties)
    parameters = {"q": Vector(np.asarray(query.embedding, np.float32)), "top_k": query.top_k}
    hits = [
        Hit(id_, text, metadata, float(np.float32(score)))
        for id_, text, metadata, score in connection.execute(statement, parameters)
    ]
    return sorted(hits, key=lambda hit: (-hit.score, hit.id))[: query.top_k]


def _index_name(index_id: int) -> sql.Identifier:
    return sql.Identifier(f"embeddings_hnsw_{index_id}")
