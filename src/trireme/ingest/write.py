"""The last step of a worker: finished documents are written, many small ones in one transaction."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from time import monotonic

from trireme.errors import EmbedderMismatchError, TriremeError
from trireme.ingest.documents import DocumentStore, Indexed
from trireme.ingest.encoder import Encoders
from trireme.ingest.jobs_in_hand import DocumentPart, WorkerState
from trireme.ingest.queue import Job
from trireme.types import Embedder


class Writer:
    """Writes the parts of `finished`. `is_idle` tells that no more will come soon."""

    def __init__(
        self,
        state: WorkerState,
        documents: DocumentStore,
        encoders: Encoders,
        finished: queue.Queue[DocumentPart],
        is_idle: Callable[[], bool],
    ) -> None:
        self._state = state
        self._documents = documents
        self._encoders = encoders
        self._finished = finished
        self._is_idle = is_idle

    def run(self) -> None:
        """Blocks until the worker is told to stop and nothing is under way."""
        while True:
            try:
                part = self._finished.get(timeout=0.2)
            except queue.Empty:
                if self._state.stop.is_set() and self._is_idle():
                    return
                continue
            parts = [part, *self._more(len(part.passages))]
            for group in _by_encoder(parts):
                self._write(group)

    def _more(self, passages: int) -> Iterator[DocumentPart]:
        """Parts that are finished within a moment: a transaction for many small documents."""
        deadline = monotonic() + self._state.timing.write
        while passages < self._state.sizes.written_passages and not self._state.stop.is_set():
            try:
                part = self._finished.get(timeout=max(0.0, min(0.02, deadline - monotonic())))
            except queue.Empty:
                # Nobody is left to wait for, or it has been long enough.
                if monotonic() >= deadline or self._is_idle():
                    return
                continue
            passages += len(part.passages)
            yield part

    def _write(self, parts: list[DocumentPart]) -> None:
        """Write parts of one collection and encoder: long documents part by part, the others together."""
        ready: list[tuple[DocumentPart, Indexed]] = []
        for part in parts:
            held = part.held
            if held.is_broken:
                continue
            held.waiting[part.position] = part
            # Two senders may finish the pieces of one document in the wrong order.
            while following := held.waiting.pop(held.staged, None):
                if following.is_last:
                    ready.append((following, _indexed(following, held.staged)))
                    break
                if not self._stage(following):
                    break
        if ready:
            self._replace(ready)

    def _stage(self, part: DocumentPart) -> bool:
        held = part.held
        try:
            self._state.patiently(
                lambda: self._documents.stage(
                    held.job,
                    part.position,
                    part.passages,
                    part.stacked(),
                    held.encoder.embedder,
                    sparse=part.weights(),
                )
            )
        except TriremeError as error:
            held.is_broken = True
            self._state.fail([held.job], error)
            return False
        held.staged += len(part.passages)
        self._state.stats.passages += len(part.passages)
        return True

    def _is_other(self, job: Job, embedder: Embedder) -> bool:
        """Whether the job would be embedded by another embedder now. Where it is not served, cutting says so."""
        self._encoders.forget()
        try:
            chosen = self._state.patiently(lambda: self._encoders.choose(job.tenant, job.collection))
        except TriremeError:
            return True
        return chosen.embedder != embedder

    def _replace(self, ready: list[tuple[DocumentPart, Indexed]]) -> None:
        """Write documents in one transaction; halves of what fails, until the guilty one is alone."""
        encoder = ready[0][0].held.encoder
        indexed = [one for _, one in ready]
        jobs = [one.job for one in indexed]
        try:
            done = self._state.patiently(
                lambda: self._documents.replace(indexed, encoder.embedder, encoder.model)
            )
        except EmbedderMismatchError as error:
            # The collection was switched meanwhile: once more, with its new embedder, where there is one.
            if self._is_other(jobs[0], encoder.embedder):
                self._state.settle(jobs, "released")
            else:
                # It was switched back, or something is amiss: later, and not for ever.
                self._state.settle(jobs, "failed", str(error))
        except TriremeError as error:
            if len(ready) == 1:
                self._state.fail(jobs, error)
                return
            half = len(ready) // 2
            self._replace(ready[:half])
            self._replace(ready[half:])
        else:
            self._state.stats.documents += len(jobs)
            self._state.stats.passages += sum(len(one.passages) for one in indexed)
            self._state.release([job for job in jobs if job.id in done])
            self._state.release([job for job in jobs if job.id not in done], "gone")


def _by_encoder(parts: Sequence[DocumentPart]) -> list[list[DocumentPart]]:
    """Parts grouped by collection and encoder, in order."""
    groups: dict[tuple[str, str, str, Embedder], list[DocumentPart]] = {}
    for part in parts:
        job, encoder = part.held.job, part.held.encoder
        key = (job.tenant, job.collection, encoder.model, encoder.embedder)
        groups.setdefault(key, []).append(part)
    return list(groups.values())


def _indexed(part: DocumentPart, staged: int) -> Indexed:
    return Indexed(part.held.job, tuple(part.passages), part.stacked(), staged, part.is_known, part.weights())
