"""The job queue in PostgreSQL, over procrastinate's tables and functions. It needs no worker of procrastinate.

Jobs are taken and finished in sets: `procrastinate_fetch_job_v2` hands out one at a time, and success belongs
into the transaction that writes the vectors (docs/decisions/0007-ingestion-queue.md).
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.catalog import job_numbers
from trireme.ingest.queue import (
    DEFAULT_BACK_OFF,
    MAX_ATTEMPTS,
    MAX_FAILURES,
    SUSPECT_AFTER,
    BackOff,
    FoundJobs,
    Job,
    JobInfo,
    JobQuery,
    Outcome,
    Published,
    check_limit,
    check_query,
    check_scope,
)
from trireme.postgres.pool import ConnectionPool, DeadlineConnection
from trireme.postgres.publish import publish_documents
from trireme.postgres.queue_schema import SEARCH_PATH
from trireme.postgres.queue_sql import FIND, FIND_BY, JOB, PLAN, PRUNE, QUEUE, SUBMISSIONS, TAKE
from trireme.postgres.schema import migrate
from trireme.postgres.timeouts import DEFAULT_TIMEOUTS, Timeouts
from trireme.types import Document

KEPT_HOURS = 24
PRUNE_ROWS = 5_000

REOPEN = "the database went away while documents were published; publish these documents again"
DIED = "its worker died {} times while it had this document"


@dataclass(frozen=True, slots=True)
class QueueTiming:
    """timeout: seconds without a heartbeat after which a taker has lost its jobs.

    beats: heartbeats in one timeout, of which several may be lost. prune: seconds between two looks for jobs
    that ended long ago. back_off: of failed jobs.
    """

    timeout: float = 15.0
    beats: int = 5
    prune: float = 300.0
    back_off: BackOff = DEFAULT_BACK_OFF

    @property
    def beat(self) -> float:
        """Seconds between two heartbeats."""
        return self.timeout / self.beats


DEFAULT_TIMING = QueueTiming()


class ProcrastinateQueue:
    """A JobQueue in PostgreSQL and one taker of it.

    From the first `take` to `close` a thread sends heartbeats. Connects at first use.
    """

    def __init__(
        self, url: str, timing: QueueTiming = DEFAULT_TIMING, timeouts: Timeouts = DEFAULT_TIMEOUTS
    ) -> None:
        self._pool = ConnectionPool(url, 3, partial(_configure, timeouts), timeouts)
        self._timing = timing
        # Held by `take` and by each heartbeat: a heartbeat finds no number whose transaction is still open.
        self._registering = threading.Lock()
        self._worker: int | None = None
        self._closed = threading.Event()
        self._beating: threading.Thread | None = None
        self._recovered_at = 0.0
        self._pruned_at = monotonic()

    def publish(
        self, tenant: str, collection: str, documents: Sequence[Document], batch: str = ""
    ) -> list[Published]:
        """See JobQueue.publish."""
        check_scope(tenant, collection)
        begun = False

        def work(connection: DeadlineConnection) -> list[Published]:
            nonlocal begun
            if begun and not all(isinstance(document.parts, Sequence) for document in documents):
                # The pool runs this again on a fresh connection, but parts can be read only once.
                raise UnavailableError(REOPEN)
            begun = True
            return publish_documents(connection, (tenant, collection, batch), documents)

        return self._pool.run(work, self._pool.timeouts.publish)

    def take(self, limit: int) -> list[Job]:
        """See JobQueue.take."""
        check_limit(limit)
        self._start_beating()

        def work(connection: DeadlineConnection) -> list[Job]:
            worker = self._beat(connection)
            self._recover(connection)
            connection.execute(PLAN)
            taken = connection.execute(
                TAKE, {"queue": QUEUE, "limit": limit, "suspect": SUSPECT_AFTER, "worker": worker}
            ).fetchall()
            attempts = dict(taken)
            if not attempts:
                return []
            rows = connection.execute(SUBMISSIONS, (list(attempts),)).fetchall()
            return [self._job(row, worker, attempts[row[0]]) for row in sorted(rows)]

        with self._registering:
            return self._pool.run(work, self._pool.timeouts.queue)

    def settle(self, jobs: Sequence[Job], outcome: Outcome, error: str = "") -> None:
        """See JobQueue.settle."""

        def work(connection: DeadlineConnection) -> None:
            for job in jobs:
                self._settle(connection, job, outcome, error)

        self._pool.run(work, self._pool.timeouts.queue)

    def find(self, query: JobQuery) -> FoundJobs:
        """See JobQueue.find."""
        check_query(query)
        parameters: dict[str, Any] = {
            "queue": QUEUE,
            # An id that is no number was never given out.
            "ids": job_numbers(query.ids),
            "state": query.state,
            "tenant": query.tenant,
            "collection": query.collection,
            "limit": query.limit,
            "batch": query.batch,
        }
        # A condition that lets all through would keep the planner from an index.
        condition = FIND + "".join(f" AND {FIND_BY[name]}" for name in FIND_BY if getattr(query, name))
        # The index of batches holds no finished jobs.
        unfinished = condition + (" AND job.status IN ('todo', 'doing', 'failed')" if query.batch else "")

        def work(connection: DeadlineConnection) -> FoundJobs:
            counted = f"SELECT job.state, count(*) {unfinished} GROUP BY 1".encode()
            counts = {state: int(count) for state, count in connection.execute(counted, parameters)}
            counts.pop("cancelled", None)
            workers = connection.execute(
                "SELECT count(*) FROM procrastinate_workers "
                "WHERE last_heartbeat > now() - make_interval(secs => %s)",
                (self._timing.timeout,),
            ).fetchone()
            newest = connection.execute("SELECT coalesce(max(id), 0) FROM procrastinate_jobs").fetchone()
            rows = (
                connection.execute(
                    f"SELECT {JOB} {condition} ORDER BY job.id LIMIT %(limit)s".encode(), parameters
                ).fetchall()
                if query.limit
                else []
            )
            return FoundJobs(
                tuple(job_info(row) for row in rows),
                **counts,
                workers=int(workers[0]) if workers else 0,
                newest=int(newest[0]) if newest else 0,
            )

        return self._pool.run(work, self._pool.timeouts.queue)

    def retry(self, ids: Sequence[str]) -> list[str]:
        """See JobQueue.retry."""
        numbers = job_numbers(ids)

        def work(connection: DeadlineConnection) -> list[str]:
            # The library's own function for this counts an attempt more instead of starting over.
            rows = connection.execute(
                "UPDATE procrastinate_jobs SET status = 'todo', attempts = 0, scheduled_at = NULL, "
                "worker_id = NULL WHERE id = ANY(%s) AND status = 'failed' AND queue_name = %s RETURNING id",
                (numbers, QUEUE),
            ).fetchall()
            connection.execute(
                "UPDATE submissions SET failures = 0 WHERE job = ANY(%s)", ([one for (one,) in rows],)
            )
            return [str(one) for (one,) in sorted(rows)]

        return self._pool.run(work, self._pool.timeouts.queue)

    def close(self) -> None:
        """End the heartbeats and take this taker off the list; jobs in its hands come back at once."""
        self._closed.set()
        if self._beating is not None:
            self._beating.join()
        worker, self._worker = self._worker, None
        if worker is not None:
            # Where the database is away, the timeout will tell the others.
            with contextlib.suppress(TriremeError):
                self._pool.run(
                    lambda c: c.execute("SELECT procrastinate_unregister_worker_v1(%s)", (worker,)),
                    self._pool.timeouts.leave_queue,
                )
        self._pool.close()

    def _settle(self, connection: DeadlineConnection, job: Job, outcome: Outcome, error: str) -> None:
        number = int(job.id)
        held = connection.execute(
            "SELECT failures FROM procrastinate_jobs j JOIN submissions s ON s.job = j.id "
            "WHERE j.id = %s AND j.status = 'doing' AND j.worker_id = %s FOR UPDATE OF j",
            (number, int(job.claim)),
        ).fetchone()
        if held is None:
            return
        if outcome == "released":
            connection.execute(
                "UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL WHERE id = %s", (number,)
            )
            return
        failures = int(held[0]) + 1
        connection.execute("UPDATE submissions SET failures = %s WHERE job = %s", (failures, number))
        if outcome == "dead" or failures >= MAX_FAILURES:
            _bury(connection, number, error)
            return
        connection.execute("UPDATE submissions SET error = %s WHERE job = %s", (error, number))
        connection.execute(
            "SELECT procrastinate_retry_job_v2(%s, now() + make_interval(secs => %s), NULL, NULL, NULL)",
            (number, self._timing.back_off.after(failures)),
        )

    def _job(self, row: tuple[Any, ...], worker: int, attempts: int) -> Job:
        job, tenant, collection, document_id, digest, title, source, whole, extra, text, staged, with_ = row
        parts = (text,) if text is not None else _Parts(self._pool, job)
        document = Document(document_id, title, parts, source, whole, extra, digest)
        return Job(str(job), str(worker), tenant, collection, document, attempts, staged, with_)

    def _start_beating(self) -> None:
        if self._beating is None:
            self._beating = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
            self._beating.start()

    def _keep_beating(self) -> None:
        while not self._closed.wait(self._timing.beat):
            try:
                with self._registering:
                    self._pool.run(self._beat, self._timing.timeout / 2)
            except TriremeError:
                # The database is away: this thread tries again, and so does whoever works.
                continue

    def _beat(self, connection: DeadlineConnection) -> int:
        """Show that this worker is alive; its number, a new one where it was taken for dead."""
        if self._worker is not None:
            row = connection.execute(
                "UPDATE procrastinate_workers SET last_heartbeat = now() WHERE id = %s RETURNING id",
                (self._worker,),
            ).fetchone()
            if row is not None:
                return self._worker
        row = connection.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()
        self._worker = int(row[0]) if row else 0
        return self._worker

    def _recover(self, connection: DeadlineConnection) -> None:
        """Give jobs of dead workers back, or up; forget jobs that ended long ago."""
        if monotonic() - self._recovered_at < self._timing.beat:
            return
        connection.execute("SELECT procrastinate_prune_stalled_workers_v1(%s)", (self._timing.timeout,))
        lost = connection.execute(
            "SELECT id, attempts FROM procrastinate_jobs WHERE status = 'doing' AND worker_id IS NULL "
            "AND queue_name = %s ORDER BY id FOR UPDATE SKIP LOCKED",
            (QUEUE,),
        ).fetchall()
        for job, attempts in lost:
            if attempts + 1 < MAX_ATTEMPTS:
                connection.execute("SELECT procrastinate_retry_job_v2(%s, NULL, NULL, NULL, NULL)", (job,))
            else:
                _bury(connection, job, DIED.format(attempts + 1))
        self._recovered_at = monotonic()
        if monotonic() - self._pruned_at > self._timing.prune:
            connection.execute(PRUNE, (KEPT_HOURS, PRUNE_ROWS))
            self._pruned_at = monotonic()


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of one submission, read from the database one at a time; may be read again."""

    pool: ConnectionPool
    job: int

    def __iter__(self) -> Iterator[str]:
        for n in itertools.count():
            row = self.pool.run(
                lambda c, n=n: c.execute(  # type: ignore[misc]
                    "SELECT text FROM submission_parts WHERE job = %s AND n = %s", (self.job, n)
                ).fetchone(),
                self.pool.timeouts.queue,
            )
            if row is None:
                return
            yield row[0]


def _configure(timeouts: Timeouts, connection: DeadlineConnection) -> None:
    migrate(connection, seconds=timeouts.migrate)
    connection.execute(SEARCH_PATH, (False,))
    connection.execute("SET jit = off")


def _bury(connection: DeadlineConnection, job: int, error: str) -> None:
    connection.execute("SELECT procrastinate_finish_job_v1(%s, 'failed', false)", (job,))
    connection.execute("UPDATE submissions SET error = %s WHERE job = %s", (error, job))


def job_info(row: tuple[Any, ...]) -> JobInfo:
    """A row of queue_sql.JOB."""
    return JobInfo(str(row[0]), *row[1:])
