"""What the steps of a worker share: the jobs in hand, patience with what is away, and how a job ends badly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np

from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.ingest.encoder import Encoder
from trireme.ingest.ended_jobs import EndedJobs
from trireme.ingest.options import Sizes, WorkerTiming
from trireme.ingest.queue import FoundJobs, Job, JobQuery, JobQueue, Outcome
from trireme.observe.spans import NoSpans, SpanSink
from trireme.retry import retry
from trireme.types import FloatArray, Passage, SparseVector

T = TypeVar("T")


@dataclass
class WorkerStats:
    """What a worker has done. embed_seconds: while at least one request was under way; seconds: while it had jobs.

    paused_seconds: while it held back because others used the server. build_seconds: while it built indexes.
    """

    documents: int = 0
    passages: int = 0
    failed: int = 0
    tokens: int = 0
    embed_seconds: float = 0.0
    seconds: float = 0.0
    paused_seconds: float = 0.0
    build_seconds: float = 0.0


@dataclass(slots=True, eq=False)
class HeldJob:
    """A job in hand, with its encoder. `staged` counts the passages that are in the store already."""

    job: Job
    encoder: Encoder
    staged: int = 0
    is_broken: bool = False
    waiting: dict[int, DocumentPart] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class DocumentPart:
    """Passages `position`... of one job, written together."""

    held: HeldJob
    position: int
    passages: list[Passage]
    is_last: bool
    is_known: bool = False
    vectors: list[tuple[FloatArray, SparseVector | None] | None] = field(default_factory=list)
    left: int = 0

    def stacked(self) -> FloatArray:
        """Its vectors [n, dimensions], all of which must be there."""
        dimensions = self.held.encoder.embedder.dimensions
        rows = [made[0] for made in self.vectors if made is not None]
        return (
            np.stack(rows).astype(np.float32, copy=False) if rows else np.zeros((0, dimensions), np.float32)
        )

    def weights(self) -> tuple[SparseVector, ...] | None:
        """The sparse weights of its passages; None where its encoder makes none."""
        made = [one[1] for one in self.vectors if one is not None]
        found = tuple(one for one in made if one is not None)
        return found if found and len(found) == len(made) else None


@dataclass(frozen=True, slots=True)
class HeldPassage:
    """One passage on its way to the server."""

    part: DocumentPart
    index: int
    tokens: int

    @property
    def text(self) -> str:
        return self.part.passages[self.index].text


class StoppedError(Exception):
    """The worker was told to end."""


class WorkerState:
    """The jobs that a worker holds. Thread-safe; `changed` is notified whenever some leave.

    notice: is told in a sentence what a person should know, and not twice in a row.
    """

    def __init__(
        self,
        jobs: JobQueue,
        notice: Callable[[str], None],
        timing: WorkerTiming,
        sizes: Sizes,
        spans: SpanSink | None = None,
    ) -> None:
        self._ended = EndedJobs(notice, spans or NoSpans())
        self._jobs = jobs
        self.timing = timing
        self.sizes = sizes
        self._notice = notice
        self._held: dict[str, Job] = {}
        self._told = ""
        self.stats = WorkerStats()
        self.stop = threading.Event()
        self.changed = threading.Condition()

    @property
    def count(self) -> int:
        """How many jobs are held."""
        return len(self._held)

    def count_waiting(self) -> FoundJobs:
        """How many jobs of anybody wait. Blocks; raises UnavailableError."""
        return self._jobs.find(JobQuery(state="waiting", limit=0))

    def take(self, limit: int) -> list[Job]:
        """Take jobs, once the queue answers. Raises StoppedError."""
        taken = self.patiently(lambda: self._jobs.take(limit), TriremeError)
        with self.changed:
            self._held.update((job.id, job) for job in taken)
        self._ended.take(taken)
        return taken

    def wait_until_held(self, count: int) -> None:
        """Blocks until at most `count` jobs are held, or the worker is told to stop."""
        with self.changed:
            while len(self._held) > count and not self.stop.is_set():
                self.changed.wait(0.2)

    def patiently(self, act: Callable[[], T], over: type[TriremeError] = UnavailableError) -> T:
        """What `act` returns, called until it does not raise `over`, with longer and longer pauses.

        Raises StoppedError once the worker is stopped.
        """
        return retry(act, over, self.timing.retry, self.sleep, self.tell_waiting)

    def sleep(self, seconds: float) -> None:
        """Blocks for so long. Raises StoppedError once the worker is stopped."""
        if self.stop.wait(seconds):
            raise StoppedError

    def tell_waiting(self, error: Exception) -> None:
        """Notice that what failed is waited for."""
        self.tell(f"{error}; waiting")

    def tell(self, text: str) -> None:
        """Notice once."""
        if text != self._told:
            self._told = text
            self._notice(text)

    def fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """End jobs with an error: at once where the document itself is wrong, else they are tried again."""
        self.stats.failed += len(jobs)
        self.settle(jobs, "dead" if isinstance(error, InvalidInputError) else "failed", str(error))

    def settle(self, jobs: Sequence[Job], outcome: Outcome, error: str = "") -> None:
        """End jobs that were not done, once the queue answers."""
        self.patiently(lambda: self._jobs.settle(jobs, outcome, error), TriremeError)
        self.release(jobs, outcome)

    def release(self, jobs: Sequence[Job], outcome: Outcome | Literal["stored", "gone"] = "stored") -> None:
        """Jobs that have ended are no longer in hand. gone: they were nobody's or another's by then."""
        self._ended.tell(jobs, outcome)
        with self.changed:
            for job in jobs:
                self._held.pop(job.id, None)
            self.changed.notify_all()

    def give_back(self) -> None:
        """Return all that is held, as if it had not been taken."""
        try:
            self._jobs.settle(list(self._held.values()), "released")
        except TriremeError as error:
            # Then they come back when the heartbeats have been missing for a while.
            self.tell(str(error))
        self._held.clear()

    def report(self, text: str) -> None:
        """Tell what somebody must look into, a traceback too."""
        self._notice(text)
