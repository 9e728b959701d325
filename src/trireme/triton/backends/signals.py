"""Writes a model's signals on the server's page, from a thread, so that no request waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trireme.errors import UnavailableError
from trireme.observe import metrics as names
from trireme.observe.work import FrontQueue, SignalLedger, Signals, Waiting, WorkRate, WorkTotals
from trireme.triton.backends.metrics import ModelMetrics
from trireme.triton.metrics import read_front_queue, read_metrics

PERIOD_SECONDS = 0.5

_log = logging.getLogger(__name__)


def nothing_waits() -> Waiting:
    """Of a model that has no queue of its own."""
    return Waiting()


def never() -> bool:
    """Of a model whose `execute` answers."""
    return False


@dataclass(frozen=True, slots=True)
class WorkSource:
    """What a model says of its work.

    is_busy: whether it has requests that it has not answered, while none are being handed over.
    input_token_work: of an LLM; it then counts its tokens, too.
    """

    totals: Callable[[], WorkTotals]
    rate: WorkRate
    waiting: Callable[[], Waiting] = nothing_waits
    is_busy: Callable[[], bool] = never
    input_token_work: Callable[[], float] | None = None


class FrontWatch:
    """Asks the server's page for its own queue of a model, only while the model is busy.

    An idle model is handed what comes at once, so nothing waits before it. A busy one is not, also where it is not
    inside of `execute`: Triton's batcher looks again when a request comes or ends, else after half a second.
    """

    def __init__(self, host: str, port: int, model: str) -> None:
        self._host, self._port, self._model = host, port, model
        self._entered = 0
        self._was_busy = False

    @contextmanager
    def executing(self) -> Iterator[None]:
        """Within it the model is inside of `execute`, which Triton calls from one thread."""
        self._entered += 1
        try:
            yield
        finally:
            self._entered -= 1

    def ask(self, *, is_busy: bool) -> FrontQueue | None:
        """The queue now; None where nothing waits there, or the server does not say. Blocks for the page.

        is_busy: whether the model has work beside what is in `execute`.
        """
        is_busy = is_busy or self._entered > 0
        # Once more after the last: what was refused meanwhile is counted.
        is_wanted, self._was_busy = is_busy or self._was_busy, is_busy
        return self.look() if is_wanted else None

    def look(self) -> FrontQueue | None:
        """As `ask`, however idle the model is."""
        try:
            return read_front_queue(read_metrics(self._host, self._port), self._model)
        except UnavailableError:
            return None


class SignalExport:
    """The signals of one instance, at most PERIOD_SECONDS old. docs/signals.md has their meaning."""

    def __init__(
        self,
        metrics: ModelMetrics,
        source: WorkSource,
        front: FrontWatch,
        *,
        instance: str,
        instances: int,
        warmup_seconds: Callable[[], float | None],
    ) -> None:
        """warmup_seconds: None while nothing was answered yet."""
        self._metrics, self._source, self._front = metrics, source, front
        self._instance = instance
        self._warmup_seconds = warmup_seconds
        self._ledger = SignalLedger(instances)
        self._ledger.start(source.totals(), front.look())
        self._counters = {
            "offered_seconds": metrics.make(names.OFFERED),
            "rejected_seconds": metrics.make(names.REJECTED),
            "bulk_seconds": metrics.make(names.BULK),
            "wait_seconds": metrics.make(names.QUEUE_WAIT),
            "waits": metrics.make(names.QUEUE_WAITS),
        }
        if source.input_token_work is not None:
            self._counters["input_tokens"] = metrics.make(names.MODEL_TOKENS, kind="input")
            self._counters["output_tokens"] = metrics.make(names.MODEL_TOKENS, kind="output")
        self._gauges: dict[str, Any] = {}
        self._shown: dict[str, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Writes what is left and ends the thread. Blocks until then."""
        self._closed.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            is_last = self._closed.wait(PERIOD_SECONDS)
            try:
                self._write()
            except Exception:
                # Without this thread a scaler would see the last values for ever.
                _log.exception("the signals could not be written")
            if is_last:
                return

    def _write(self) -> None:
        # Before the server's queue: what is handed over meanwhile is missed by both, and there at the next look.
        totals, waiting = self._source.totals(), self._source.waiting()
        front = self._front.ask(is_busy=self._source.is_busy())
        signals = self._ledger.look(totals, self._source.rate.value, waiting, front)
        for name, counter in self._counters.items():
            if growth := getattr(signals, name):
                counter.increment(growth)
        for metric, value in self._now(signals):
            # Every write crosses into the server's process.
            if value is not None and self._shown.get(metric.name) != value:
                self._show(metric, value)

    def _now(self, signals: Signals) -> list[tuple[names.Metric, float | None]]:
        work = self._source.input_token_work
        return [
            (names.BACKLOG, signals.backlog_seconds),
            (names.CAPACITY, signals.capacity),
            (names.QUEUE_DEPTH, signals.queue_depth),
            (names.WARMUP, self._warmup_seconds()),
            (names.INPUT_TOKEN_WORK, None if work is None else work()),
        ]

    def _show(self, metric: names.Metric, value: float) -> None:
        if metric.name not in self._gauges:
            self._gauges[metric.name] = self._metrics.make(metric, instance=self._instance)
        self._gauges[metric.name].set(float(value))
        self._shown[metric.name] = value
