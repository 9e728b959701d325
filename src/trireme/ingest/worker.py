"""The ingestion worker: takes jobs, cuts, embeds and writes them, three steps at once.

One thread cuts the next documents while others have texts embedded and another writes what is finished. A job
ends in the transaction that writes its passages, so a worker may be killed at any moment.
"""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeVar

import numpy as np

from trireme.errors import EmbedderMismatchError, InvalidInputError, TriremeError, UnavailableError
from trireme.ingest.documents import DocumentStore, Indexed
from trireme.ingest.encoder import Encoder, Encoders
from trireme.ingest.pace import Pace
from trireme.ingest.queue import Job, JobQueue
from trireme.types import Embedder, FloatArray, Passage

T = TypeVar("T")

TAKEN_JOBS = 128
# Passages of one document that are written together; a longer one is staged in pieces of this size.
UNIT_PASSAGES = 512
# Passages that are cut and wait to be embedded, and requests that are under way: the server is never idle.
CUT_AHEAD = 256
SENDERS = 2
# Passages that are written in one transaction, and how long the first of them waits for others.
WRITTEN_PASSAGES = 512
WRITE_SECONDS = 0.3
IDLE_SECONDS = 0.5
RETRY_SECONDS = (0.2, 2.0)
# A batch during which the server ended so often, and came back, is taken for the reason.
MAX_VANISHED = 3


@dataclass
class WorkerStats:
    """What a worker has done. embed_seconds: while at least one request was under way; seconds: while it had jobs.

    paused_seconds: while it held back because others used the server.
    """

    documents: int = 0
    passages: int = 0
    failed: int = 0
    tokens: int = 0
    embed_seconds: float = 0.0
    seconds: float = 0.0
    paused_seconds: float = 0.0


@dataclass(slots=True, eq=False)
class _Open:
    """A job in hand. `staged` counts the passages that are in the store already."""

    job: Job
    encoder: Encoder
    staged: int = 0
    is_broken: bool = False
    waiting: dict[int, _Unit] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Unit:
    """Passages `position`... of one job, written together."""

    open: _Open
    position: int
    passages: list[Passage]
    is_last: bool
    is_known: bool = False
    vectors: list[FloatArray | None] = field(default_factory=list)
    left: int = 0


@dataclass(frozen=True, slots=True)
class _Piece:
    """One passage on its way to the server."""

    unit: _Unit
    index: int
    tokens: int

    @property
    def text(self) -> str:
        return self.unit.passages[self.index].text


class _StoppedError(Exception):
    """The worker was told to end."""


