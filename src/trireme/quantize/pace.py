"""How long the rest of a step takes, from the parts of it that are done."""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """One step of `total` parts (0: unknown), which begins when it is made. `clock` gives seconds.

    The first part holds what comes once, such as loading; its time counts only until a second one is done.
    """

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._clock, self.total, self.done = clock, total, 0
        self._began = self._first = self._last = clock()

    def advance(self) -> None:
        """One more part is done."""
        self._last = self._clock()
        self.done += 1
        if self.done == 1:
            self._first = self._last

    def seconds_left(self) -> float | None:
        """Seconds until the last part is done, at least 0; None before the first is, or where no total is known."""
        if not self.done or not self.total:
            return None
        whole, parts = self._last - self._first, self.done - 1
        each = whole / parts if parts else self._first - self._began
        left = each * max(self.total - self.done, 0)
        return max(left - (self._clock() - self._last), 0.0)
