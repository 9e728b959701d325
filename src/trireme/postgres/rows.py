"""Rows of collections, passages and vectors, written and found within an open transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pgvector import HalfVector, Vector
from pgvector import SparseVector as StoredWeights
from psycopg import Connection, sql

from trireme.errors import InvalidInputError
from trireme.postgres.words import passage_columns
from trireme.retrieve.sparse import SPARSE_DIMENSIONS, keep_heaviest
from trireme.retrieve.store import check_embedder
from trireme.types import Embedder, FloatArray, Passage, SparseVector

MAX_DIMENSIONS = 16_000

WRITE_PASSAGES = """
    INSERT INTO trireme.passages (collection_id, tenant, document_key, id, text, metadata, tsv)
    SELECT %s, %s, document, id, text, metadata::json,
        to_tsvector('pg_catalog.english', plain) || exact::tsvector
    FROM unnest(%b::bigint[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[])
        AS new (document, id, text, metadata, plain, exact)
    ON CONFLICT (collection_id, id) DO UPDATE
        SET metadata = EXCLUDED.metadata, document_key = EXCLUDED.document_key, tsv = EXCLUDED.tsv
    RETURNING id, key, xmax = 0
    """


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One index version of a collection. `storage` is float32, float16 or binary; `passages` the collection's.

    has_sparse: passages have sparse weights. is_new: the collection was made in this transaction.
    """

    collection_id: int
    index_id: int
    tenant: str
    embedder: Embedder
    model: str
    storage: str
    passages: int
    has_sparse: bool = False
    is_new: bool = False


def lock_collection(
    connection: Connection[Any],
    tenant: str,
    collection: str,
    embedder: Embedder,
    *,
    model: str = "",
    storage: str = "float32",
) -> IndexRow:
    """Make the collection with `embedder` and `storage`, or lock the one there is; returns its active index.

    Locked until the transaction ends: writers of one collection take turns. A `model` is kept as the name of
    the active index's embedder where it has none yet. Raises EmbedderMismatchError, as VectorStore.put.
    """
    if embedder.dimensions > MAX_DIMENSIONS:
        raise InvalidInputError(
            f"pgvector stores at most {MAX_DIMENSIONS} dimensions, got {embedder.dimensions}"
        )
    collection_id, is_new = lock_name(connection, tenant, collection)
    active = find_active(connection, tenant, collection)
    if active is None:
        connection.execute(
            "INSERT INTO trireme.indexes (collection_id, embedder, dimensions, has_sparse, model, storage, state) "
            "VALUES (%s, %s, %s, %s, %s, %s, 'active')",
            (collection_id, embedder.digest, embedder.dimensions, embedder.dimensions == 0, model, storage),
        )
        active = find_active(connection, tenant, collection)
        assert active is not None  # noqa: S101 - it was inserted in this transaction
    check_embedder(collection, active.embedder, embedder)
    if model and not active.model:
        connection.execute("UPDATE trireme.indexes SET model = %s WHERE id = %s", (model, active.index_id))
    return replace(active, is_new=is_new)


def lock_name(connection: Connection[Any], tenant: str, collection: str) -> tuple[int, bool]:
    """The id of a collection, which is made where there is none (then True), and locked until the transaction ends.

    Who would lock those alone that there are would not wait for the transaction that makes one.
    """
    row = connection.execute(
        "INSERT INTO trireme.collections AS c (tenant, collection) VALUES (%s, %s) "
        "ON CONFLICT (tenant, collection) DO UPDATE SET passages = c.passages RETURNING id, xmax = 0",
        (tenant, collection),
    ).fetchone()
    return row or (0, False)


def find_active(connection: Connection[Any], tenant: str, collection: str) -> IndexRow | None:
    """The index that searches of the collection use, or None where there is no such collection."""
    return find_index(connection, tenant, collection, 0)


def find_index(connection: Connection[Any], tenant: str, collection: str, version: int) -> IndexRow | None:
    """An index version of a collection, the active one for 0; None where there is no such version."""
    row = connection.execute(
        "SELECT c.id, i.id, c.tenant, i.embedder, i.dimensions, i.model, i.storage, c.passages, i.has_sparse "
        "FROM trireme.collections c JOIN trireme.indexes i ON i.collection_id = c.id "
        "AND CASE WHEN %s = 0 THEN i.state = 'active' ELSE i.id = %s END "
        "WHERE c.tenant = %s AND c.collection = %s",
        (version, version, tenant, collection),
    ).fetchone()
    if row is None:
        return None
    return IndexRow(row[0], row[1], row[2], Embedder(row[3], row[4]), *row[5:])


def allow_seconds(connection: Connection[Any], seconds: float, local: bool = True) -> None:
    """Let statements run so long, until the transaction ends, or from now on."""
    # A little less than the pool's deadline, so that a slow statement is told from a dead server.
    milliseconds = str(int(seconds * 1000) - 300)
    connection.execute("SELECT set_config('statement_timeout', %s, %s)", (milliseconds, local))


def delete_collection(connection: Connection[Any], collection_id: int) -> None:
    """Delete a locked collection with all it holds."""
    # Vectors before passages and documents: one statement each instead of a cascade for every row.
    connection.execute(
        "DELETE FROM trireme.embeddings WHERE index_id IN "
        "(SELECT id FROM trireme.indexes WHERE collection_id = %s)",
        (collection_id,),
    )
    connection.execute("DELETE FROM trireme.passages WHERE collection_id = %s", (collection_id,))
    connection.execute("DELETE FROM trireme.collections WHERE id = %s", (collection_id,))


def write_passages(
    connection: Connection[Any],
    active: IndexRow,
    passages: Sequence[Passage],
    embeddings: FloatArray,
    documents: Sequence[int | None] | None = None,
    *,
    sparse: Sequence[SparseVector] | None = None,
) -> int:
    """Insert or replace `passages` (ids unique) with their vectors [n, dimensions]; returns the new count.

    The collection must be locked. `documents` has the key of each passage's document. A passage whose text is
    new gets a new key, and with it loses its vectors in other index versions; one whose text is the same
    keeps them. The collection's count is kept right.
    """
    ids = [passage.id for passage in passages]
    words = [passage_columns(passage.text) for passage in passages]
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM trireme.passages p USING unnest(%b::text[], %b::text[]) AS new (id, text) "
            "WHERE p.collection_id = %s AND p.id = new.id AND p.text <> new.text",
            (ids, [passage.text for passage in passages], active.collection_id),
        )
        removed = cursor.rowcount
        written = cursor.execute(
            WRITE_PASSAGES,
            (
                active.collection_id,
                active.tenant,
                list(documents or [None] * len(ids)),
                ids,
                [passage.text for passage in passages],
                [passage.metadata for passage in passages],
                [plain for plain, _ in words],
                [exact for _, exact in words],
            ),
        ).fetchall()
        keys = {id_: key for id_, key, _ in written}
        write_vectors(connection, active, [keys[id_] for id_ in ids], embeddings, sparse)
        added = sum(1 for *_, is_new in written if is_new)
        row = cursor.execute(
            "UPDATE trireme.collections SET passages = passages + %s WHERE id = %s RETURNING passages",
            (added - removed, active.collection_id),
        ).fetchone()
    return int(row[0]) if row else 0


