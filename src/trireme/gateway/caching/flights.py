"""Single flight: all who ask the same at once read one answer, as it comes.

An answer in the making belongs to no client: a task of its own reads it for as long as anybody wants it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Literal

from trireme.cache.port import Found
from trireme.errors import DeadlineError, ResourceExhaustedError, TriremeError
from trireme.providers.chat import Event, Usage
from trireme.providers.targets import OpenAnswer, Target

# waiting: for the leader's first content. shared: followers may read. found: another gateway's leader made it.
# alone: nobody but the leader may have this answer. failed: the leader has none. left: nobody wants it any more.
State = Literal["waiting", "shared", "found", "alone", "failed", "left"]
# Leaders whose providers failed, one after the other; then everybody asks for itself.
MOST_LEADERS = 3


class Flight:
    """One answer and its readers. For one event loop. `leaders`: how many had no answer before this one's.

    patience: seconds after which its leader's time breaks it off.
    """

    def __init__(self, leaders: int = 0, patience: float = math.inf) -> None:
        self.leaders = leaders
        self.patience = patience
        self.state: State = "waiting"
        self.found: Found | None = None
        self.target: Target | None = None
        self.step = ""
        self.degraded: tuple[str, ...] = ()
        self.events: list[Event] = []
        self.error: Exception | None = None
        self.is_whole = False
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None
        self._has_begun = False

    async def opened(self) -> State:
        """What became of the leader's asking. Cancelling it concerns nobody else."""
        await self._opened.wait()
        return self.state

    def close_as(self, state: State) -> None:
        """The leader has nothing to share; whoever waits goes on by itself."""
        self.state = state
        self._opened.set()

    def give(self, found: Found) -> None:
        """Another gateway has made the answer."""
        self.found = found
        self.close_as("found")

    def start(self, opened: OpenAnswer, at_end: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Read the leader's answer from now on. at_end: awaited when it is over, however it ended."""
        self.target, self.step, self.degraded = opened.served_by, opened.step, opened.degraded
        self._task = asyncio.create_task(self._read_all(opened, at_end))
        self.close_as("shared")
        return self._task

    async def read(self) -> AsyncGenerator[Event, None]:
        """All events from the first on, behind one that only starts this generator. Raises what broke it off."""
        self._readers += 1
        position = 0
        try:
            # Closing a generator that has not started runs none of it.
            yield Usage()
            while True:
                news = self._news
                while position < len(self.events):
                    position += 1
                    yield self.events[position - 1]
                if self.error is not None:
                    raise self.error
                if self.is_whole:
                    return
                if news is self._news:
                    await news.wait()
        finally:
            self._readers -= 1
            if not self._readers and not self.is_whole and self.error is None:
                self._leave()

    def _leave(self) -> None:
        """The last reader is gone: the call is cancelled, and who comes now begins another."""
        self.state = "left"
        # A task that is cancelled before its first step runs nothing, and the call would stay open.
        if self._task is not None and self._has_begun:
            self._task.cancel()

    async def _read_all(self, opened: OpenAnswer, at_end: Callable[[], Awaitable[None]]) -> None:
        self._has_begun = True
        try:
            async with aclosing(opened.events) as events:
                if self.state == "left":
                    raise asyncio.CancelledError
                async for event in events:
                    self.events.append(event)
                    self._tell()
            self.is_whole = True
        except Exception as error:
            self.error = error
        except asyncio.CancelledError:
            # Also where the gateway stops: readers must not wait for ever.
            self.error = TriremeError("the gateway stops")
        finally:
            self._tell()
            await at_end()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class Flights:
    """Those of this process, by the key of their question."""

    def __init__(self) -> None:
        self._flights: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def find(self, key: str) -> Flight | None:
        """The flight that a question of this key may join."""
        flight = self._flights.get(key)
        if flight is None or flight.state == "left" or flight.error is not None:
            return None
        return flight

    def begin(self, key: str, leaders: int = 0, patience: float = math.inf) -> Flight:
        """A new flight, in place of one that nobody may join, or that ends too soon for who comes now."""
        flight = self._flights[key] = Flight(leaders, patience)
        return flight

    def end(self, key: str, flight: Flight) -> None:
        """Nobody joins it from now on. Another one of its key stays."""
        if self._flights.get(key) is flight:
            del self._flights[key]


def leaders_after(flight: Flight, error: BaseException) -> int:
    """How many leaders have failed, this one too; not one that could not pay, had no time left, or whose client
    went away."""
    is_own = isinstance(
        error, ResourceExhaustedError | DeadlineError | asyncio.CancelledError | GeneratorExit
    )
    return flight.leaders + (0 if is_own else 1)
