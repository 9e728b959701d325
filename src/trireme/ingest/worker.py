"""The ingestion worker: takes jobs, cuts, embeds and writes them, three steps at once.

One thread cuts the next documents while others have texts embedded and another writes what is finished. A job
ends in the transaction that writes its passages, so a worker may be killed at any moment. A further thread
builds the vector indexes of collections whose load is over.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable
from time import monotonic

from trireme.errors import TriremeError
from trireme.ingest.cut import Cutter
from trireme.ingest.documents import DocumentStore
from trireme.ingest.embed import Sender
from trireme.ingest.encoder import Encoders
from trireme.ingest.index_builder import IndexBuilder
from trireme.ingest.jobs_in_hand import DocumentPart, HeldPassage, StoppedError, WorkerState, WorkerStats
from trireme.ingest.options import DEFAULT_SIZES, DEFAULT_TIMING, Sizes, WorkerTiming
from trireme.ingest.peek_queue import PeekQueue
from trireme.ingest.queue import FoundJobs, JobQueue
from trireme.ingest.signals import WorkerReading
from trireme.ingest.throttle import Throttle
from trireme.ingest.write import Writer
from trireme.observe.spans import SpanSink

# Requests that are under way at once, so that the server is never idle.
SENDERS = 3


class Worker:
    """Works on one queue until it is told to stop. Jobs that it holds then go back.

    notice: is told in a sentence what a person should know, and of each document of a request how it ended. spans:
    of those that are sampled. UnavailableError of any part makes it wait and
    try again; what is wrong with one document ends that document's job and no other.
    """

    def __init__(
        self,
        jobs: JobQueue,
        documents: DocumentStore,
        encoders: Encoders,
        indexes: IndexBuilder,
        *,
        throttle: Throttle,
        notice: Callable[[str], None],
        timing: WorkerTiming = DEFAULT_TIMING,
        sizes: Sizes = DEFAULT_SIZES,
        spans: SpanSink | None = None,
    ) -> None:
        self._throttle = throttle
        self._indexes = indexes
        self._is_cancelled = False
        self._index_error = ""
        self._state = WorkerState(jobs, notice, timing, sizes, spans)
        cut: PeekQueue[HeldPassage] = PeekQueue(sizes.cut_ahead)
        # Not bounded, but the cutter sees to it that little is in hand.
        finished: queue.Queue[DocumentPart] = queue.Queue()
        self._cutter = Cutter(self._state, documents, encoders, cut, finished)
        self._sender = sender = Sender(self._state, throttle, cut, finished)
        self._writer = Writer(self._state, documents, encoders, finished, lambda: sender.is_idle)

    @property
    def stats(self) -> WorkerStats:
        """What it has done so far."""
        return self._state.stats

    def read(self, now: float) -> WorkerReading:
        """What it has done by `now`. Does not block."""
        stats = self._state.stats
        return WorkerReading(
            now,
            stats.documents,
            stats.passages,
            stats.tokens,
            self._throttle.paused_seconds,
            has_jobs=self._state.count > 0,
        )

    def count_waiting(self) -> FoundJobs:
        """How many jobs of anybody wait. Blocks for the queue; raises UnavailableError."""
        return self._state.count_waiting()

    def run(self, *, drain: bool = False) -> None:
        """Blocks until `stop`, or with `drain` until no job is left that could be taken now and the indexes are
        built. Raises nothing."""
        steps: list[tuple[str, Callable[[], None]]] = [
            *((f"embed-{n}", self._sender.run) for n in range(SENDERS)),
            ("write", self._writer.run),
            ("index", self._build_indexes),
        ]
        threads = [threading.Thread(target=self._guarded, args=(step,), name=name) for name, step in steps]
        for thread in threads:
            thread.start()
        self._guarded(lambda: self._cutter.run(drain))
        is_drained = not self._state.stop.is_set()
        self._state.stop.set()
        for thread in threads:
            thread.join()
        self.stats.paused_seconds = self._throttle.paused_seconds
        self._state.give_back()
        if is_drained:
            self._guarded(self._build_due)

    def stop(self) -> None:
        """End soon: what is under way is finished, the rest goes back; an index is left half built and built
        anew by the next worker. Safe in a signal handler."""
        self._is_cancelled = True
        self._state.stop.set()
        self._indexes.cancel()

    def _build_indexes(self) -> None:
        while not self._state.stop.wait(self._state.timing.build):
            self._build_due()

    def _build_due(self) -> None:
        began, told = monotonic(), self._index_error
        try:
            built = self._indexes.build_due()
            self._index_error = ""
        except TriremeError as error:
            # Searches work without it, and the next look tries again.
            self._index_error = str(error)
            if self._index_error != told and not self._is_cancelled:
                self._state.report(f"a vector index was not built: {error}; trying again")
            return
        if built:
            self.stats.build_seconds += monotonic() - began

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except StoppedError:
            return
        except Exception:
            # A fault of ours: the process ends, its jobs come back, and whoever started it starts it again.
            self._state.report(f"the worker stops: {traceback.format_exc()}")
            self.stop()
