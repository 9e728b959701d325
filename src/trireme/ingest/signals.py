"""Ingestion's signals as one worker tells them: its share of the queue, by its own measured rate.

The queue belongs to all workers. Each tells the part that would be its own if they shared it evenly, so that the
sum over workers is the queue, and what a worker told dies with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from trireme.ingest.queue import FoundJobs
from trireme.observe.work import SignalLedger, Signals, Waiting, WorkRate, WorkTotals


@dataclass(frozen=True, slots=True)
class WorkerReading:
    """What a worker has done by `now`, in seconds of any clock; counts since its start.

    paused_seconds: while it held back for others, which more workers would not shorten. has_jobs: whether it holds
    any.
    """

    now: float
    documents: int = 0
    passages: int = 0
    tokens: int = 0
    paused_seconds: float = 0.0
    has_jobs: bool = False


class IngestSignals:
    """Signals in passages. Not thread-safe.

    How many passages a waiting document has nobody knows before it is cut: as many as those of this worker had.
    """

    def __init__(self) -> None:
        self._rate = WorkRate()
        self._ledger = SignalLedger()
        self._before: WorkerReading | None = None
        self._newest: int | None = None
        # Documents that came before any was finished: their passages are counted once one is.
        self._uncounted = 0.0
        self._offered = 0.0
        self._was_full = False

    def look(self, found: FoundJobs, reading: WorkerReading) -> Signals:
        """The signals since the last look; at the first one counters begin."""
        workers = max(1, found.workers)
        self._measure(found, reading)
        if self._newest is not None:
            self._uncounted += max(0, found.newest - self._newest) / workers
        self._newest = max(self._newest or 0, found.newest)
        passages = reading.passages / reading.documents if reading.documents else 0.0
        if passages:
            self._offered += self._uncounted * passages
            self._uncounted = 0.0
        totals = WorkTotals(offered=self._offered, input_tokens=reading.tokens)
        share = found.waiting / workers
        return self._ledger.look(totals, self._rate.value, Waiting(share, share * passages), None)

    def _measure(self, found: FoundJobs, reading: WorkerReading) -> None:
        """Counts the time since the last look where at both ends it had jobs and others waited."""
        is_full, before = reading.has_jobs and found.waiting > 0, self._before
        if before is not None and is_full and self._was_full:
            paused = reading.paused_seconds - before.paused_seconds
            seconds = reading.now - before.now - paused
            if seconds > 0:
                self._rate.add(reading.passages - before.passages, seconds)
        self._before, self._was_full = reading, is_full
