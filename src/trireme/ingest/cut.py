"""The first step of a worker: jobs are taken and their documents cut into passages."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Sequence
from functools import partial
from time import monotonic

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.documents import DocumentStore
from trireme.ingest.encoder import Encoders
from trireme.ingest.jobs_in_hand import DocumentPart, HeldJob, HeldPassage, StoppedError, WorkerState
from trireme.ingest.queue import Job
from trireme.types import Passage


class Cutter:
    """Takes jobs; puts passages into `cut`, which bounds how far it is ahead; known documents into `finished`."""

    def __init__(
        self,
        state: WorkerState,
        documents: DocumentStore,
        encoders: Encoders,
        cut: queue.Queue[HeldPassage],
        finished: queue.Queue[DocumentPart],
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
            self._state.wait_until_held(self._state.sizes.held_jobs)
            taken = self._state.take(self._state.sizes.taken_jobs)
            if not taken:
                if drain and not self._state.count:
                    return
                self._state.stop.wait(self._state.timing.idle if not self._state.count else 0.05)
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
            held = HeldJob(job, encoder)
            if job.id in known:
                self._finished.put(DocumentPart(held, 0, [], True, is_known=True))
                continue
            try:
                self._cut_job(held)
            except (StoppedError, UnavailableError):
                if self._state.stop.is_set():
                    raise StoppedError from None
                held.is_broken = True
                self._state.settle([job], "released")
            except TriremeError as error:
                held.is_broken = True
                self._state.fail([job], error)
            except Exception as error:
                held.is_broken = True
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

    def _cut_job(self, held: HeldJob) -> None:
        job = held.job
        done = job.staged if job.staged_with == held.encoder.embedder.digest else 0
        if not self._cut_from(held, done):
            # It was cut otherwise when it was staged.
            self._cut_from(held, 0)

    def _cut_from(self, held: HeldJob, done: int) -> bool:
        """Send its passages from number `done` on; False, and nothing sent, where there are fewer."""
        job, held.staged = held.job, done
        position = 0
        passages: list[Passage] = []
        for passage in held.encoder.cut(job.document):
            if held.is_broken:
                return True
            if position + len(passages) < done:
                position += 1
                continue
            if len(passages) == self._state.sizes.unit_passages:
                self._put_part(DocumentPart(held, position, passages, False))
                position, passages = position + len(passages), []
            passages.append(passage)
        if position < done:
            return False
        self._put_part(DocumentPart(held, position, passages, True))
        return True

    def _put_part(self, part: DocumentPart) -> None:
        held = part.held
        while part.position - held.staged > self._state.sizes.unwritten_passages and not held.is_broken:
            self._state.sleep(0.05)
        part.vectors = [None] * len(part.passages)
        part.left = len(part.passages)
        if not part.passages:
            self._finished.put(part)
            return
        counts = part.held.encoder.count([passage.text for passage in part.passages])
        for index, tokens in enumerate(counts):
            self._put(HeldPassage(part, index, tokens))

    def _put(self, passage: HeldPassage) -> None:
        while not self._state.stop.is_set():
            try:
                self._cut.put(passage, timeout=0.2)
                return
            except queue.Full:
                continue
        raise StoppedError
