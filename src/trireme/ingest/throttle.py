"""How fast a worker sends texts to the server: small requests, and hardly any while people wait for answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic, sleep

SMOOTHING = 0.3

# How many interactive requests there were, and whether one is being worked on now; None where nobody knows.
ReadLoad = Callable[[], "tuple[int, bool] | None"]


@dataclass(frozen=True, slots=True)
class ThrottleLimits:
    """How much of the server a worker takes.

    request_seconds: target duration of one bulk request, and so the longest that an interactive request waits
    behind it. least_tokens, most_tokens: of one request. busy_share: of time for bulk work while others use the
    server; at 4 % their 95th percentile stays unchanged. quiet_seconds: how long after the last interactive
    request the server counts as used. poll_seconds: between two looks at it.
    """

    request_seconds: float = 0.1
    least_tokens: int = 256
    most_tokens: int = 16_384
    busy_share: float = 0.04
    quiet_seconds: float = 5.0
    poll_seconds: float = 0.2


DEFAULT_LIMITS = ThrottleLimits()


class Throttle:
    """Sizes the worker's requests and the pauses between them. Thread-safe.

    read_load: reads from the server how many other requests it had, at most once in ThrottleLimits.poll_seconds.
    """

    def __init__(
        self,
        read_load: ReadLoad,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], object] = sleep,
        limits: ThrottleLimits = DEFAULT_LIMITS,
    ) -> None:
        self._read_load = read_load
        self._clock = clock
        self._wait = wait
        self._limits = limits
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._rate = 0.0
        self._seconds = 0.0
        self._seen: int | None = None
        self._read_at = float("-inf")
        self._busy_until = float("-inf")
        self.paused_seconds = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether others use the server."""
        return self._clock() < self._busy_until

    def budget(self) -> int:
        """Tokens of the next request: what the server does in request_seconds, one passage while it is busy."""
        if self.is_busy or not self._rate:
            return self._limits.least_tokens
        tokens = max(self._rate * self._limits.request_seconds, self._limits.least_tokens)
        return int(min(tokens, self._limits.most_tokens))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to send one request. While others use the server only one caller at a time has it.

        Blocks for as long as others use the server, at most 1 / busy_share times the last request.
        """
        self._watch()
        if not self.is_busy:
            yield
            return
        with self._turn:
            self._pause()
            yield

    def record(self, tokens: int, seconds: float) -> None:
        """What the last request had, and how long it took."""
        with self._lock:
            self._seconds = seconds
            rate = tokens / max(seconds, 1e-6)
            self._rate = rate if not self._rate else self._rate + SMOOTHING * (rate - self._rate)

    def _pause(self) -> None:
        began = self._clock()
        until = began + self._seconds * (1 / self._limits.busy_share - 1)
        while self.is_busy and (left := until - self._clock()) > 0:
            self._wait(min(left, self._limits.poll_seconds))
            self._watch()
        self.paused_seconds += self._clock() - began

    def _watch(self) -> None:
        with self._lock:
            now = self._clock()
            if now - self._read_at < self._limits.poll_seconds:
                return
            self._read_at = now
        seen = self._read_load()
        if seen is None:
            return
        count, is_running = seen
        with self._lock:
            # A server that was started again counts from 0.
            is_new = self._seen is not None and count > self._seen
            self._seen = count
            if is_new or is_running:
                self._busy_until = self._clock() + self._limits.quiet_seconds
