"""The second step of a worker: pieces of many documents are embedded together, within the throttle."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.encoder import Encoder
from trireme.ingest.jobs_in_hand import Piece, StoppedError, Unit, WorkerState
from trireme.ingest.throttle import Throttle
from trireme.types import FloatArray

IDLE_SECONDS = 0.5
# A batch during which the server ended so often, and came back, is taken for the reason.
MAX_VANISHED = 3


class Sender:
    """Takes pieces from `cut` and puts units whose vectors are all there into `finished`."""

    def __init__(
        self, state: WorkerState, throttle: Throttle, cut: queue.Queue[Piece], finished: queue.Queue[Unit]
    ) -> None:
        self._state = state
        self._throttle = throttle
        self._cut = cut
        self._finished = finished
        self._under_way = 0
        self._under_way_since = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether the server has no request of it and will soon have none."""
        return self._under_way == 0 and (self._state.stop.is_set() or self._cut.empty())

    def run(self) -> None:
        """Blocks until the worker is told to stop. For several threads at once."""
        while not self._state.stop.is_set():
            first = self._next(IDLE_SECONDS)
            if first is None:
                continue
            with self._throttle.turn():
                # Who waited long for a turn stops here: what it holds goes back.
                if self._state.stop.is_set():
                    return
                self._embed(self._collect(first))

    def _next(self, seconds: float) -> Piece | None:
        try:
            return self._cut.get(timeout=seconds)
        except queue.Empty:
            return None

    def _collect(self, first: Piece) -> list[Piece]:
        """`first` and what comes after it, up to the budget; what the cutter has not brought yet stays away."""
        batch, encoder = [first], first.unit.open.encoder
        left = self._throttle.budget() - first.tokens
        while left > 0 and len(batch) < encoder.max_rows:
            # To look at the next and to take it is one act: the other sender takes pieces too.
            with self._cut.mutex:
                following = self._cut.queue[0] if self._cut.queue else None
                if following is None or following.tokens > left or not _is_same(following, encoder):
                    break
                self._cut.queue.popleft()
                self._cut.not_full.notify()
            batch.append(following)
            left -= following.tokens
        return batch

    def _embed(self, batch: list[Piece]) -> None:
        """Embed pieces of one encoder; halves of what fails, until the guilty one is alone."""
        batch = [piece for piece in batch if not piece.unit.open.is_broken]
        if not batch:
            return
        encoder = batch[0].unit.open.encoder
        try:
            vectors = self._ask(encoder, batch)
        except StoppedError:
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
                self._state.report(f"document {opened.job.document.id!r}: {traceback.format_exc()}")
                error = TriremeError(f"internal error while it was embedded: {type(error).__name__}")
            self._state.fail([opened.job], error)
            return
        for piece, vector in zip(batch, vectors, strict=True):
            unit = piece.unit
            unit.vectors[piece.index] = vector
            with self._state.changed:
                unit.left -= 1
                is_complete = unit.left == 0
            if is_complete:
                self._finished.put(unit)

    def _ask(self, encoder: Encoder, batch: list[Piece]) -> FloatArray:
        vanished = 0
        while True:
            began = monotonic()
            try:
                with self._timed():
                    vectors = encoder.embed([piece.text for piece in batch])
                tokens = sum(piece.tokens for piece in batch)
                self._throttle.record(tokens, monotonic() - began)
                self._state.stats.tokens += tokens
                return vectors
            except UnavailableError as error:
                vanished += 1
                if vanished == MAX_VANISHED:
                    raise TriremeError(
                        f"the server ended {vanished} times while it had this: {error}"
                    ) from None
                self._state.tell(f"{error}; waiting")
                while not encoder.is_ready():
                    if self._state.stop.wait(IDLE_SECONDS):
                        raise StoppedError from None

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Counts the seconds during which at least one request is under way."""
        with self._state.changed:
            if self._under_way == 0:
                self._under_way_since = monotonic()
            self._under_way += 1
        try:
            yield
        finally:
            with self._state.changed:
                self._under_way -= 1
                if self._under_way == 0:
                    self._state.stats.embed_seconds += monotonic() - self._under_way_since


def _is_same(piece: Piece, encoder: Encoder) -> bool:
    other = piece.unit.open.encoder
    return (other.model, other.embedder) == (encoder.model, encoder.embedder)
