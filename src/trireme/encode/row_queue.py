"""Rows of all requests wait here together; threads run micro-batches of whatever waits."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, Generic, TypeVar

import numpy as np

from trireme.encode.batching import plan_micro_batches
from trireme.encode.runner import make_batch, pad_tokens
from trireme.encode.session import Session
from trireme.encode.tokenizer import Row
from trireme.errors import UnavailableError
from trireme.observe.work import Waiting, WorkMeter, WorkRate
from trireme.types import BatchStats, FloatArray

A = TypeVar("A")

# Looking further groups rows no better, and delays the runs.
PLANNED_ROWS = 128
# Work for less than this is not shared out among idle threads.
LEAST_SHARE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Pending(Generic[A]):
    """An answer that is on its way: the outputs [rows, ...] of its rows, and what is made of them.

    `outputs` is set by the thread that ran the last row, which has others to run: what listens to it must not
    take time. `make` is called by whoever takes the answer. tokens: what its rows cost, those of a prior included.
    """

    outputs: Future[Any]
    make: Callable[[Any], A]
    tokens: int = 0

    def result(self) -> A:
        """The answer. Blocks; raises what the session raised."""
        return self.make(self.outputs.result())


@dataclass(slots=True, eq=False)
class _Request:
    rows: Sequence[Row]
    future: Future[Any]
    outputs: list[Any]
    left: int
    began: float
    is_started: bool = False
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One row of a request."""

    request: _Request
    index: int
    length: int = field(compare=False)


