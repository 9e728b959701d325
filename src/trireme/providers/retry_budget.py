"""How many calls may be repeated: a share of the traffic, so that an overloaded provider does not get it twice."""

from __future__ import annotations

from collections.abc import Callable

# Seconds until traffic counts half.
HALF_LIFE = 10.0


class RetryBudget:
    """At most `share` retries for each request of late, and `floor` more, so that a quiet gateway may retry too.

    Both counts halve every HALF_LIFE seconds. For one event loop.
    """

    def __init__(self, share: float, clock: Callable[[], float], floor: float = 3.0) -> None:
        self._share = share
        self._floor = floor
        self._clock = clock
        self._requests = 0.0
        self._retries = 0.0
        self._counted_at = clock()

    def count_request(self) -> None:
        """A request began."""
        self._decay()
        self._requests += 1.0

    def take_retry(self) -> bool:
        """Whether a call may be repeated now; if so, it counts."""
        self._decay()
        if self._retries + 1.0 > self._share * self._requests + self._floor:
            return False
        self._retries += 1.0
        return True

    def _decay(self) -> None:
        now = self._clock()
        kept = 0.5 ** ((now - self._counted_at) / HALF_LIFE)
        self._requests *= kept
        self._retries *= kept
        self._counted_at = now
