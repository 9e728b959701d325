"""When a store is left alone: it is away, or has been late several times in a row."""

from __future__ import annotations

import time
from collections.abc import Callable

REST_SECONDS = 1.0
# One that is late may be busy for once: all that were to be found meanwhile would be misses.
MOST_LATE = 3


class Rest:
    """For one event loop."""

    def __init__(
        self,
        seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        most_late: int = MOST_LATE,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._most_late = most_late
        self._late = 0
        self._until = float("-inf")

    def is_on(self) -> bool:
        """Whether nobody asks the store now."""
        return self._clock() < self._until

    def note_answer(self) -> None:
        """It answered in time."""
        self._late = 0

    def note_failure(self, error: Exception) -> None:
        """It did not: a TimeoutError where it was late; anything else, it is away."""
        self._late += 1
        if not isinstance(error, TimeoutError) or self._late >= self._most_late:
            self._late = 0
            self._until = self._clock() + self._seconds
