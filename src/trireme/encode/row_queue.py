"""Rows of all requests wait here together; threads run micro-batches of whatever waits."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from trireme.encode.batching import plan_micro_batches
from trireme.encode.runner import make_batch, pad_tokens, run_rows
from trireme.encode.session import Session, TokenBatch
from trireme.encode.tokenizer import Row
from trireme.errors import UnavailableError
from trireme.types import BatchStats, FloatArray

# Outputs [rows, ...] in the rows' order, or what the session raised.
Done = Callable[["FloatArray | Exception", BatchStats], None]

# Rows looked at for one plan: more find no better company, and planning takes the time of the runs.
PLANNED_ROWS = 128
# Work for less than this is not shared out among idle threads.
LEAST_SHARE_TOKENS = 64


@dataclass(slots=True, eq=False)
class _Request:
    rows: Sequence[Row]
    prior: FloatArray | None
    done: Done
    outputs: list[FloatArray | None]
    left: int
    is_quick: bool
    pad_tokens: int = 0
    micro_batches: int = 0
    is_failed: bool = False


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One row of a request."""

    request: _Request
    index: int
    length: int = field(compare=False)


class RowQueue:
    """One thread for each of the session's streams takes a micro-batch and runs it; another one hands outputs over.

    The oldest waiting row is always in the next micro-batch; of the others those that make it cheapest (see
    plan_micro_batches). So a text joins whatever runs next, not the request or batch that it came with.
    Thread-safe.
    """

    def __init__(
        self,
        session: Session,
        max_batch_tokens: int,
        finish: Callable[[FloatArray], FloatArray] | None = None,
        observe: Callable[[BatchStats], None] | None = None,
    ) -> None:
        """finish: changes the outputs [rows, ...] of a micro-batch.

        observe: is told the cost of each, by the thread that hands outputs over.
        """
        self._session = session
        self._max_batch_tokens = max_batch_tokens
        self._finish = finish
        self.observe = observe
        self._waiting: list[_Waiting] = []
        self._waiting_tokens = 0
        # Micro-batches of the oldest waiting rows; None once rows have come since they were planned.
        self._plan: list[list[_Waiting]] | None = None
        self._changed = threading.Condition()
        self._running = 0
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        # What is finished, for the thread that answers: sending takes as long as a short text, mostly in waiting.
        self._finished: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._answerer = threading.Thread(target=self._answer, name="answers", daemon=True)

    def submit(
        self, rows: Sequence[Row], done: Done, prior: FloatArray | None = None, *, is_quick: bool = False
    ) -> None:
        """`done` is called once, from another thread, with the outputs of `rows`. Does not block.

        `done` must not raise. is_quick: it takes no time, so the thread that ran the last row calls it.
        prior: float32 [len(rows)]. Raises UnavailableError after `close`. No rows: `done` is called at once.
        """
        if not rows:
            done(np.zeros((0,), np.float32), BatchStats())
            return
        request = _Request(rows, prior, done, [None] * len(rows), len(rows), is_quick)
        entries = [_Waiting(request, index, len(row.ids)) for index, row in enumerate(rows)]
        with self._changed:
            if self._is_closed:
                raise UnavailableError("the model is being unloaded; try again")
            self._start_threads()
            self._waiting += entries
            self._waiting_tokens += sum(entry.length for entry in entries)
            self._plan = None
            self._changed.notify_all()

    def run(self, rows: Sequence[Row], prior: FloatArray | None = None) -> tuple[FloatArray, BatchStats]:
        """Outputs [len(rows), ...] and what they cost. Blocks; raises what the session raises."""
        if self._session.streams == 1 and not self._threads:
            outputs, stats = run_rows(self._session, rows, self._max_batch_tokens, prior)
            return (self._finish(outputs) if self._finish and len(outputs) else outputs), stats
        answers: list[tuple[FloatArray | Exception, BatchStats]] = []
        answered = threading.Event()

        def take(outputs: FloatArray | Exception, stats: BatchStats) -> None:
            answers.append((outputs, stats))
            answered.set()

        self.submit(rows, take, prior, is_quick=True)
        answered.wait()
        [(answer, cost)] = answers
        if isinstance(answer, Exception):
            raise answer
        return answer, cost

    def wait_for_room(self, tokens: int) -> None:
        """Blocks while more than `tokens` wait for their run."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_tokens <= tokens or self._is_closed)

    def close(self) -> None:
        """Runs what waits, then ends the threads; blocks until they have. Idempotent."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._finished.put(None)
            self._answerer.join()

    def _start_threads(self) -> None:
        if not self._threads:
            self._threads = [
                threading.Thread(target=self._work, name=f"rows-{n}", daemon=True)
                for n in range(self._session.streams)
            ]
            for thread in (*self._threads, self._answerer):
                thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    return
                batch = self._take()
                self._running += 1
                self._changed.notify_all()
            self._run(batch)
            with self._changed:
                self._running -= 1

    def _take(self) -> list[_Waiting]:
        """The next micro-batch, off the queue. The lock is held."""
        if not self._plan:
            self._plan = self._make_plan()
        batch = self._plan.pop(0)
        taken = set(map(id, batch))
        self._waiting = [entry for entry in self._waiting if id(entry) not in taken]
        self._waiting_tokens -= sum(entry.length for entry in batch)
        return batch

    def _make_plan(self) -> list[list[_Waiting]]:
        oldest = self._waiting if not self._session.cost.pads else self._waiting[:PLANNED_ROWS]
        # Little work for several idle threads is shared out, which halves the time that a lone request takes.
        share = -(-self._waiting_tokens // max(1, self._session.streams - self._running))
        budget = min(self._max_batch_tokens, max(share, LEAST_SHARE_TOKENS))
        plan = plan_micro_batches([entry.length for entry in oldest], budget, self._session.cost)
        return [[oldest[i] for i in batch] for batch in sorted(plan, key=min)]

    def _run(self, batch: list[_Waiting]) -> None:
        pads = pad_tokens([entry.length for entry in batch], self._session.cost)
        try:
            outputs = self._session.run(_to_batch(batch))
            if self._finish:
                outputs = self._finish(outputs)
        except Exception as error:
            self._fail({id(entry.request): entry.request for entry in batch}, error)
            return
        for request in self._hand_over(batch, outputs, pads):
            tokens = sum(len(row.ids) for row in request.rows)
            stats = BatchStats(tokens, request.pad_tokens, request.micro_batches)
            self._end(request, np.stack([row for row in request.outputs if row is not None]), stats)
        if self.observe:
            cost = BatchStats(sum(entry.length for entry in batch), sum(pads), 1)
            self._finished.put(partial(self.observe, cost))

    def _hand_over(self, batch: list[_Waiting], outputs: FloatArray, pads: list[int]) -> list[_Request]:
        """Gives each row its output; the requests that are complete with it."""
        complete = []
        with self._changed:
            for request in {id(entry.request): entry.request for entry in batch}.values():
                request.micro_batches += 1
            for entry, output, pad in zip(batch, outputs, pads, strict=True):
                request = entry.request
                request.outputs[entry.index] = output
                request.pad_tokens += pad
                request.left -= 1
                if request.left == 0 and not request.is_failed:
                    complete.append(request)
        return complete

    def _fail(self, requests: dict[int, _Request], error: Exception) -> None:
        """Ends the requests with `error`; their other rows need not run."""
        with self._changed:
            failed = [request for request in requests.values() if not request.is_failed]
            for request in failed:
                request.is_failed = True
            self._waiting = [entry for entry in self._waiting if id(entry.request) not in requests]
            self._waiting_tokens = sum(entry.length for entry in self._waiting)
            self._plan = None
            self._changed.notify_all()
        for request in failed:
            self._end(request, error, BatchStats())

    def _end(self, request: _Request, outputs: FloatArray | Exception, stats: BatchStats) -> None:
        if request.is_quick:
            request.done(outputs, stats)
        else:
            self._finished.put(partial(request.done, outputs, stats))

    def _answer(self) -> None:
        while (answer := self._finished.get()) is not None:
            try:
                answer()
            except Exception:
                # Told as at a thread's end; but this one has the answers of others still to give.
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _to_batch(batch: list[_Waiting]) -> TokenBatch:
    priors = [entry.request.prior for entry in batch]
    chosen = [prior[entry.index] for prior, entry in zip(priors, batch, strict=True) if prior is not None]
    rows = [entry.request.rows[entry.index] for entry in batch]
    return make_batch(rows, np.array(chosen, np.float32) if chosen else None)
