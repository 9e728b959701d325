"""The second step of a worker: passages of many documents are embedded together, within the throttle."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

from trireme.errors import TriremeError, UnavailableError
from trireme.ingest.encoder import Encoder, Vectors
from trireme.ingest.jobs_in_hand import DocumentPart, HeldPassage, StoppedError, WorkerState
from trireme.ingest.peek_queue import PeekQueue
from trireme.ingest.throttle import Throttle
from trireme.retry import Pauses, retry

# A batch during which the server ended so often, and came back, is taken for the reason.
MAX_VANISHED = 3


class Sender:
    """Takes passages from `cut` and puts parts whose vectors are all there into `finished`."""

    def __init__(
        self,
        state: WorkerState,
        throttle: Throttle,
        cut: PeekQueue[HeldPassage],
        finished: queue.Queue[DocumentPart],
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
            first = self._next(self._state.timing.idle)
            if first is None:
                continue
            with self._throttle.turn():
                # Stopped while waiting for a turn: these passages return to the queue.
                if self._state.stop.is_set():
                    return
                self._embed(self._collect(first))

    def _next(self, seconds: float) -> HeldPassage | None:
        try:
            return self._cut.get(timeout=seconds)
        except queue.Empty:
            return None

    def _collect(self, first: HeldPassage) -> list[HeldPassage]:
        """`first` and what comes after it, up to the budget; what the cutter has not brought yet stays away."""
        batch, encoder = [first], first.part.held.encoder
        left = self._throttle.budget() - first.tokens
        while left > 0 and len(batch) < encoder.max_rows:
            # To look at the next and to take it is one act: the other sender takes passages too.
            following = self._cut.take_if(partial(_fits, encoder, left))
            if following is None:
                break
            batch.append(following)
            left -= following.tokens
        return batch

    def _embed(self, batch: list[HeldPassage]) -> None:
        """Embed passages of one encoder; halves of what fails, until the guilty one is alone."""
        batch = [passage for passage in batch if not passage.part.held.is_broken]
        if not batch:
            return
        encoder = batch[0].part.held.encoder
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
            held = batch[0].part.held
            held.is_broken = True
            if not isinstance(error, TriremeError):
                self._state.report(f"document {held.job.document.id!r}: {traceback.format_exc()}")
                error = TriremeError(f"internal error while it was embedded: {type(error).__name__}")
            self._state.fail([held.job], error)
            return
        weights = [None] * len(batch) if vectors.sparse is None else vectors.sparse
        for passage, vector, weighed in zip(batch, vectors.dense, weights, strict=True):
            part = passage.part
            part.vectors[passage.index] = (vector, weighed)
            with self._state.changed:
                part.left -= 1
                is_complete = part.left == 0
            if is_complete:
                self._finished.put(part)

    def _ask(self, encoder: Encoder, batch: list[HeldPassage]) -> Vectors:
        def send() -> Vectors:
            began = monotonic()
            with self._timed():
                vectors = encoder.embed([passage.text for passage in batch])
            self._throttle.record(tokens, monotonic() - began)
            return vectors

        def wait_until_ready(_: float) -> None:
            while not encoder.is_ready():
                self._state.sleep(self._state.timing.idle)

        tokens = sum(passage.tokens for passage in batch)
        pauses = Pauses(attempts=MAX_VANISHED)
        try:
            vectors = retry(send, UnavailableError, pauses, wait_until_ready, self._state.tell_waiting)
        except UnavailableError as error:
            raise TriremeError(f"the server ended {MAX_VANISHED} times while it had this: {error}") from None
        self._state.stats.tokens += tokens
        return vectors

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


def _fits(encoder: Encoder, tokens: int, passage: HeldPassage) -> bool:
    """Whether it can join a request of this encoder with room for so many tokens."""
    other = passage.part.held.encoder
    is_same = (other.model, other.embedder) == (encoder.model, encoder.embedder)
    return is_same and passage.tokens <= tokens
