"""What a backend tells its server beside answers: metrics, and a log."""

from __future__ import annotations

import logging
import threading
from typing import Any


class Instrument:
    """A metric of the server, until `release`: then it does nothing, whoever still holds it.

    Safe in several threads. Triton's own is not: a call saves the metric anew to shared memory and frees the copy
    before it, which the server may still read for another thread's call (metric.cc, SaveToSharedMemory), and ends.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._lock = threading.Lock()

    def increment(self, by: float) -> None:
        """Adds to a counter or gauge. Blocks for a call to the server."""
        with self._lock:
            if self._metric is not None:
                self._metric.increment(by)

    def set(self, value: float) -> None:
        """Sets a gauge. Blocks for a call to the server."""
        with self._lock:
            if self._metric is not None:
                self._metric.set(value)

    def observe(self, value: float) -> None:
        """Adds to a histogram. Blocks for a call to the server."""
        with self._lock:
            if self._metric is not None:
                self._metric.observe(value)

    def release(self) -> None:
        """Lets go of it: the server forgets it with its last reference."""
        with self._lock:
            self._metric = None


class _ServerLog(logging.Handler):
    """Puts what our modules log into the server's log."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        say = self._logger.log_error if record.levelno >= logging.ERROR else self._logger.log_warn
        say(self.format(record))


def log_to(logger: Any) -> None:
    """Warnings and errors of the package go to `logger`, Triton's. Idempotent."""
    ours = logging.getLogger("trireme")
    for handler in list(ours.handlers):
        if isinstance(handler, _ServerLog):
            ours.removeHandler(handler)
    ours.addHandler(_ServerLog(logger))