def write_vectors(
    connection: Connection[Any],
    index: IndexRow,
    keys: Sequence[int],
    embeddings: FloatArray,
    sparse: Sequence[SparseVector] | None = None,
) -> None:
    """Store vectors [n, dimensions] of the passages with `keys` in one index version, replacing older ones.

    So their sparse weights, which are gone where there are none now. A key whose passage is gone is left out.
    """
    column = vector_column(index.storage)
    statement = sql.SQL(
        "INSERT INTO trireme.embeddings (index_id, passage_key, tenant, {column}, sparse) "
        "SELECT %s, key, tenant, %s, %s FROM trireme.passages WHERE key = %s "
        "ON CONFLICT (index_id, passage_key) DO UPDATE SET {column} = EXCLUDED.{column}, sparse = EXCLUDED.sparse"
    ).format(column=sql.Identifier(column))
    weights = [None] * len(keys) if sparse is None else [stored_weights(one) for one in sparse]
    values = [
        (index.index_id, as_stored(vector, index.storage), weighed, key)
        for key, vector, weighed in zip(keys, embeddings, weights, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)
    if sparse is not None:
        note_sparse(connection, index)


def note_sparse(connection: Connection[Any], index: IndexRow) -> None:
    """Keep that an index version has sparse weights."""
    if not index.has_sparse:
        connection.execute("UPDATE trireme.indexes SET has_sparse = true WHERE id = %s", (index.index_id,))


def stored_weights(vector: SparseVector) -> StoredWeights:
    """Sparse weights as they are stored, and compared with stored ones."""
    kept = keep_heaviest(vector)
    pairs = zip(kept.indices.tolist(), kept.weights.tolist(), strict=True)
    return StoredWeights(dict(pairs), SPARSE_DIMENSIONS)


def vector_column(storage: str) -> str:
    """The column of trireme.embeddings that holds the vectors of an index with this storage."""
    return "embedding" if storage == "float32" else "half"


def as_stored(vector: FloatArray, storage: str) -> Vector | HalfVector | None:
    """A vector as the index stores it, none of 0 dimensions. float16 ones get unit length: none overflows."""
    if not vector.size:
        return None
    single = np.asarray(vector, np.float32)
    if storage == "float32":
        return Vector(single)
    return HalfVector(single / np.linalg.norm(single))
