"""How fast a worker sends texts to the server: small requests, and hardly any while people wait for answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep

# A request takes so long, with all others that are under way beside it: so long waits one that comes in meanwhile.
REQUEST_SECONDS = 0.1
LEAST_TOKENS = 256
MOST_TOKENS = 16_384
# Of the server's time, while others use it: so few of their requests meet one of ours that the 95th
# percentile of their latency does not see it.
BUSY_SHARE = 0.04
# How long after the last interactive request others count as there.
QUIET_SECONDS = 5.0
POLL_SECONDS = 0.2
SMOOTHING = 0.3

# How many interactive requests there were, and whether one is being worked on now; None where nobody knows.
Look = Callable[[], "tuple[int, bool] | None"]


class Throttle:
    """Sizes the worker's requests and the pauses between them. Thread-safe.

    look: what the server says of other requests. It is asked at most five times a second.
    """

    def __init__(
        self,
        look: Look,
        clock: Callable[[], float] = monotonic,
        wait: Callable[[float], object] = sleep,
    ) -> None:
        self._look = look
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._rate = 0.0
        self._seconds = 0.0
        self._seen: int | None = None
        self._looked_at = float("-inf")
        self._busy_until = float("-inf")
        self.paused_seconds = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether others use the server."""
        return self._clock() < self._busy_until

    def budget(self) -> int:
        """Tokens of the next request: what the server does in REQUEST_SECONDS, one passage while it is busy."""
        if self.is_busy or not self._rate:
            return LEAST_TOKENS
        return int(min(max(self._rate * REQUEST_SECONDS, LEAST_TOKENS), MOST_TOKENS))

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn to send one request. While others use the server only one caller at a time has it.

        Blocks for as long as others use the server, at most 1 / BUSY_SHARE times the last request.
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
        until = began + self._seconds * (1 / BUSY_SHARE - 1)
        while self.is_busy and (left := until - self._clock()) > 0:
            self._wait(min(left, POLL_SECONDS))
            self._watch()
        self.paused_seconds += self._clock() - began

    def _watch(self) -> None:
        with self._lock:
            now = self._clock()
            if now - self._looked_at < POLL_SECONDS:
                return
            self._looked_at = now
        seen = self._look()
        if seen is None:
            return
        count, is_running = seen
        with self._lock:
            # A server that was started again counts from 0.
            is_new = self._seen is not None and count > self._seen
            self._seen = count
            if is_new or is_running:
                self._busy_until = self._clock() + QUIET_SECONDS
