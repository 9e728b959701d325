"""How much work comes for a route, by priority: a load that the upstream cannot carry need not wait to be seen."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from trireme.access.priorities import PRIORITIES, Priority

# A window is forgotten in so many parts.
_PARTS = 12


class Offered:
    """Requests of the last `seconds`, refused ones among them. For one event loop; its memory is bounded."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """seconds: of the window."""
        self._seconds, self._clock = seconds, clock
        # Number of a part, and the requests of each priority in it.
        self._parts: deque[tuple[int, dict[Priority, int]]] = deque()
        self._sums: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)

    def note(self, priority: Priority) -> None:
        """One came."""
        self._forget()
        number = self._number()
        if not self._parts or self._parts[-1][0] != number:
            self._parts.append((number, dict.fromkeys(PRIORITIES, 0)))
        self._parts[-1][1][priority] += 1
        self._sums[priority] += 1

    def rate(self, priority: Priority) -> float:
        """Requests a second of this priority and of higher ones."""
        self._forget()
        of_it = PRIORITIES[PRIORITIES.index(priority) :]
        return sum(self._sums[one] for one in of_it) / self._seconds

    def rate_above(self, priority: Priority) -> float:
        """Requests a second of higher priorities alone."""
        self._forget()
        above = PRIORITIES[PRIORITIES.index(priority) + 1 :]
        return sum(self._sums[one] for one in above) / self._seconds

    def _forget(self) -> None:
        oldest = self._number() - _PARTS
        while self._parts and self._parts[0][0] <= oldest:
            for priority, count in self._parts.popleft()[1].items():
                self._sums[priority] -= count

    def _number(self) -> int:
        return int(self._clock() * _PARTS / self._seconds)
