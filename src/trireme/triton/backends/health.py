"""Readiness and usage counters of the encoder backends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.encode.runner import run_rows
from trireme.encode.session import Session
from trireme.encode.tokenizer import Tokenizer
from trireme.types import BatchStats

if TYPE_CHECKING:
    from trireme.triton.backends.model import BackendModel

import numpy as np

TELL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class UsageCounters:
    """Prometheus counters of one encoder model."""

    tokens: Any
    pad_tokens: Any
    micro_batches: Any
    # These models answer later: Triton does not know their times.
    request_seconds: Any

    def record(self, stats: BatchStats) -> None:
        """Add one run's cost."""
        self.tokens.increment(stats.tokens)
        self.pad_tokens.increment(stats.pad_tokens)
        self.micro_batches.increment(stats.micro_batches)


class UsageMeter:
    """Adds up micro-batches and requests, and tells the counters five times a second at most. Thread-safe.

    Each counter is a call to the server, which takes as long as a short text.
    """

    def __init__(self, counters: UsageCounters) -> None:
        self._counters = counters
        self._sum = BatchStats()
        self._seconds = 0.0
        self._told = 0.0
        self._lock = threading.Lock()

    def add(self, stats: BatchStats) -> None:
        """One more micro-batch."""
        with self._lock:
            self._sum = BatchStats(
                self._sum.tokens + stats.tokens,
                self._sum.pad_tokens + stats.pad_tokens,
                self._sum.micro_batches + stats.micro_batches,
            )
            is_due = time.monotonic() - self._told > TELL_SECONDS
        if is_due:
            self.flush()

    def add_request(self, seconds: float) -> None:
        """One more request, and how long it took; told with the next micro-batch or flush."""
        with self._lock:
            self._seconds += seconds

    def flush(self) -> None:
        """Tells the counters what they do not know yet."""
        with self._lock:
            stats, self._sum = self._sum, BatchStats()
            seconds, self._seconds = self._seconds, 0.0
            self._told = time.monotonic()
        if stats.micro_batches:
            self._counters.record(stats)
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
            prior = np.zeros(1, np.float32) if "prior" in self._session.input_names else None
            run_rows(self._session, self._probe, max_batch_tokens=1, prior=prior)
        except Exception:  # whatever it is, the model does not answer
            return False
        return True

    @staticmethod
    def usage_counters(model: BackendModel) -> UsageCounters:
        """The model's counters, at zero."""
        return UsageCounters(
            model.counter("trireme_encoder_tokens_total", "Tokens run, special tokens included"),
            model.counter(
                "trireme_encoder_pad_tokens_total", "Padding added to even out rows that ran together"
            ),
            model.counter("trireme_encoder_micro_batches_total", "Micro-batches run"),
            model.counter(
                "trireme_encoder_request_seconds_total", "Seconds from Triton's queue to the responses"
            ),
        )


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
