"""A job queue in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, time

from trireme.errors import DocumentError
from trireme.ingest.queue import (
    DEFAULT_BACK_OFF,
    MAX_ATTEMPTS,
    MAX_FAILURES,
    BackOff,
    FoundJobs,
    Job,
    JobInfo,
    JobQuery,
    JobState,
    Outcome,
    Published,
    check_document,
    check_limit,
    check_query,
    check_scope,
    check_text,
)
from trireme.types import Document

DIED = "its worker died {} times while it had this document"


@dataclass(slots=True)
class _Entry:
    job: Job
    batch: str
    state: JobState = "waiting"
    ready_at: float = 0.0
    failures: int = 0
    error: str = ""
    created_at: float = dataclasses.field(default_factory=time)


class MemoryJobs:
    """What several MemoryQueues share, as several processes share a database."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.entries: dict[str, _Entry] = {}
        self.takers: dict[str, float] = {}
        self.numbers = itertools.count(1)

    def finish(self, jobs: Sequence[Job]) -> list[str]:
        """Mark those jobs done that are still their claimant's; returns their ids."""
        with self.lock:
            mine = [job.id for job in jobs if self.is_held(job)]
            for key in mine:
                done = self.entries[key]
                done.state = "done"
                # A dead job of an older text would, if it were retried, undo what has just been written.
                for other, entry in list(self.entries.items()):
                    if (
                        entry.state in ("dead", "waiting")
                        and _lock(entry) == _lock(done)
                        and int(other) < int(key)
                    ):
                        del self.entries[other]
            return mine

    def withdraw(self, tenant: str, collection: str, documents: Sequence[str]) -> set[str]:
        """Nobody shall end these documents' jobs; returns those that had one."""
        found = set()
        for key, entry in list(self.entries.items()):
            if _lock(entry)[:2] == (tenant, collection) and entry.job.document.id in documents:
                if entry.state in ("waiting", "running"):
                    entry.state = "cancelled"
                    found.add(entry.job.document.id)
                elif entry.state == "dead":
                    del self.entries[key]
                    found.add(entry.job.document.id)
        return found

    def note_staged(self, job: Job, staged: int, embedder: str) -> None:
        """Remember how much of a job is staged."""
        entry = self.entries[job.id]
        entry.job = dataclasses.replace(entry.job, staged=staged, staged_with=embedder)

    def is_held(self, job: Job) -> bool:
        """Whether the claimant still has the job."""
        entry = self.entries.get(job.id)
        return entry is not None and entry.state == "running" and entry.job.claim == job.claim