class RowQueue:
    """One thread for each of the session's streams takes a micro-batch and runs it.

    The oldest waiting row is always in the next micro-batch; of the others those that make it cheapest (see
    plan_micro_batches). So a text joins whatever runs next, not the request or batch that it came with.
    Thread-safe.
    """

    def __init__(
        self,
        session: Session,
        max_batch_tokens: int,
        finish: Callable[[FloatArray], FloatArray] | None = None,
        run: Callable[[Sequence[Row]], Sequence[Any]] | None = None,
        *,
        max_attention: float = math.inf,
    ) -> None:
        """finish: changes the outputs [rows, ...] of a micro-batch.

        run: makes an output of each row, of any kind, instead of `session`; those of a request are a list then.
        max_attention: pairs of tokens, rows x width², of one micro-batch where the session holds them in memory. Of
        micro-batches with more than a stream's share of it one runs at a time; others run beside it.
        """
        self._session = session
        self._max_batch_tokens = max_batch_tokens
        self._max_attention = max_attention
        self._run_rows: Callable[[Sequence[Row]], Any] = run or partial(_run_session, session, finish)
        self._join: Callable[[list[Any]], Any] = list if run else np.stack
        self._waiting: list[_Waiting] = []
        self._waiting_tokens = 0
        # Micro-batches of the oldest waiting rows; None once rows have come since they were planned.
        self._plan: list[list[_Waiting]] | None = None
        self._lock = threading.Lock()
        # Apart, so that a row wakes one thread that runs rows, and not all of them and who waits for room.
        self._has_rows = threading.Condition(self._lock)
        self._has_room = threading.Condition(self._lock)
        self._running = 0
        self._is_heavy_running = False
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._cost = BatchStats()
        self._waiting_requests = 0
        # Tokens a second of all streams together, from runs that left rows waiting: those were full.
        self.rate = WorkRate()
        self.work = WorkMeter()

    def submit(self, rows: Sequence[Row]) -> Future[Any]:
        """The outputs [len(rows), ...] of `rows`, in their order, or what the session raised. Does not block.

        Raises UnavailableError after `close`. No rows: the outputs, [0], are there at once.
        """
        future: Future[Any] = Future()
        if not rows:
            future.set_result(np.zeros((0,), np.float32))
            return future
        request = _Request(rows, future, [None] * len(rows), len(rows), monotonic())
        entries = [_Waiting(request, index, len(row.ids)) for index, row in enumerate(rows)]
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the model is being unloaded; try again")
            self._start_threads()
            self._waiting += entries
            self._waiting_tokens += sum(entry.length for entry in entries)
            self._waiting_requests += 1
            self._plan = None
            self._has_rows.notify(len(entries))
        return future

    def take_cost(self) -> BatchStats:
        """What the micro-batches since the last call cost."""
        with self._lock:
            cost, self._cost = self._cost, BatchStats()
        return cost

    def standing(self) -> Waiting:
        """Requests of which no row runs yet, and the tokens of all rows that wait."""
        with self._lock:
            return Waiting(self._waiting_requests, float(self._waiting_tokens))

    @property
    def is_busy(self) -> bool:
        """Whether rows wait or run."""
        return bool(self._waiting) or self._running > 0

    def wait_for_room(self, tokens: int) -> None:
        """Blocks while more than `tokens` wait for their run."""
        with self._has_room:
            self._has_room.wait_for(lambda: self._waiting_tokens <= tokens or self._is_closed)

    def close(self) -> None:
        """Runs what waits, then ends the threads; blocks until they have. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._has_rows.notify_all()
            self._has_room.notify_all()
        for thread in self._threads:
            thread.join()

    def _start_threads(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"rows-{n}", daemon=True)
                for n in range(self._session.streams)
            ]
            for thread in self._threads:
                thread.start()

    def _work(self) -> None:
        while True:
            with self._has_rows:
                self._has_rows.wait_for(self._has_turn)
                if not self._waiting:
                    return
                began = monotonic()
                batch = self._take()
                is_heavy = self._is_heavy(batch)
                self._is_heavy_running |= is_heavy
                self._running += 1
                # More waits than all streams can run at once: this micro-batch has no less than it could have.
                is_full = bool(self._waiting) and self._running >= self._session.streams
                tokens = sum(entry.length for entry in batch)
                self._has_room.notify_all()
            has_run = self._run(batch)
            # Its requests are answered: a thread that waits holds none of them.
            del batch
            if is_full and has_run:
                self.rate.add(tokens * self._session.streams, monotonic() - began)
            with self._lock:
                self._running -= 1
                if is_heavy:
                    self._is_heavy_running = False
                    # Whoever found nothing but such rows waits for this.
                    self._has_rows.notify_all()

    def _has_turn(self) -> bool:
        """Whether a thread has something to do: a micro-batch, or to end. The lock is held."""
        return self._find_next() is not None if self._waiting else self._is_closed

    def _find_next(self) -> int | None:
        """The place in the plan of the next micro-batch that memory has room for. The lock is held."""
        if not self._plan:
            self._plan = self._make_plan()
        if not self._is_heavy_running:
            return 0
        return next((place for place, batch in enumerate(self._plan) if not self._is_heavy(batch)), None)

    def _is_heavy(self, batch: list[_Waiting]) -> bool:
        cost = self._session.cost
        width = cost.width(max(entry.length for entry in batch))
        return cost.attention(len(batch), width) * self._session.streams > self._max_attention

    def _take(self) -> list[_Waiting]:
        """The next micro-batch, off the queue. The lock is held."""
        place, plan = self._find_next() or 0, self._plan or []
        batch = plan.pop(place)
        taken = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        self._waiting_tokens -= sum(entry.length for entry in batch)
        self._start(batch)
        return batch

    def _start(self, batch: list[_Waiting]) -> None:
        """Requests of which these are the first rows to run wait no longer. The lock is held."""
        now, waited, count = monotonic(), 0.0, 0
        for entry in batch:
            if not entry.request.is_started:
                entry.request.is_started = True
                waited += now - entry.request.began
                count += 1
        if count:
            self._waiting_requests -= count
            self.work.wait(waited, count)

    def _make_plan(self) -> list[list[_Waiting]]:
        oldest = self._waiting if not self._session.cost.pads else self._waiting[:PLANNED_ROWS]
        # Little work for several idle threads is shared out, which halves the time that a lone request takes.
        share = -(-self._waiting_tokens // max(1, self._session.streams - self._running))
        budget = min(self._max_batch_tokens, max(share, LEAST_SHARE_TOKENS))
        lengths = [entry.length for entry in oldest]
        plan = plan_micro_batches(lengths, budget, self._session.cost, self._max_attention)
        return [[oldest[i] for i in batch] for batch in sorted(plan, key=min)]

    def _run(self, batch: list[_Waiting]) -> bool:
        """Whether it went well."""
        try:
            outputs = self._run_rows([entry.request.rows[entry.index] for entry in batch])
        except Exception as error:
            self._fail({id(entry.request): entry.request for entry in batch}, error)
            return False
        for request in self._hand_over(batch, outputs):
            request.future.set_result(self._join([row for row in request.outputs if row is not None]))
        return True

    def _hand_over(self, batch: list[_Waiting], outputs: Sequence[Any]) -> list[_Request]:
        """Gives each row its output and counts the cost; the requests that are complete with it."""
        complete = []
        lengths = [entry.length for entry in batch]
        padding = sum(pad_tokens(lengths, self._session.cost))
        with self._lock:
            self._cost += BatchStats(sum(lengths), padding, 1)
            for entry, output in zip(batch, outputs, strict=True):
                request = entry.request
                request.outputs[entry.index] = output
                request.left -= 1
                # A row that failed is never counted: no request both fails and completes.
                if request.left == 0:
                    complete.append(request)
        return complete

    def _fail(self, requests: dict[int, _Request], error: Exception) -> None:
        """Ends the requests with `error`; their other rows need not run."""
        with self._lock:
            failed = [request for request in requests.values() if not request.is_failed]
            for request in failed:
                request.is_failed = True
            self._waiting = [entry for entry in self._waiting if id(entry.request) not in requests]
            self._waiting_tokens = sum(entry.length for entry in self._waiting)
            self._plan = None
            self._has_room.notify_all()
        for request in failed:
            request.future.set_exception(error)


def _run_session(
    session: Session, finish: Callable[[FloatArray], FloatArray] | None, rows: Sequence[Row]
) -> FloatArray:
    """The outputs [rows, ...] of a micro-batch."""
    outputs = session.run(make_batch(rows))
    return finish(outputs) if finish else outputs
