"""The line in front of a route: so many calls run, a bounded number waits in the order of arrival, nobody else."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from trireme.errors import DeadlineError, OverloadedError

# Of a new service time in the mean of all.
_WEIGHT = 0.125
LATE = "the request's deadline passed before it could be started; nothing was asked"


class Place:
    """One call that runs. `leave` it once, however it ended."""

    __slots__ = ("_left", "_line", "began")

    def __init__(self, line: Line | None, began: float) -> None:
        """line: None for a route without one."""
        self._line = line
        self._left = False
        self.began = began

    def leave(self, *, is_whole: bool = True) -> None:
        """Let the next one in. is_whole: whether the call took as long as such calls take. Idempotent."""
        if not self._left:
            self._left = True
            if self._line is not None:
                self._line._end(self, is_whole=is_whole)


class Line:
    """For one event loop. A cancelled waiter is as if it had not come."""

    def __init__(self, running: int, waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._places, self._most = running, waiting
        self._clock = clock
        self._waiting: deque[tuple[asyncio.Future[float], float | None]] = deque()
        self._running = 0
        # The sum of the moments at which those that run began.
        self._begun = 0.0
        self._mean: float | None = None

    @property
    def waiting(self) -> int:
        """Calls in line."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Calls that run."""
        return self._running

    @property
    def free(self) -> int:
        """Calls that would begin at once."""
        return 0 if self._waiting else max(0, self._places - self._running)

    def load(self, rate: float) -> float:
        """Places that so many calls a second fill, as a share of those there are; 0 before one has ended."""
        return rate * (self._mean or 0.0) / self._places

    @property
    def service_seconds(self) -> float:
        """How long a call takes: the recent mean, or the mean age of those that run where that is more.

        The age tells of an upstream that stands still, and of the first calls, of which none has ended.
        """
        age = self._clock() - self._begun / self._running if self._running else 0.0
        return max(age, self._mean or 0.0)

    @property
    def backlog(self) -> float:
        """Seconds until all that wait now have begun."""
        return self.waiting * self.service_seconds / self._places

    async def enter(self, deadline: float | None = None) -> Place:
        """A place, once it is this call's turn. deadline: of the clock.

        Raises OverloadedError where the line is full, DeadlineError once the deadline has passed: then the call
        must not be made.
        """
        self._check(deadline)
        if self._running >= self._places or self._waiting:
            if self.waiting >= self._most:
                raise OverloadedError(
                    f"{self._running} calls of this model run and {self._most} wait, its limit; try again",
                    max(1.0, self.backlog),
                )
            return Place(self, await self._wait(deadline))
        return Place(self, self._begin())

    async def _wait(self, deadline: float | None) -> float:
        """When its turn came."""
        called: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        mine = called, deadline
        self._waiting.append(mine)
        left = None if deadline is None else deadline - self._clock()
        try:
            async with asyncio.timeout(left):
                return await mine[0]
        except BaseException as error:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif mine[0].done() and not mine[0].cancelled() and mine[0].exception() is None:
                # It was called at the same moment.
                Place(self, mine[0].result()).leave(is_whole=False)
            if isinstance(error, TimeoutError):
                raise DeadlineError(LATE) from None
            raise

    def _check(self, deadline: float | None) -> None:
        if deadline is not None and self._clock() >= deadline:
            raise DeadlineError(LATE)

    def _begin(self) -> float:
        began = self._clock()
        self._running += 1
        self._begun += began
        return began

    def _end(self, place: Place, *, is_whole: bool) -> None:
        self._running -= 1
        self._begun -= place.began
        if not self._running:
            # Sums of moments lose digits.
            self._begun = 0.0
        if is_whole:
            seconds = self._clock() - place.began
            self._mean = seconds if self._mean is None else self._mean + _WEIGHT * (seconds - self._mean)
        self._call_next()

    def _call_next(self) -> None:
        while self._waiting and self._running < self._places:
            called, deadline = self._waiting.popleft()
            if called.done():
                continue
            if deadline is not None and self._clock() >= deadline:
                called.set_exception(DeadlineError(LATE))
            else:
                called.set_result(self._begin())