class MemoryQueue:
    """A JobQueue and one taker of it. `clock` gives seconds; a taker whose `beat` is old counts as dead."""

    def __init__(
        self,
        jobs: MemoryJobs | None = None,
        *,
        timeout: float = 15.0,
        clock: Callable[[], float] = monotonic,
        back_off: BackOff = DEFAULT_BACK_OFF,
    ) -> None:
        self.jobs = jobs or MemoryJobs()
        self._clock = clock
        self._timeout = timeout
        self._back_off = back_off
        self._claim = ""

    def publish(
        self, tenant: str, collection: str, documents: Sequence[Document], batch: str = ""
    ) -> list[Published]:
        """See JobQueue.publish."""
        check_scope(tenant, collection)
        seen: set[str] = set()
        with self.jobs.lock:
            return [self._publish(tenant, collection, document, batch, seen) for document in documents]

    def _publish(
        self, tenant: str, collection: str, document: Document, batch: str, seen: set[str]
    ) -> Published:
        try:
            check_document(document, seen)
            parts = tuple(check_text(part) for part in document.parts)
        except DocumentError as error:
            return Published(document.id, error=str(error))
        key = str(next(self.jobs.numbers))
        job = Job(key, "", tenant, collection, dataclasses.replace(document, parts=parts))
        self.jobs.entries[key] = _Entry(job, batch)
        return Published(document.id, key)

    def take(self, limit: int) -> list[Job]:
        """See JobQueue.take."""
        check_limit(limit)
        with self.jobs.lock:
            self.beat()
            self._recover()
            taken: list[Job] = []
            for entry in self.jobs.entries.values():
                if len(taken) == limit or (taken and entry.job.is_suspect and self._may_take(entry)):
                    break
                if self._may_take(entry):
                    entry.state = "running"
                    entry.job = dataclasses.replace(entry.job, claim=self._claim)
                    taken.append(entry.job)
                    if entry.job.is_suspect:
                        break
            return taken

    def beat(self) -> None:
        """Show that this taker is alive."""
        if self._claim not in self.jobs.takers:
            self._claim = f"taker {next(self.jobs.numbers)}"
        self.jobs.takers[self._claim] = self._clock()

    def settle(self, jobs: Sequence[Job], outcome: Outcome, error: str = "") -> None:
        """See JobQueue.settle."""
        with self.jobs.lock:
            for job in jobs:
                if self.jobs.is_held(job):
                    self._settle(self.jobs.entries[job.id], outcome, error)

    def _settle(self, entry: _Entry, outcome: Outcome, error: str) -> None:
        entry.state = "waiting"
        if outcome == "released":
            return
        entry.error = error
        entry.failures += 1
        entry.job = dataclasses.replace(entry.job, attempts=entry.job.attempts + 1)
        entry.ready_at = self._clock() + self._back_off.after(entry.failures)
        if outcome == "dead" or entry.failures >= MAX_FAILURES:
            entry.state = "dead"

    def find(self, query: JobQuery) -> FoundJobs:
        """See JobQueue.find."""
        check_query(query)
        with self.jobs.lock:
            found = [_info(entry) for entry in self.jobs.entries.values() if _agrees(entry, query)]
            newest = max(map(int, self.jobs.entries), default=0)
            workers = sum(1 for beat in self.jobs.takers.values() if self._clock() - beat < self._timeout)
        counts = {state: sum(1 for job in found if job.state == state) for state in ("waiting", "running")}
        ended = {state: sum(1 for job in found if job.state == state) for state in ("done", "dead")}
        return FoundJobs(tuple(found[: query.limit]), **counts, **ended, workers=workers, newest=newest)

    def retry(self, ids: Sequence[str]) -> list[str]:
        """See JobQueue.retry."""
        with self.jobs.lock:
            dead = [key for key in ids if key in self.jobs.entries and self.jobs.entries[key].state == "dead"]
            for key in dead:
                entry = self.jobs.entries[key]
                entry.state, entry.failures, entry.ready_at = "waiting", 0, 0.0
                entry.job = dataclasses.replace(entry.job, attempts=0)
            return dead

    def close(self) -> None:
        """This taker is gone; jobs in its hands come back."""
        self.jobs.takers.pop(self._claim, None)

    def _may_take(self, entry: _Entry) -> bool:
        if entry.state != "waiting" or entry.ready_at > self._clock():
            return False
        is_earlier = True
        for other in self.jobs.entries.values():
            if other is entry:
                is_earlier = False
            elif _lock(other) == _lock(entry) and (
                other.state == "running" or (is_earlier and other.state == "waiting")
            ):
                return False
        return True

    def _recover(self) -> None:
        now = self._clock()
        gone = {claim for claim, beat in self.jobs.takers.items() if now - beat >= self._timeout}
        for claim in gone:
            del self.jobs.takers[claim]
        for entry in self.jobs.entries.values():
            if entry.state == "running" and entry.job.claim not in self.jobs.takers:
                entry.job = dataclasses.replace(entry.job, attempts=entry.job.attempts + 1)
                is_dead = entry.job.attempts >= MAX_ATTEMPTS
                entry.state = "dead" if is_dead else "waiting"
                entry.error = DIED.format(entry.job.attempts) if is_dead else entry.error


def _lock(entry: _Entry) -> tuple[str, str, str]:
    return entry.job.tenant, entry.job.collection, entry.job.document.id


def _info(entry: _Entry) -> JobInfo:
    job = entry.job
    error = "" if entry.state == "done" else entry.error
    where = (job.id, job.tenant, job.collection, job.document.id)
    return JobInfo(*where, entry.state, job.attempts, error, entry.created_at)


def _agrees(entry: _Entry, query: JobQuery) -> bool:
    wanted = (query.state, query.tenant, query.collection, query.batch)
    have = (entry.state, entry.job.tenant, entry.job.collection, entry.batch)
    if query.ids and entry.job.id not in query.ids:
        return False
    return all(not one or one == other for one, other in zip(wanted, have, strict=True))
