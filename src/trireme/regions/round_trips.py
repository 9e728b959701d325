"""What is known of the way to one region: the median of its round trips, or that it does not answer. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median

# Answers without which a median says nothing.
LEAST_ANSWERS = 3


class RoundTrips:
    """The last `window` probes of a region. After `misses` unanswered ones in a row it is silent.

    What was known of a silent region is forgotten.
    """

    def __init__(self, window: int, misses: int) -> None:
        self._answers: deque[float | None] = deque(maxlen=window)
        self._most = misses
        self._misses = 0
        self._least = min(LEAST_ANSWERS, window)

    def hear(self, seconds: float | None) -> None:
        """Takes one probe's round trip; None: it was not answered."""
        self._misses = self._misses + 1 if seconds is None else 0
        if self.is_silent:
            # The way may be another one when it is back.
            self._answers.clear()
        else:
            self._answers.append(seconds)

    @property
    def is_silent(self) -> bool:
        """Whether so many probes in a row had no answer."""
        return self._misses >= self._most

    @property
    def has_answered(self) -> bool:
        """Whether it answers: some probe did, and it is not silent."""
        return any(one is not None for one in self._answers)

    @property
    def median(self) -> float | None:
        """Seconds; None while too few of the probes were answered."""
        known = [one for one in self._answers if one is not None]
        return median(known) if len(known) >= self._least else None
