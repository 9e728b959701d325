"""What a backend tells its server beside answers: metrics, and a log."""

from __future__ import annotations

import logging
from typing import Any


class Instrument:
    """A metric of the server, until `release`: then it does nothing, whoever still holds it."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric

    def increment(self, by: float) -> None:
        """Adds to a counter or gauge. Blocks for a call to the server."""
        if (metric := self._metric) is not None:
            metric.increment(by)

    def set(self, value: float) -> None:
        """Sets a gauge. Blocks for a call to the server."""
        if (metric := self._metric) is not None:
            metric.set(value)

    def observe(self, value: float) -> None:
        """Adds to a histogram. Blocks for a call to the server."""
        if (metric := self._metric) is not None:
            metric.observe(value)

    def release(self) -> None:
        """Lets go of it: the server forgets it with its last reference."""
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
