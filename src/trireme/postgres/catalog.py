"""What a tenant holds in PostgreSQL: its documents, passages and jobs in pages, and the end of a collection."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import psycopg

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.catalog import (
    DocumentsPage,
    DocumentsQuery,
    JobNumbers,
    JobsPage,
    JobsQuery,
    PassagesPage,
    PassagesQuery,
    StoredDocument,
    check_documents,
    check_jobs,
    check_passages,
    end_of_prefix,
    is_job_id,
    job_numbers,
    passage_order,
)
from trireme.ingest.documents import find_storable
from trireme.ingest.queue import STATES, check_scope
from trireme.postgres.hnsw import drop_unused
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.queue import job_info
from trireme.postgres.queue_schema import SEARCH_PATH
from trireme.postgres.queue_sql import JOB
from trireme.postgres.rows import allow_seconds, delete_collection, lock_name
from trireme.postgres.schema import migrate
from trireme.postgres.search import enter_tenant
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.types import Passage

# Pages, and collections that are dropped meanwhile.
CONNECTIONS = 5

COLLECTION = "SELECT id, documents, passages FROM collections WHERE tenant = %s AND collection = %s"

DOCUMENTS = """
    SELECT d.id, d.title, d.source, d.chunks, extract(epoch FROM d.updated_at)::float8
    FROM documents d WHERE {within} ORDER BY d.id LIMIT %(rows)s
    """

DOCUMENT = """
    SELECT d.key, d.id, d.title, d.source, d.chunks, extract(epoch FROM d.updated_at)::float8
    FROM documents d JOIN collections c ON c.id = d.collection_id
    WHERE c.tenant = %s AND c.collection = %s AND d.id = %s
    """

# The ids of a document's passages end with their numbers, without leading zeros: shorter ones come first.
PASSAGES = """
    SELECT id, text, metadata::text FROM passages
    WHERE document_key = %s AND (length(id), id) {compare} (%s, %s)
    ORDER BY length(id) {direction}, id {direction} LIMIT %s
    """

JOBS = f"""
    SELECT {JOB} FROM procrastinate_jobs job LEFT JOIN submissions ON submissions.job = job.id
    WHERE job.{{chosen}} ORDER BY job.id DESC LIMIT %(rows)s
    """  # noqa: S608 - of constants

# One walk along the index for each state: they are merged by id.
JOBS_IN_STATE = """
    (SELECT id FROM procrastinate_jobs WHERE state = '{state}' AND {agrees} ORDER BY id DESC LIMIT %(rows)s)
    """

COUNT_JOBS = """
    SELECT collection, state, count(*) FROM procrastinate_jobs WHERE {agrees} GROUP BY 1, 2 ORDER BY 1
    """

WORKERS = (
    "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - make_interval(secs => %s)"
)

# Locked in the order in which workers take and settle them.
WITHDRAW = """
    WITH locked AS MATERIALIZED (
        SELECT id FROM procrastinate_jobs
        WHERE tenant = %(tenant)s AND collection = %(collection)s AND state IN ('waiting', 'running', 'dead')
        ORDER BY id FOR UPDATE
    ), withdrawn AS (
        UPDATE procrastinate_jobs job SET status = 'cancelled', worker_id = NULL
        FROM locked WHERE job.id = locked.id AND job.status IN ('todo', 'doing')
    ), forgotten AS (
        DELETE FROM procrastinate_jobs job USING locked WHERE job.id = locked.id AND job.status = 'failed'
    ), gone AS (
        DELETE FROM submissions USING locked WHERE submissions.job = locked.id
    )
    SELECT count(*) FROM locked
    """

FORGET = "DELETE FROM procrastinate_jobs WHERE id = %s AND tenant = %s AND status = 'failed'"


class PostgresCatalog:
    """A Catalog beside PostgresDocuments and ProcrastinateQueue, on the same database. Connects at first use.

    What is read is read as the tenant, to whom row-level security shows nobody else's rows. worker_timeout: seconds
    without a heartbeat after which a worker counts as dead.
    """

    def __init__(self, url: str, worker_timeout: float = 15.0, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> None:
        self._pool = ConnectionPool(url, CONNECTIONS, partial(_configure, timeouts), timeouts)
        self._worker_timeout = worker_timeout
        self._drops: set[_Drop] = set()

    def documents(self, query: DocumentsQuery) -> DocumentsPage | None:
        """See Catalog.documents."""
        check_documents(query)
        within = "d.collection_id = %(id)s"
        if query.after:
            within += " AND d.id > %(after)s"
        if query.prefix:
            within += " AND d.id >= %(prefix)s"
        if end := end_of_prefix(query.prefix):
            within += " AND d.id < %(end)s"

        def work(connection: DeadlineConnection) -> DocumentsPage | None:
            enter_tenant(connection, query.tenant)
            found = connection.execute(COLLECTION, (query.tenant, query.collection)).fetchone()
            if found is None:
                return None
            rows = connection.execute(
                DOCUMENTS.format(within=within).encode(),
                {
                    "id": found[0],
                    "after": query.after,
                    "prefix": query.prefix,
                    "end": end,
                    "rows": query.limit + 1,
                },
            ).fetchall()
            documents = tuple(StoredDocument(*row) for row in rows[: query.limit])
            return DocumentsPage(documents, len(rows) > query.limit, *found[1:])

        return self._pool.run(work, self._pool.timeouts.catalog)

    def passages(self, query: PassagesQuery) -> PassagesPage | None:
        """See Catalog.passages."""
        check_passages(query)
        if not find_storable([query.document]):
            return None

        def work(connection: DeadlineConnection) -> PassagesPage | None:
            enter_tenant(connection, query.tenant)
            found = connection.execute(DOCUMENT, (query.tenant, query.collection, query.document)).fetchone()
            if found is None:
                return None
            key, document = found[0], StoredDocument(*found[1:])
            if query.around:
                return _page_around(connection, key, document, query)
            rows = _passages(connection, key, ">", query.after, query.limit + 1)
            has_earlier = bool(query.after and _passages(connection, key, "<=", query.after, 1))
            return PassagesPage(
                document, tuple(rows[: query.limit]), has_earlier, has_more=len(rows) > query.limit
            )

        return self._pool.run(work, self._pool.timeouts.catalog)

    def jobs(self, query: JobsQuery) -> JobsPage:
        """See Catalog.jobs."""
        check_jobs(query)
        agrees = "tenant = %(tenant)s"
        if query.collections:
            agrees += " AND collection = ANY(%(collections)s)"
        if query.batch:
            agrees += " AND args ->> 'batch' = %(batch)s"
        page = agrees + (" AND id < %(after)s" if query.after else "")
        states = [state for state in STATES if query.state in ("", state)]
        parts = [JOBS_IN_STATE.format(state=state, agrees=page) for state in states]
        chosen = "id = ANY(%(ids)s)" if query.ids else f"id IN ({' UNION ALL '.join(parts)})"
        parameters: dict[str, Any] = {
            "tenant": query.tenant,
            "collections": list(query.collections),
            "batch": query.batch,
            "after": int(query.after or 0),
            "ids": job_numbers(query.ids),
            "rows": query.limit + 1,
        }
        listed = JOBS.format(chosen=chosen).encode()
        counted = COUNT_JOBS.format(agrees=agrees).encode()

        def work(connection: DeadlineConnection) -> JobsPage:
            enter_tenant(connection, query.tenant)
            rows = connection.execute(listed, parameters).fetchall()
            jobs = tuple(job_info(row) for row in rows[: query.limit])
            if query.ids:
                return JobsPage(jobs, len(rows) > query.limit)
            numbers = _numbers_of(connection.execute(counted, parameters).fetchall())
            workers = connection.execute(WORKERS, (self._worker_timeout,)).fetchone()
            return JobsPage(
                jobs,
                len(rows) > query.limit,
                numbers,
                int(workers[0]) if workers else 0,
            )

        return self._pool.run(work, self._pool.timeouts.catalog)

    def forget(self, tenant: str, job: str) -> bool:
        """See Catalog.forget."""
        check_scope(tenant, "any")
        if not is_job_id(job):
            return False
        return self._pool.run(
            lambda connection: bool(connection.execute(FORGET, (int(job), tenant)).rowcount),
            self._pool.timeouts.catalog,
        )

    def drop(self, tenant: str, collection: str) -> bool:
        """See Catalog.drop."""
        check_scope(tenant, collection)
        drop = _Drop()

        def work(connection: DeadlineConnection) -> tuple[bool, bool]:
            drop.begin(connection)
            allow_seconds(connection, self._pool.timeouts.drop)
            # First, as all do that write to a collection.
            collection_id, is_new = lock_name(connection, tenant, collection)
            scope = {"tenant": tenant, "collection": collection}
            jobs = connection.execute(WITHDRAW, scope).fetchone()
            delete_collection(connection, collection_id)
            drop.check()
            return not is_new, bool(jobs and jobs[0])

        self._drops.add(drop)
        try:
            had_rows, had_jobs = self._pool.run(work, self._pool.timeouts.drop)
        finally:
            self._drops.discard(drop)
        if had_rows and not drop.is_over:
            # It is deleted; an index of nothing that is left goes with the next one.
            with contextlib.suppress(TriremeError):
                drop_unused(self._pool)
        return had_rows or had_jobs

    def close(self) -> None:
        """See Catalog.close."""
        for drop in tuple(self._drops):
            drop.end(self._pool.timeouts.connect)
        self._pool.close()


class _Drop:
    """A deletion that runs, and that another thread can end."""

    def __init__(self) -> None:
        self.is_over = False
        self._connection: DeadlineConnection | None = None

    def begin(self, connection: DeadlineConnection) -> None:
        """It is done there. Raises UnavailableError once it was ended."""
        self._connection = connection
        self.check()

    def check(self) -> None:
        """Raises UnavailableError once it was ended, so that nothing of it is committed."""
        if self.is_over:
            raise UnavailableError("the process stops; delete the collection again")

    def end(self, seconds: float) -> None:
        """It raises UnavailableError soon. Waits for the database for so long at most."""
        self.is_over = True
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.cancel_safe(timeout=seconds)


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute(SEARCH_PATH, (False,))
    allow_seconds(connection, timeouts.catalog, local=False)
    connection.execute("SET max_parallel_workers_per_gather = 0")
    connection.execute("SET jit = off")


def _numbers_of(rows: Sequence[tuple[Any, ...]]) -> tuple[JobNumbers, ...]:
    """Of rows of a collection, a state and how many jobs are in it."""
    numbers: dict[str, dict[str, int]] = {}
    for collection, state, count in rows:
        numbers.setdefault(collection, {})[state] = count
    return tuple(JobNumbers(collection, **counts) for collection, counts in numbers.items())


def _page_around(
    connection: DeadlineConnection, key: int, document: StoredDocument, query: PassagesQuery
) -> PassagesPage | None:
    half = query.limit // 2
    before = _passages(connection, key, "<", query.around, half + 1)
    has_earlier = len(before) > half
    before = before[len(before) - half :] if has_earlier else before
    room = query.limit - len(before)
    rows = _passages(connection, key, ">=", query.around, room + 1)
    if not rows or rows[0].id != query.around:
        return None
    return PassagesPage(document, (*before, *rows[:room]), has_earlier, has_more=len(rows) > room)


def _passages(
    connection: DeadlineConnection, key: int, compare: str, passage: str, most: int
) -> Sequence[Passage]:
    """At most `most` passages next to `passage` on the side that `compare` says, in order; "" is before all."""
    direction = "DESC" if compare.startswith("<") else "ASC"
    rows = connection.execute(
        PASSAGES.format(compare=compare, direction=direction).encode(),
        (key, *passage_order(passage), most),
    ).fetchall()
    found = [Passage(*row) for row in rows]
    return found[::-1] if direction == "DESC" else found
