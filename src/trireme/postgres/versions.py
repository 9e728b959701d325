"""Index versions in PostgreSQL: rows of trireme.indexes, whose vectors lie side by side in trireme.embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

from trireme.errors import InvalidInputError
from trireme.postgres.hnsw import drop_unused, ensure_hnsw
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.rows import MAX_DIMENSIONS, IndexRow, allow_seconds, write_vectors
from trireme.retrieve.store import check_names, check_vectors, raise_unknown
from trireme.retrieve.versions import (
    Unembedded,
    check_begin,
    check_storage,
    raise_incomplete,
    raise_no_version,
)
from trireme.types import Embedder, FloatArray, IndexVersion, SparseVector

_WITHOUT_VECTOR = (
    "FROM trireme.passages p WHERE p.collection_id = %(collection)s AND p.key > %(after)s AND NOT EXISTS "
    "(SELECT FROM trireme.embeddings e WHERE e.index_id = %(index)s AND e.passage_key = p.key)"
)


class PostgresVersions:
    """IndexVersions over the pool of a PostgresStore, whose tables they share."""

    def __init__(self, pool: ConnectionPool, exact_below: int) -> None:
        """Collections under `exact_below` passages get no HNSW index."""
        self._pool = pool
        self._exact_below = exact_below

    def begin(
        self, tenant: str, collection: str, embedder: Embedder, model: str, storage: str = ""
    ) -> IndexVersion:
        """See IndexVersions.begin."""
        check_names(tenant, collection)
        if storage:
            check_storage(storage)
        if not 0 <= embedder.dimensions <= MAX_DIMENSIONS:
            raise InvalidInputError(
                f"pgvector stores 0 to {MAX_DIMENSIONS} dimensions, got {embedder.dimensions}"
            )

        def work(connection: DeadlineConnection) -> IndexVersion:
            row = connection.execute(
                "SELECT id FROM trireme.collections WHERE tenant = %s AND collection = %s FOR UPDATE",
                (tenant, collection),
            ).fetchone()
            if row is None:
                raise_unknown(collection)
            known = list_versions(connection, tenant, collection)
            check_begin(collection, embedder, known)
            for version in known:
                if version.embedder == embedder and storage in ("", version.storage):
                    connection.execute(
                        "UPDATE trireme.indexes SET state = 'building', model = %s WHERE id = %s",
                        (model, version.number),
                    )
                    return _version(connection, version.number)
            made = connection.execute(
                "INSERT INTO trireme.indexes "
                "(collection_id, embedder, dimensions, has_sparse, model, state, storage) "
                "SELECT %s, %s, %s, %s, %s, 'building', coalesce(nullif(%s, ''), storage) "
                "FROM trireme.indexes WHERE collection_id = %s AND state = 'active' RETURNING id",
                (
                    row[0],
                    embedder.digest,
                    embedder.dimensions,
                    embedder.dimensions == 0,
                    model,
                    storage,
                    row[0],
                ),
            ).fetchone()
            if made is None:
                # It has a language, and nothing was ever put into it.
                raise_unknown(collection)
            return _version(connection, made[0])

        return self._pool.run(work, self._pool.timeouts.write_passages)

    def missing(self, number: int, limit: int) -> list[Unembedded]:
        """See IndexVersions.missing."""

        def work(connection: DeadlineConnection) -> list[Unembedded]:
            allow_seconds(connection, self._pool.timeouts.read_passages)
            index, progress, _ = _row(connection, number)
            # From the start again in the end: keys are given out before they are committed.
            for after in (progress, 0):
                rows = connection.execute(
                    f"SELECT p.key, p.text {_WITHOUT_VECTOR} ORDER BY p.key LIMIT %(limit)s".encode(),
                    {"collection": index.collection_id, "index": number, "after": after, "limit": limit},
                ).fetchall()
                if rows:
                    return [Unembedded(*row) for row in rows]
            return []

        return self._pool.run(work, self._pool.timeouts.read_passages)

    def fill(
        self,
        number: int,
        keys: Sequence[int],
        embeddings: FloatArray,
        sparse: Sequence[SparseVector] | None = None,
    ) -> int:
        """See IndexVersions.fill."""

        def work(connection: DeadlineConnection) -> int:
            allow_seconds(connection, self._pool.timeouts.write_passages)
            # Fills of one version take turns; nobody drops it meanwhile.
            index, _, _ = _row(connection, number, lock="FOR NO KEY UPDATE OF i")
            check_vectors(index.embedder, embeddings, sparse, [f"passage {key}" for key in keys])
            present = {
                key
                for (key,) in connection.execute(
                    "SELECT key FROM trireme.passages WHERE collection_id = %s AND key = ANY(%s) FOR KEY SHARE",
                    (index.collection_id, list(keys)),
                )
            }
            places = [place for place, key in enumerate(keys) if key in present]
            weights = None if sparse is None else [sparse[place] for place in places]
            write_vectors(connection, index, [keys[place] for place in places], embeddings[places], weights)
            if keys:
                connection.execute(
                    "UPDATE trireme.indexes SET progress = greatest(progress, %s) WHERE id = %s",
                    (max(keys), number),
                )
            return len(places)

        return self._pool.run(work, self._pool.timeouts.write_passages)

    def switch(self, number: int) -> None:
        """See IndexVersions.switch."""
        ensure_hnsw(self._pool, number, self._exact_below)

        def work(connection: DeadlineConnection) -> None:
            allow_seconds(connection, self._pool.timeouts.write_passages)
            index, _, state = _row(connection, number, lock="FOR UPDATE OF c")
            # Read again: it may have changed while the collection was locked by another.
            index, _, state = _row(connection, number)
            if state == "active":
                return
            row = connection.execute(
                f"SELECT count(*) {_WITHOUT_VECTOR}".encode(),
                {"collection": index.collection_id, "index": number, "after": 0},
            ).fetchone()
            if row and row[0]:
                raise_incomplete(row[0])
            connection.execute(
                "DELETE FROM trireme.indexes WHERE collection_id = %s AND state = 'kept' AND id <> %s",
                (index.collection_id, number),
            )
            # Two statements, since the unique index allows no two active ones even within one.
            connection.execute(
                "UPDATE trireme.indexes SET state = 'kept' WHERE collection_id = %s AND state = 'active'",
                (index.collection_id,),
            )
            connection.execute("UPDATE trireme.indexes SET state = 'active' WHERE id = %s", (number,))

        self._pool.run(work, self._pool.timeouts.write_passages)
        drop_unused(self._pool)

    def drop(self, number: int) -> None:
        """See IndexVersions.drop."""

        def work(connection: DeadlineConnection) -> None:
            allow_seconds(connection, self._pool.timeouts.drop)
            _, _, state = _row(connection, number, lock="FOR UPDATE OF i")
            if state == "active":
                raise InvalidInputError("this is the active version; switch to another one first")
            connection.execute("DELETE FROM trireme.embeddings WHERE index_id = %s", (number,))
            connection.execute("DELETE FROM trireme.indexes WHERE id = %s", (number,))

        self._pool.run(work, self._pool.timeouts.drop)
        drop_unused(self._pool)


def list_versions(
    connection: Connection[Any], tenant: str | None, collection: str | None
) -> list[IndexVersion]:
    """All versions of the collections that match (None: all), the oldest first."""
    return _versions(
        connection,
        "(%(tenant)s::text IS NULL OR c.tenant = %(tenant)s) "
        "AND (%(collection)s::text IS NULL OR c.collection = %(collection)s)",
        {"tenant": tenant, "collection": collection},
    )


def _version(connection: Connection[Any], number: int) -> IndexVersion:
    return _versions(connection, "i.id = %(number)s", {"number": number})[0]


def _versions(connection: Connection[Any], condition: str, values: dict[str, Any]) -> list[IndexVersion]:
    # The active version is always complete, so its vectors need not be counted.
    rows = connection.execute(
        "SELECT i.id, c.tenant, c.collection, i.embedder, i.dimensions, i.model, i.storage, i.state, "  # noqa: S608
        "CASE i.state WHEN 'active' THEN c.passages "
        "ELSE (SELECT count(*) FROM trireme.embeddings e WHERE e.index_id = i.id) END "
        f"FROM trireme.indexes i JOIN trireme.collections c ON c.id = i.collection_id WHERE {condition} "
        "ORDER BY i.id".encode(),
        values,
    ).fetchall()
    return [
        IndexVersion(number, owner, name, Embedder(digest, dimensions), model, storage, state, vectors)
        for number, owner, name, digest, dimensions, model, storage, state, vectors in rows
    ]


def _row(connection: Connection[Any], number: int, lock: str = "") -> tuple[IndexRow, int, str]:
    """A version with its progress and state. Raises NotFoundError."""
    row = connection.execute(
        "SELECT c.id, i.id, c.tenant, i.embedder, i.dimensions, i.model, i.storage, c.passages, "  # noqa: S608
        "c.language, i.has_sparse, i.progress, i.state "
        "FROM trireme.indexes i JOIN trireme.collections c ON c.id = i.collection_id "
        f"WHERE i.id = %s {lock}".encode(),
        (number,),
    ).fetchone()
    if row is None:
        raise_no_version(number)
    embedder = Embedder(row[3], row[4])
    found = IndexRow(row[0], row[1], row[2], embedder, *row[5:10])
    return found, row[10], row[11]
