"""The PostgreSQL + pgvector store: exact search of small collections, HNSW for large ones."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pgvector.psycopg import register_vector

from trireme.errors import InvalidInputError
from trireme.postgres.hnsw import drop_unused, ensure_hnsw, lacks_hnsw
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.rows import (
    allow_seconds,
    delete_collection,
    find_index,
    lock_collection,
    write_passages,
)
from trireme.postgres.schema import migrate
from trireme.postgres.search import MAX_EF_SEARCH, SearchLimits, enter_tenant, find_hits
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.postgres.versions import PostgresVersions, list_versions
from trireme.retrieve.store import (
    check_embedder,
    check_names,
    check_put,
    check_query,
    check_ways,
    raise_unknown,
)
from trireme.retrieve.versions import check_storage
from trireme.types import (
    CollectionInfo,
    Embedder,
    FloatArray,
    Hit,
    IndexVersion,
    Passage,
    SparseVector,
    StoreQuery,
)


class PostgresStore:
    """A VectorStore in PostgreSQL with pgvector 0.8 or newer; the schema is made at the first use.

    Each collection that reaches `exact_below` passages gets an HNSW index of its own, partial on the
    collection, so that a search does not spend its candidates on other tenants' passages. Under that size,
    and above 2,000 dimensions, every passage is compared. HNSW: Malkov and Yashunin, arXiv:1603.09320.
    """

    def __init__(
        self,
        url: str,
        pool_size: int,
        exact_below: int,
        ef_search: int,
        storage: str = "float32",
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        """Does not connect. `storage` is that of collections made here: float32, float16 or binary.

        SettingError for a malformed URL, InvalidInputError for numbers out of range.
        """
        if exact_below < 0:
            raise InvalidInputError(f"exact_below must be 0 or more, got {exact_below}")
        if not 1 <= ef_search <= MAX_EF_SEARCH:
            raise InvalidInputError(f"ef_search must be 1 to {MAX_EF_SEARCH}, got {ef_search}")
        check_storage(storage)
        self._limits = SearchLimits(exact_below, ef_search)
        self._storage = storage
        self._pool = ConnectionPool(url, pool_size, self._configure, timeouts)
        # Its own connection: a server whose connections are all in use is busy, not unready.
        self._probe_pool = ConnectionPool(url, 1, self._configure, timeouts)

    def put(
        self,
        tenant: str,
        collection: str,
        embedder: Embedder,
        passages: Sequence[Passage],
        embeddings: FloatArray,
        *,
        sparse: Sequence[SparseVector] | None = None,
    ) -> int:
        """See VectorStore.put. Puts into one collection take turns; one may build its index (blocks)."""
        row_of = check_put(tenant, collection, embedder, passages, embeddings, sparse=sparse)
        rows = list(row_of.values())
        weights = None if sparse is None else [sparse[row] for row in rows]

        def work(connection: DeadlineConnection) -> tuple[int, bool]:
            allow_seconds(connection, self._pool.timeouts.write_passages)
            active = lock_collection(connection, tenant, collection, embedder, storage=self._storage)
            kept = [passages[row] for row in rows]
            write_passages(connection, active, kept, embeddings[rows], sparse=weights)
            return active.index_id, lacks_hnsw(connection, active.index_id, self._limits.exact_below)

        index_id, is_due = self._pool.run(work, self._pool.timeouts.write_passages)
        if is_due:
            ensure_hnsw(self._pool, index_id, self._limits.exact_below)
        return len(rows)

    def search(self, query: StoreQuery) -> list[Hit]:
        """See VectorStore.search. Ends within about Timeouts.search (3 s), whatever the database does."""
        check_query(query)

        def work(connection: DeadlineConnection) -> list[Hit]:
            enter_tenant(connection, query.tenant)
            index = find_index(connection, query.tenant, query.collection, query.version)
            if index is None:
                raise_unknown(query.collection)
            check_embedder(query.collection, index.embedder, query.embedder, index.model)
            check_ways(query, index.has_sparse)
            return find_hits(connection, index, query, self._limits)

        return self._pool.run(work, self._pool.timeouts.search)

    def collections(self, tenant: str | None) -> list[CollectionInfo]:
        """See VectorStore.collections."""

        def work(connection: DeadlineConnection) -> list[IndexVersion]:
            return list_versions(connection, tenant, None)

        versions: dict[tuple[str, str], list[IndexVersion]] = {}
        for version in self._pool.run(work, self._pool.timeouts.search):
            versions.setdefault((version.tenant, version.collection), []).append(version)
        return [
            CollectionInfo(*key, active.embedder, active.vectors, tuple(found))
            for key, found in sorted(versions.items())
            for active in found
            if active.state == "active"
        ]

    def drop(self, tenant: str, collection: str) -> int:
        """See VectorStore.drop."""
        check_names(tenant, collection)

        def work(connection: DeadlineConnection) -> int:
            allow_seconds(connection, self._pool.timeouts.drop)
            row = connection.execute(
                "SELECT id, passages FROM trireme.collections WHERE tenant = %s AND collection = %s FOR UPDATE",
                (tenant, collection),
            ).fetchone()
            if row is None:
                raise_unknown(collection)
            delete_collection(connection, int(row[0]))
            return int(row[1])

        dropped = self._pool.run(work, self._pool.timeouts.drop)
        drop_unused(self._pool)
        return dropped

    @property
    def versions(self) -> PostgresVersions:
        """The index versions of the same collections, over the same connections."""
        return PostgresVersions(self._pool, self._limits.exact_below)

    def is_ready(self) -> bool:
        """See VectorStore.is_ready. True when the database answers a query and holds the schema."""
        answer = threading.Event()
        # In a thread, since connecting to a host that drops packets cannot be given less than two seconds.
        thread = threading.Thread(target=self._probe, args=(answer,), daemon=True)
        thread.start()
        thread.join(self._pool.timeouts.ready)
        return answer.is_set()

    def close(self) -> None:
        """Close the idle connections. Idempotent; a later verb opens new ones."""
        self._pool.close()
        self._probe_pool.close()

    def _probe(self, answer: threading.Event) -> None:
        try:
            self._probe_pool.run(
                lambda c: c.execute("SELECT FROM trireme.collections LIMIT 1"), self._pool.timeouts.search
            )
        except Exception:
            return
        answer.set()

    def _configure(self, connection: DeadlineConnection) -> None:
        migrate(connection, seconds=self._pool.timeouts.migrate)
        register_vector(connection)
        allow_seconds(connection, self._pool.timeouts.search, local=False)
        # One search is one core's work: with many at once, parallel workers and JIT only add overhead.
        connection.execute("SET max_parallel_workers_per_gather = 0")
        connection.execute("SET jit = off")
        connection.execute("SET hnsw.iterative_scan = strict_order")
