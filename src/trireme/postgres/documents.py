"""Documents in PostgreSQL: written with their passages, vectors and the end of their jobs in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from trireme.errors import InvalidInputError
from trireme.ingest.documents import Indexed, check_indexed, find_storable
from trireme.ingest.queue import Job, check_scope
from trireme.languages import AUTO
from trireme.postgres.configurations import passage_configuration
from trireme.postgres.languages import language_of, reread_staged
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.publish import lock_of
from trireme.postgres.queue_schema import SEARCH_PATH
from trireme.postgres.rows import (
    IndexRow,
    as_stored,
    delete_collection,
    lock_collection,
    lock_name,
    note_sparse,
    stored_weights,
    vector_column,
    write_passages,
)
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.postgres.words import passage_columns
from trireme.retrieve.store import check_put
from trireme.types import Embedder, FloatArray, Passage, SparseVector

STAGE = """
    INSERT INTO staged (job, tenant, position, id, text, metadata, embedding, sparse, configuration, tsv)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, trireme.read_passage(%s, %s, %s::tsvector))
    """

# A join with the list of jobs would be planned as a loop over it for each job in hand.
FINISH = """
    UPDATE procrastinate_jobs SET status = 'succeeded', worker_id = NULL, attempts = attempts + 1
    WHERE id = ANY(%b) AND status = 'doing' AND worker_id = %s RETURNING id
    """

# A dead job of an older text would, if it were retried, undo what has just been written; so would one that was
# retried while a newer one ran.
FORGET = """
    DELETE FROM procrastinate_jobs dead USING unnest(%b::text[], %b::bigint[]) AS done (lock, id)
    WHERE dead.lock = done.lock AND dead.id < done.id AND dead.status IN ('failed', 'todo')
    """

DOCUMENTS = """
    INSERT INTO documents AS d (collection_id, tenant, id, digest, title, source, chunks)
    SELECT %s, %s, new.id, new.digest, new.title, new.source, new.chunks
    FROM unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::bigint[])
        AS new (id, digest, title, source, chunks)
    ON CONFLICT (collection_id, id) DO UPDATE SET digest = EXCLUDED.digest, title = EXCLUDED.title,
        source = EXCLUDED.source, chunks = EXCLUDED.chunks, updated_at = now()
    RETURNING id, key, xmax = 0
    """

OWNED = """
    SELECT p.id, p.document_key, d.id FROM passages p JOIN documents d ON d.key = p.document_key
    WHERE p.collection_id = %s AND p.id = ANY(%b)
    """

REMOVE_OLD = """
    DELETE FROM passages p WHERE p.document_key = ANY(%(keys)b) AND p.id <> ALL(%(kept)b)
        AND NOT EXISTS (SELECT FROM staged s WHERE s.job = ANY(%(jobs)b) AND s.id = p.id)
    """

MOVE_CHANGED = """
    DELETE FROM passages p USING staged s
    WHERE s.job = %s AND p.collection_id = %s AND p.id = s.id AND p.text <> s.text
    """

MOVE_PASSAGES = """
    WITH written AS (
        INSERT INTO passages (collection_id, tenant, document_key, id, text, metadata, configuration, tsv)
        SELECT %s, tenant, %s, id, text, metadata, configuration, tsv FROM staged WHERE job = %s ORDER BY position
        ON CONFLICT (collection_id, id) DO UPDATE
            SET metadata = EXCLUDED.metadata, document_key = EXCLUDED.document_key,
                configuration = EXCLUDED.configuration, tsv = EXCLUDED.tsv
        RETURNING xmax = 0 AS is_new)
    SELECT count(*) FILTER (WHERE is_new) FROM written
    """

MOVE_VECTORS = """
    INSERT INTO embeddings (index_id, passage_key, tenant, {column}, sparse)
    SELECT %s, p.key, p.tenant, {value}, s.sparse FROM staged s
    JOIN passages p ON p.collection_id = %s AND p.id = s.id WHERE s.job = %s ORDER BY s.position
    ON CONFLICT (index_id, passage_key) DO UPDATE SET {column} = EXCLUDED.{column}, sparse = EXCLUDED.sparse
    """

WAITING = """
    SELECT DISTINCT ON (s.document_id) s.document_id, s.digest
    FROM submissions s JOIN procrastinate_jobs j ON j.id = s.job
    WHERE s.tenant = %s AND s.collection = %s AND s.document_id = ANY(%b) AND j.status IN ('todo', 'doing')
    ORDER BY s.document_id, s.job DESC
    """

STORED = """
    SELECT d.id, d.digest FROM documents d JOIN collections c ON c.id = d.collection_id
    WHERE c.tenant = %s AND c.collection = %s AND d.id = ANY(%b)
    """

WITHDRAW = """
    UPDATE procrastinate_jobs SET status = 'cancelled', worker_id = NULL
    WHERE lock = ANY(%b) AND status IN ('todo', 'doing')
    """


class PostgresDocuments:
    """A DocumentStore beside PostgresStore, for jobs of a ProcrastinateQueue on the same database.

    storage: how vectors of a collection that it creates are kept (float32, float16 or binary). language: of such
    a collection. HNSW indexes are PostgresIndexBuilder's.
    """

    def __init__(
        self,
        url: str,
        storage: str = "float32",
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        *,
        language: str = AUTO,
    ) -> None:
        self._pool = ConnectionPool(url, 3, partial(_configure, timeouts), timeouts)
        self._storage = storage
        self._language = language

    def digests(
        self, tenant: str, collection: str, ids: Sequence[str], *, waiting: bool = False
    ) -> dict[str, str]:
        """See DocumentStore.digests."""
        check_scope(tenant, collection)
        scope = (tenant, collection, find_storable(ids))

        def work(connection: DeadlineConnection) -> dict[str, str]:
            found = dict(connection.execute(STORED, scope).fetchall())
            return found | dict(connection.execute(WAITING, scope).fetchall()) if waiting else found

        return self._pool.run(work, self._pool.timeouts.read_documents)

    def stage(
        self,
        job: Job,
        position: int,
        passages: Sequence[Passage],
        embeddings: FloatArray,
        embedder: Embedder,
        *,
        sparse: Sequence[SparseVector] | None = None,
    ) -> None:
        """See DocumentStore.stage."""
        check_put(job.tenant, job.collection, embedder, passages, embeddings, sparse=sparse)
        vectors = [as_stored(vector, "float32") for vector in embeddings]
        weights = [None] * len(vectors) if sparse is None else [stored_weights(one) for one in sparse]

        def work(connection: DeadlineConnection) -> None:
            if not _holds(connection, job):
                return
            connection.execute(
                "DELETE FROM staged USING submissions s WHERE staged.job = s.job AND s.job = %s "
                "AND (staged.position >= %s OR s.staged_with <> %s)",
                (int(job.id), position, embedder.digest),
            )
            scope = (int(job.id), job.tenant)
            language = language_of(connection, job.tenant, job.collection, self._language)
            rows = []
            for n, (one, *made) in enumerate(zip(passages, vectors, weights, strict=True)):
                by = passage_configuration(language, one.metadata)
                text = (one.id, one.text, one.metadata, *made, by, by, *passage_columns(one.text, by))
                rows.append((*scope, position + n, *text))
            with connection.cursor() as cursor:
                cursor.executemany(STAGE, rows)
            connection.execute(
                "UPDATE submissions SET staged = %s, staged_with = %s WHERE job = %s",
                (position + len(rows), embedder.digest, int(job.id)),
            )

        self._pool.run(work, self._pool.timeouts.write_documents)

    def replace(self, indexed: Sequence[Indexed], embedder: Embedder, model: str) -> list[str]:
        """See DocumentStore.replace. Writers of one collection take turns."""
        if not indexed:
            return []
        check_indexed(indexed, embedder)
        scope = (indexed[0].job.tenant, indexed[0].job.collection)

        def work(connection: DeadlineConnection) -> list[str]:
            active = None
            if any(not one.is_known for one in indexed):
                active = lock_collection(
                    connection,
                    *scope,
                    embedder,
                    model=model,
                    storage=self._storage,
                    language=self._language,
                )
            done = _finish(connection, [one.job for one in indexed])
            mine = [one for one in indexed if one.job.id in done and not one.is_known]
            if active is not None and mine:
                _write(connection, active, mine)
            elif active is not None and active.is_new:
                # It was deleted with all that was in hand for it, and does not come back.
                delete_collection(connection, active.collection_id)
            jobs = [int(job) for job in done]
            connection.execute("DELETE FROM submissions WHERE job = ANY(%b)", (jobs,))
            locks = [lock_of(*scope, one.job.document.id) for one in indexed if one.job.id in done]
            ordered = [int(one.job.id) for one in indexed if one.job.id in done]
            connection.execute(FORGET, (locks, ordered))
            return [one.job.id for one in indexed if one.job.id in done]

        timeouts = self._pool.timeouts
        is_long = any(one.staged for one in indexed)
        return self._pool.run(work, timeouts.move_document if is_long else timeouts.write_documents)

    def delete(self, tenant: str, collection: str, ids: Sequence[str]) -> list[str]:
        """See DocumentStore.delete."""
        check_scope(tenant, collection)
        wanted = find_storable(dict.fromkeys(ids))
        locks = [lock_of(tenant, collection, one) for one in wanted]

        def work(connection: DeadlineConnection) -> list[str]:
            collection_id, is_new = lock_name(connection, tenant, collection)
            found = {
                one
                for (one,) in connection.execute(
                    "DELETE FROM submissions WHERE tenant = %s AND collection = %s AND document_id = ANY(%b) "
                    "RETURNING document_id",
                    (tenant, collection, wanted),
                )
            }
            connection.execute(WITHDRAW, (locks,))
            connection.execute(
                "DELETE FROM procrastinate_jobs WHERE lock = ANY(%b) AND status = 'failed'", (locks,)
            )
            if is_new:
                delete_collection(connection, collection_id)
            else:
                found |= _delete_documents(connection, collection_id, wanted)
            return [one for one in wanted if one in found]

        return self._pool.run(work, self._pool.timeouts.move_document)

    def ids(self, tenant: str, collection: str, after: str = "", limit: int = 1000) -> list[str]:
        """See DocumentStore.ids."""
        check_scope(tenant, collection)
        rows = self._pool.run(
            lambda connection: connection.execute(
                "SELECT d.id FROM documents d JOIN collections c ON c.id = d.collection_id "
                "WHERE c.tenant = %s AND c.collection = %s AND d.id > %s ORDER BY d.id LIMIT %s",
                (tenant, collection, after, limit),
            ).fetchall(),
            self._pool.timeouts.read_documents,
        )
        return [one for (one,) in rows]

    def close(self) -> None:
        """Close the idle connections. Idempotent; a later verb opens new ones."""
        self._pool.close()


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    from pgvector.psycopg import register_vector

    migrate(connection, seconds=timeouts.migrate)
    connection.execute(SEARCH_PATH, (False,))
    register_vector(connection)
    connection.execute("SET jit = off")


def _holds(connection: DeadlineConnection, job: Job) -> bool:
    row = connection.execute(
        "SELECT 1 FROM procrastinate_jobs WHERE id = %s AND status = 'doing' AND worker_id = %s FOR UPDATE",
        (int(job.id), int(job.claim)),
    ).fetchone()
    return row is not None


def _finish(connection: DeadlineConnection, jobs: Sequence[Job]) -> set[str]:
    done: set[str] = set()
    for claim in {job.claim for job in jobs}:
        mine = [int(job.id) for job in jobs if job.claim == claim]
        done |= {str(job) for (job,) in connection.execute(FINISH, (mine, int(claim)))}
    return done


def _write(connection: DeadlineConnection, active: IndexRow, indexed: Sequence[Indexed]) -> None:
    """Put documents with their passages in place of what the locked collection has of them."""
    documents = [one.job.document for one in indexed]
    written = connection.execute(
        DOCUMENTS,
        (
            active.collection_id,
            active.tenant,
            [document.id for document in documents],
            [document.digest for document in documents],
            [document.title for document in documents],
            [document.source for document in documents],
            [one.staged + len(one.passages) for one in indexed],
        ),
    ).fetchall()
    keys = {document: key for document, key, _ in written}
    _count(connection, active.collection_id, documents=sum(is_new for *_, is_new in written))
    passages = [passage for one in indexed for passage in one.passages]
    owners = [keys[one.job.document.id] for one in indexed for _ in one.passages]
    _check_owners(connection, active, [passage.id for passage in passages], owners)
    _remove_old(connection, active, indexed, list(keys.values()), [passage.id for passage in passages])
    for one in indexed:
        if one.staged:
            _move(connection, active, one, keys[one.job.document.id])
    if passages:
        vectors = [one.embeddings for one in indexed if one.embeddings is not None and one.passages]
        sparse = _weights(indexed)
        write_passages(connection, active, passages, np.concatenate(vectors), owners, sparse=sparse)


def _weights(indexed: Sequence[Indexed]) -> list[SparseVector] | None:
    """Of all passages, in order; None where any has none: one embedder makes them of all or of none."""
    made = [one.sparse for one in indexed if one.passages]
    return None if None in made else [vector for sparse in made if sparse for vector in sparse]


def _check_owners(
    connection: DeadlineConnection, active: IndexRow, ids: Sequence[str], owners: Sequence[int]
) -> None:
    if len(set(ids)) < len(ids):
        raise InvalidInputError("two documents have a passage of the same id")
    wanted = dict(zip(ids, owners, strict=True))
    for passage, owner, document in connection.execute(OWNED, (active.collection_id, list(ids))):
        if owner != wanted[passage]:
            raise InvalidInputError(
                f"passage id {passage!r} belongs to document {document!r}; give one of the two another id"
            )


def _remove_old(
    connection: DeadlineConnection,
    active: IndexRow,
    indexed: Sequence[Indexed],
    keys: list[int],
    kept: list[str],
) -> None:
    """Passages that the documents had and have no more; those of the same id are replaced by the writer."""
    jobs = [int(one.job.id) for one in indexed if one.staged]
    removed = connection.execute(REMOVE_OLD, {"keys": keys, "kept": kept, "jobs": jobs}).rowcount
    _count(connection, active.collection_id, passages=-removed)


def _move(connection: DeadlineConnection, active: IndexRow, one: Indexed, key: int) -> None:
    """Staged passages of a document to where searches see them."""
    job = int(one.job.id)
    row = connection.execute("SELECT count(*) FROM staged WHERE job = %s", (job,)).fetchone()
    if row is None or row[0] != one.staged:
        raise InvalidInputError(f"{row and row[0]} passages are staged, not {one.staged}; start the job anew")
    reread_staged(connection, job, active.language)
    changed = connection.execute(MOVE_CHANGED, (job, active.collection_id)).rowcount
    row = connection.execute(MOVE_PASSAGES, (active.collection_id, key, job)).fetchone()
    column = vector_column(active.storage)
    value = "s.embedding" if column == "embedding" else "l2_normalize(s.embedding)::halfvec"
    statement = MOVE_VECTORS.format(column=column, value=value)
    connection.execute(statement.encode(), (active.index_id, active.collection_id, job))
    row_with = "SELECT FROM staged WHERE job = %s AND sparse IS NOT NULL LIMIT 1"
    if connection.execute(row_with, (job,)).rowcount:
        note_sparse(connection, active)
    _count(connection, active.collection_id, passages=(int(row[0]) if row else 0) - changed)


def _count(
    connection: DeadlineConnection, collection_id: int, *, passages: int = 0, documents: int = 0
) -> None:
    """Keep the collection's own numbers right, by what was added or, below 0, removed."""
    if passages or documents:
        connection.execute(
            "UPDATE collections SET passages = passages + %s, documents = documents + %s WHERE id = %s",
            (passages, documents, collection_id),
        )


def _delete_documents(connection: DeadlineConnection, collection_id: int, ids: list[str]) -> set[str]:
    removed = connection.execute(
        "DELETE FROM passages p USING documents d WHERE d.key = p.document_key "
        "AND d.collection_id = %s AND d.id = ANY(%b)",
        (collection_id, ids),
    ).rowcount
    rows = connection.execute(
        "DELETE FROM documents WHERE collection_id = %s AND id = ANY(%b) RETURNING id", (collection_id, ids)
    ).fetchall()
    _count(connection, collection_id, passages=-removed, documents=-len(rows))
    return {one for (one,) in rows}
