"""A worker's own page of Prometheus metrics: ingestion's signals, and what every process says of itself."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from trireme.errors import SettingError, TriremeError
from trireme.ingest.signals import IngestSignals
from trireme.ingest.worker import Worker
from trireme.observe import metrics as names
from trireme.observe.build_info import Build
from trireme.observe.registry import MetricPage
from trireme.observe.spans import NoSpans, SpanSink

MODEL = "ingest"
# Between two looks at the queue; at most a twentieth of the time is spent looking.
PERIOD_SECONDS = 5.0
LOOKING_SHARE = 20


class WorkerMetrics:
    """Looks at the queue in a thread of its own, and keeps what it told."""

    def __init__(self, worker: Worker, build: Build | None = None, spans: SpanSink | None = None) -> None:
        self._spans = spans or NoSpans()
        self._spans_told = dict.fromkeys(names.SPAN_OUTCOMES, 0)
        self._worker = worker
        self._signals = IngestSignals()
        self._page = MetricPage("worker", names.WORKER, build or Build())
        self.registry = self._page.registry
        self._model, self._mine = (MODEL,), (MODEL, f"{socket.gethostname()}-{os.getpid()}")
        self._offered, self._tokens = map(self._page.family, (names.OFFERED, names.MODEL_TOKENS))
        self._gauges = {
            row: self._page.family(row) for row in (names.BACKLOG, names.CAPACITY, names.QUEUE_DEPTH)
        }
        self._offered.labels(*self._model)
        self._closed = threading.Event()

    def look(self) -> None:
        """Brings the page up to date. Blocks for the queue; raises UnavailableError."""
        found = self._worker.count_waiting()
        signals = self._signals.look(found, self._worker.read(monotonic()))
        self._offered.labels(*self._model).inc(signals.offered_seconds)
        self._tokens.labels(MODEL, "input").inc(signals.input_tokens)
        told: dict[names.Metric, float | None] = {
            names.BACKLOG: signals.backlog_seconds,
            names.CAPACITY: signals.capacity,
            names.QUEUE_DEPTH: signals.queue_depth,
        }
        for row, value in told.items():
            if value is not None:
                self._gauges[row].labels(*self._mine).set(value)

    def tell_spans(self) -> None:
        """Brings the counters of spans up to date, where some are sent."""
        counts = self._spans.counts()
        for outcome, told in self._spans_told.items() if self._spans.is_on else ():
            count = getattr(counts, outcome)
            self._page.of(names.SPANS, outcome).inc(count - told)
            self._spans_told[outcome] = count

    def forget(self) -> None:
        """Nobody knows the queue: what was told of it is told no longer."""
        for gauge in self._gauges.values():
            gauge.clear()

    def run(self) -> None:
        """Looks until `close`. Blocks; never raises."""
        pause = 0.0
        while not self._closed.wait(pause):
            began = monotonic()
            self.tell_spans()
            try:
                self.look()
            except TriremeError:
                self.forget()
            pause = max(PERIOD_SECONDS, LOOKING_SHARE * (monotonic() - began))

    def close(self) -> None:
        """Ends `run`."""
        self._closed.set()


@contextmanager
def metrics_of(
    worker: Worker, host: str, port: int, build: Build | None = None, spans: SpanSink | None = None
) -> Iterator[None]:
    """Within it the worker's metrics are at http://host:port/metrics; with port 0 there are none.

    Raises SettingError for a port that is taken.
    """
    if not port:
        yield
        return
    metrics = WorkerMetrics(worker, build, spans)
    server = _serve(metrics, host, port)
    thread = threading.Thread(target=metrics.run, name="worker-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        metrics.close()
        server.shutdown()
        server.server_close()
        thread.join()


def _serve(metrics: WorkerMetrics, host: str, port: int) -> Any:
    from prometheus_client import start_http_server

    try:
        server, _ = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise SettingError(f"TRIREME_WORKER_METRICS_PORT {port} cannot be opened: {error.strerror}") from None
    return server
