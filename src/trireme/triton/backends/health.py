"""Readiness and usage counters of the encoder backends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.encode.runner import run_rows
from trireme.encode.session import Session
from trireme.encode.tokenizer import Tokenizer
from trireme.observe import metrics as names
from trireme.triton.backends.metrics import ModelMetrics
from trireme.types import BatchStats

TELL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class UsageCounters:
    """Prometheus counters of one encoder model."""

    tokens: Any
    pad_tokens: Any
    micro_batches: Any
    # These models answer later: Triton does not know their times.
    request_seconds: Any
    read: Any

    def record(self, stats: BatchStats) -> None:
        """Add one run's cost."""
        self.tokens.increment(stats.tokens)
        self.pad_tokens.increment(stats.pad_tokens)
        self.micro_batches.increment(stats.micro_batches)
        self.read.increment(stats.tokens)


class UsageMeter:
    """Tells a model's counters what its queue has run and how long its requests took. Thread-safe.

    Five times a second at most: each counter is a call to the server, which takes as long as a short text.
    """

    def __init__(self, metrics: ModelMetrics, take_cost: Callable[[], BatchStats]) -> None:
        """take_cost: what was run since the last call, as RowQueue.take_cost says it."""
        self._take_cost = take_cost
        self._counters = UsageCounters(
            metrics.make(names.ENCODER_TOKENS),
            metrics.make(names.ENCODER_PADS),
            metrics.make(names.MICRO_BATCHES),
            metrics.make(names.ENCODER_SECONDS),
            metrics.make(names.MODEL_TOKENS, kind="input"),
        )
        self._seconds = 0.0
        self._told = 0.0
        self._lock = threading.Lock()

    def add_request(self, seconds: float) -> None:
        """One more request, and how long it took."""
        with self._lock:
            self._seconds += seconds
            is_due = time.monotonic() - self._told > TELL_SECONDS
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Tells the counters what they do not know yet."""
        with self._lock:
            cost = self._take_cost()
            seconds, self._seconds = self._seconds, 0.0
            self._told = time.monotonic()
        if cost.micro_batches:
            self._counters.record(cost)
        if seconds:
            self._counters.request_seconds.increment(seconds)


class EncoderHealth:
    """Answers whether the files are as they were at load and the session still runs."""

    def __init__(
        self, version_dir: Path, files: Iterable[str], session: Session, tokenizer: Tokenizer
    ) -> None:
        self._files = {version_dir / name: _stamp(version_dir / name) for name in files}
        self._session = session
        self._probe = tokenizer.encode_texts(["ready"])

    def is_ready(self) -> bool:
        """Runs one short row. Never raises."""
        try:
            if any(_stamp(path) != stamp for path, stamp in self._files.items()):
                return False
            run_rows(self._session, self._probe, max_batch_tokens=1)
        except Exception:  # whatever it is, the model does not answer
            return False
        return True


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