class Worker:
    """Works on one queue until it is told to stop. Jobs that it holds then go back.

    notice: is told in a sentence what a person should know. UnavailableError of any part makes it wait and
    try again; what is wrong with one document ends that document's job and no other.
    """

    def __init__(
        self,
        jobs: JobQueue,
        documents: DocumentStore,
        encoders: Encoders,
        pace: Pace,
        notice: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._documents = documents
        self._encoders = encoders
        self._pace = pace
        self._notice = notice
        self.stats = WorkerStats()
        self._stop = threading.Event()
        self._cut: queue.Queue[_Piece] = queue.Queue(CUT_AHEAD)
        self._finished: queue.Queue[_Unit] = queue.Queue()
        self._held: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._under_way = 0
        self._under_way_since = 0.0
        self._collecting = threading.Lock()
        self._told = ""

    def run(self, *, drain: bool = False) -> None:
        """Blocks until `stop`, or with `drain` until no job is left that could be taken now. Raises nothing."""
        threads = [
            threading.Thread(target=self._guarded, args=(self._send_all,), name=f"embed-{n}")
            for n in range(SENDERS)
        ]
        threads.append(threading.Thread(target=self._guarded, args=(self._write_all,), name="write"))
        for thread in threads:
            thread.start()
        self._guarded(lambda: self._cut_all(drain))
        self._stop.set()
        for thread in threads:
            thread.join()
        self._give_back()

    def stop(self) -> None:
        """End soon: what is under way is finished, the rest goes back. Safe in a signal handler."""
        self._stop.set()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except _StoppedError:
            return
        except Exception:
            # A fault of ours: the process ends, its jobs come back, and whoever started it starts it again.
            self._notice(f"the worker stops: {traceback.format_exc()}")
            self._stop.set()

    # Cutting.

    def _cut_all(self, drain: bool) -> None:
        while not self._stop.is_set():
            began = monotonic()
            taken = self._patiently(lambda: self._jobs.take(TAKEN_JOBS))
            if not taken:
                if drain and not self._held:
                    return
                self._stop.wait(IDLE_SECONDS if not self._held else 0.05)
                self.stats.seconds += monotonic() - began if self._held else 0.0
                continue
            with self._changed:
                self._held.update((job.id, job) for job in taken)
            if taken[0].is_suspect:
                # Its worker died more than once: nothing else is in hand while it is.
                self._wait_until_held(1)
            self._cut_jobs(taken)
            if taken[0].is_suspect:
                self._wait_until_held(0)
            self.stats.seconds += monotonic() - began

    def _cut_jobs(self, taken: Sequence[Job]) -> None:
        known = self._known(taken)
        for job in taken:
            try:
                encoder = self._patiently(lambda job=job: self._encoders.choose(job.tenant, job.collection))  # type: ignore[misc]
            except TriremeError as error:
                self._fail([job], error)
                continue
            opened = _Open(job, encoder)
            if job.id in known:
                self._finished.put(_Unit(opened, 0, [], True, is_known=True))
                continue
            try:
                self._cut_job(opened)
            except (_StoppedError, UnavailableError):
                if self._stop.is_set():
                    raise _StoppedError from None
                opened.is_broken = True
                self._settle([job], "released")
            except TriremeError as error:
                opened.is_broken = True
                self._fail([job], error)
            except Exception as error:
                opened.is_broken = True
                self._notice(f"document {job.document.id!r}: {traceback.format_exc()}")
                self._fail([job], TriremeError(f"internal error while it was cut: {type(error).__name__}"))

    def _known(self, taken: Sequence[Job]) -> set[str]:
        """Ids of jobs whose documents are stored as they are."""
        known = set()
        for scope in {(job.tenant, job.collection) for job in taken}:
            mine = [job for job in taken if (job.tenant, job.collection) == scope and job.document.digest]
            ids = [job.document.id for job in mine]
            stored = self._patiently(lambda scope=scope, ids=ids: self._documents.digests(*scope, ids))  # type: ignore[misc]
            known |= {job.id for job in mine if stored.get(job.document.id) == job.document.digest}
        return known

    def _cut_job(self, opened: _Open) -> None:
        job = opened.job
        done = job.staged if job.staged_with == opened.encoder.embedder.digest else 0
        if not self._cut_from(opened, done):
            # It was cut otherwise when it was staged.
            self._cut_from(opened, 0)

    def _cut_from(self, opened: _Open, done: int) -> bool:
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
                self._cut_unit(_Unit(opened, position, passages, False))
                position, passages = position + len(passages), []
            passages.append(passage)
        if position < done:
            return False
        self._cut_unit(_Unit(opened, position, passages, True))
        return True

    def _cut_unit(self, unit: _Unit) -> None:
        unit.vectors = [None] * len(unit.passages)
        unit.left = len(unit.passages)
        if not unit.passages:
            self._finished.put(unit)
            return
        counts = unit.open.encoder.count([passage.text for passage in unit.passages])
        for index, tokens in enumerate(counts):
            self._put(_Piece(unit, index, tokens))

    def _put(self, piece: _Piece) -> None:
        while not self._stop.is_set():
            try:
                self._cut.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue
        raise _StoppedError

    def _wait_until_held(self, count: int) -> None:
        with self._changed:
            while len(self._held) > count and not self._stop.is_set():
                self._changed.wait(0.2)

    # Embedding.

    def _send_all(self) -> None:
        while not self._stop.is_set():
            with self._collecting:
                first = self._next(IDLE_SECONDS)
            if first is None:
                continue
            with self._pace.turn():
                # Who waited long for a turn stops here: what it holds goes back.
                if self._stop.is_set():
                    return
                with self._collecting:
                    batch = self._collect(first)
                self._embed(batch)

    def _next(self, seconds: float) -> _Piece | None:
        try:
            piece = self._cut.get(timeout=seconds)
        except queue.Empty:
            return None
        return piece

    def _collect(self, first: _Piece) -> list[_Piece]:
        """`first` and what comes after it, up to the budget; what the cutter has not brought yet stays away."""
        batch, encoder = [first], first.unit.open.encoder
        left = self._pace.budget() - first.tokens
        while left > 0 and len(batch) < encoder.max_rows:
            with self._cut.mutex:
                following = self._cut.queue[0] if self._cut.queue else None
            if following is None or following.tokens > left or not _is_same(following, encoder):
                break
            batch.append(self._cut.get_nowait())
            left -= following.tokens
        return batch

    def _embed(self, batch: list[_Piece]) -> None:
        """Embed pieces of one encoder; halves of what fails, until the guilty one is alone."""
        batch = [piece for piece in batch if not piece.unit.open.is_broken]
        if not batch:
            return
        encoder = batch[0].unit.open.encoder
        try:
            vectors = self._ask(encoder, batch)
        except _StoppedError:
            raise
        except Exception as error:
            if len(batch) > 1:
                half = len(batch) // 2
                self._embed(batch[:half])
                self._embed(batch[half:])
                return
            opened = batch[0].unit.open
            opened.is_broken = True
            if not isinstance(error, TriremeError):
                self._notice(f"document {opened.job.document.id!r}: {traceback.format_exc()}")
                error = TriremeError(f"internal error while it was embedded: {type(error).__name__}")
            self._fail([opened.job], error)
            return
        for piece, vector in zip(batch, vectors, strict=True):
            unit = piece.unit
            unit.vectors[piece.index] = vector
            with self._changed:
                unit.left -= 1
                is_complete = unit.left == 0
            if is_complete:
                self._finished.put(unit)

    def _ask(self, encoder: Encoder, batch: list[_Piece]) -> FloatArray:
        vanished = 0
        while True:
            began = monotonic()
            try:
                with self._timed():
                    vectors = encoder.embed([piece.text for piece in batch])
                tokens = sum(piece.tokens for piece in batch)
                self._pace.record(tokens, monotonic() - began)
                self.stats.tokens += tokens
                return vectors
            except UnavailableError as error:
                vanished += 1
                if vanished == MAX_VANISHED:
                    raise TriremeError(
                        f"the server ended {vanished} times while it had this: {error}"
                    ) from None
                self._tell(f"{error}; waiting")
                while not encoder.is_ready():
                    if self._stop.wait(IDLE_SECONDS):
                        raise _StoppedError from None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Counts the seconds during which at least one request is under way."""
        with self._changed:
            if self._under_way == 0:
                self._under_way_since = monotonic()
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                if self._under_way == 0:
                    self.stats.embed_seconds += monotonic() - self._under_way_since

    # Writing.

    def _write_all(self) -> None:
        while True:
            try:
                unit = self._finished.get(timeout=0.2)
            except queue.Empty:
                if self._stop.is_set() and self._under_way == 0:
                    return
                continue
            units = [unit, *self._more(len(unit.passages))]
            for group in _by_encoder(units):
                self._write(group)

    def _more(self, passages: int) -> Iterator[_Unit]:
        """Units that are finished within a moment: a transaction for many small documents."""
        deadline = monotonic() + WRITE_SECONDS
        while passages < WRITTEN_PASSAGES and not self._stop.is_set():
            try:
                unit = self._finished.get(timeout=max(0.0, min(0.02, deadline - monotonic())))
            except queue.Empty:
                # Nobody is left to wait for, or it has been long enough.
                if monotonic() >= deadline or (self._cut.empty() and self._under_way == 0):
                    return
                continue
            passages += len(unit.passages)
            yield unit

    def _write(self, units: list[_Unit]) -> None:
        """Write units of one collection and encoder: long documents piece by piece, the others together."""
        ready: list[tuple[_Unit, Indexed]] = []
        for unit in units:
            opened = unit.open
            if opened.is_broken:
                continue
            opened.waiting[unit.position] = unit
            # Two senders may finish the pieces of one document in the wrong order.
            while following := opened.waiting.pop(opened.staged, None):
                if following.is_last:
                    ready.append((following, _indexed(following, opened.staged)))
                    break
                if not self._stage(following):
                    break
        if ready:
            self._replace(ready)

    def _stage(self, unit: _Unit) -> bool:
        opened = unit.open
        try:
            self._patiently(
                lambda: self._documents.stage(
                    opened.job, unit.position, unit.passages, _stack(unit), opened.encoder.embedder
                )
            )
        except TriremeError as error:
            opened.is_broken = True
            self._fail([opened.job], error)
            return False
        opened.staged += len(unit.passages)
        self.stats.passages += len(unit.passages)
        return True

    def _replace(self, ready: list[tuple[_Unit, Indexed]]) -> None:
        """Write documents in one transaction; halves of what fails, until the guilty one is alone."""
        encoder = ready[0][0].open.encoder
        indexed = [one for _, one in ready]
        jobs = [one.job for one in indexed]
        try:
            self._patiently(lambda: self._documents.replace(indexed, encoder.embedder, encoder.model))
        except EmbedderMismatchError:
            # The collection was switched meanwhile: once more, with its new embedder.
            self._encoders.forget()
            self._settle(jobs, "released")
        except TriremeError as error:
            if len(ready) == 1:
                self._fail(jobs, error)
                return
            half = len(ready) // 2
            self._replace(ready[:half])
            self._replace(ready[half:])
        else:
            self.stats.documents += len(jobs)
            self.stats.passages += sum(len(one.passages) for one in indexed)
            self._let_go(jobs)

    # What all steps share.

    def _patiently(self, act: Callable[[], T]) -> T:
        """`act`, again and again while something it needs is away. Raises _StoppedError once told to stop."""
        pause, longest = RETRY_SECONDS
        while True:
            try:
                return act()
            except UnavailableError as error:
                self._tell(f"{error}; waiting")
                if self._stop.wait(pause):
                    raise _StoppedError from None
                pause = min(pause * 2, longest)

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._notice(text)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """End jobs with an error: at once where the document itself is wrong, else they are tried again."""
        self.stats.failed += len(jobs)
        self._settle(jobs, "dead" if isinstance(error, InvalidInputError) else "failed", str(error))

    def _settle(self, jobs: Sequence[Job], outcome: str, error: str = "") -> None:
        self._patiently(lambda: self._jobs.settle(jobs, outcome, error))  # type: ignore[arg-type]
        self._let_go(jobs)

    def _let_go(self, jobs: Sequence[Job]) -> None:
        with self._changed:
            for job in jobs:
                self._held.pop(job.id, None)
            self._changed.notify_all()

    def _give_back(self) -> None:
        self.stats.paused_seconds = self._pace.paused_seconds
        try:
            self._jobs.settle(list(self._held.values()), "released")
        except TriremeError as error:
            # Then they come back when the heartbeats have been missing for a while.
            self._tell(str(error))
        self._held.clear()


def _is_same(piece: _Piece, encoder: Encoder) -> bool:
    other = piece.unit.open.encoder
    return (other.model, other.embedder) == (encoder.model, encoder.embedder)


def _by_encoder(units: Sequence[_Unit]) -> list[list[_Unit]]:
    """Units grouped by collection and encoder, in order."""
    groups: dict[tuple[str, str, str, Embedder], list[_Unit]] = {}
    for unit in units:
        job, encoder = unit.open.job, unit.open.encoder
        key = (job.tenant, job.collection, encoder.model, encoder.embedder)
        groups.setdefault(key, []).append(unit)
    return list(groups.values())


def _indexed(unit: _Unit, staged: int) -> Indexed:
    return Indexed(unit.open.job, tuple(unit.passages), _stack(unit), staged, unit.is_known)


def _stack(unit: _Unit) -> FloatArray:
    dimensions = unit.open.encoder.embedder.dimensions
    rows = [vector for vector in unit.vectors if vector is not None]
    return np.stack(rows).astype(np.float32, copy=False) if rows else np.zeros((0, dimensions), np.float32)
