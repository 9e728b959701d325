"""The first step of a worker: jobs are taken and their documents cut into pieces."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Sequence
from functools import partial
from time import monotonic

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.documents import DocumentStore
from trireme.ingest.encoder import Encoders
from trireme.ingest.jobs_in_hand import OpenJob, Piece, StoppedError, Unit, WorkerState
from trireme.ingest.queue import Job
from trireme.types import Passage

TAKEN_JOBS = 128
# Passages of one document that are written together; a longer one is staged in pieces of this size.
UNIT_PASSAGES = 512
# Where writing is slower than embedding: jobs, and passages of one document, that are in hand at most.
HELD_JOBS = 2048
UNWRITTEN_PASSAGES = 8192
IDLE_SECONDS = 0.5


class Cutter:
    """Takes jobs; puts pieces into `cut`, which bounds how far it is ahead; known documents into `finished`."""

    def __init__(
        self,
        state: WorkerState,
        documents: DocumentStore,
        encoders: Encoders,
        cut: queue.Queue[Piece],
        finished: queue.Queue[Unit],
    ) -> None:
        self._state = state
        self._documents = documents
        self._encoders = encoders
        self._cut = cut
        self._finished = finished

    def run(self, drain: bool) -> None:
        """Blocks until the worker is told to stop, or with `drain` until nothing is left to take."""
        while not self._state.stop.is_set():
            began = monotonic()
            self._state.wait_until_held(HELD_JOBS)
            taken = self._state.take(TAKEN_JOBS)
            if not taken:
                if drain and not self._state.count:
                    return
                self._state.stop.wait(IDLE_SECONDS if not self._state.count else 0.05)
                self._state.stats.seconds += monotonic() - began if self._state.count else 0.0
                continue
            if taken[0].is_suspect:
                # Its worker died more than once: nothing else is in hand while it is.
                self._state.wait_until_held(1)
            self._cut_jobs(taken)
            if taken[0].is_suspect:
                self._state.wait_until_held(0)
            self._state.stats.seconds += monotonic() - began

    def _cut_jobs(self, taken: Sequence[Job]) -> None:
        known = self._known(taken)
        for job in taken:
            try:
                encoder = self._state.patiently(partial(self._encoders.choose, job.tenant, job.collection))
            except TriremeError as error:
                self._state.fail([job], error)
                continue
            opened = OpenJob(job, encoder)
            if job.id in known:
                self._finished.put(Unit(opened, 0, [], True, is_known=True))
                continue
            try:
                self._cut_job(opened)
            except (StoppedError, UnavailableError):
                if self._state.stop.is_set():
                    raise StoppedError from None
                opened.is_broken = True
                self._state.settle([job], "released")
            except TriremeError as error:
                opened.is_broken = True
                self._state.fail([job], error)
            except Exception as error:
                opened.is_broken = True
                self._state.report(f"document {job.document.id!r}: {traceback.format_exc()}")
                self._state.fail(
                    [job], TriremeError(f"internal error while it was cut: {type(error).__name__}")
                )

    def _known(self, taken: Sequence[Job]) -> set[str]:
        """Ids of jobs whose documents are stored as they are."""
        known = set()
        for scope in {(job.tenant, job.collection) for job in taken}:
            mine = [job for job in taken if (job.tenant, job.collection) == scope and job.document.digest]
            ids = [job.document.id for job in mine]
            stored = self._state.patiently(partial(self._documents.digests, *scope, ids), TriremeError)
            known |= {job.id for job in mine if stored.get(job.document.id) == job.document.digest}
        return known

    def _cut_job(self, opened: OpenJob) -> None:
        job = opened.job
        done = job.staged if job.staged_with == opened.encoder.embedder.digest else 0
        if not self._cut_from(opened, done):
            # It was cut otherwise when it was staged.
            self._cut_from(opened, 0)

    def _cut_from(self, opened: OpenJob, done: int) -> bool:
        """Send its passages from number `done` on; False, and nothing sent, where there are fewer."""
        job, opened.staged = opened.job, done
        position = 0
        passages: list[Passage] = []
        for passage in opened.encoder.cut(job.document):
            if opened.is_broken:
                return True
            if position + len(passages) < done:
                position += 1
                continue
            if len(passages) == UNIT_PASSAGES:
                self._cut_unit(Unit(opened, position, passages, False))
                position, passages = position + len(passages), []
            passages.append(passage)
        if position < done:
            return False
        self._cut_unit(Unit(opened, position, passages, True))
        return True

    def _cut_unit(self, unit: Unit) -> None:
        opened = unit.open
        while unit.position - opened.staged > UNWRITTEN_PASSAGES and not opened.is_broken:
            if self._state.stop.wait(0.05):
                raise StoppedError
        unit.vectors = [None] * len(unit.passages)
        unit.left = len(unit.passages)
        if not unit.passages:
            self._finished.put(unit)
            return
        counts = unit.open.encoder.count([passage.text for passage in unit.passages])
        for index, tokens in enumerate(counts):
            self._put(Piece(unit, index, tokens))

    def _put(self, piece: Piece) -> None:
        while not self._state.stop.is_set():
            try:
                self._cut.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue
        raise StoppedError
