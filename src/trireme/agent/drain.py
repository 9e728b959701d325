"""Takes a replica out of its balancer, and waits until it has nothing left to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from trireme.agent.options import AgentOptions
from trireme.agent.replica import Replica


@dataclass(frozen=True, slots=True)
class DrainReport:
    """How a drain ended. is_empty: nothing was left, and balancers had the time to see it. waited: seconds.

    was_draining: an earlier call or signal had begun it. pending, waiting, running: what was left; see triton.load.
    """

    is_empty: bool
    waited: float
    was_draining: bool
    pending: int = 0
    waiting: int = 0
    running: int = 0


class Drain:
    """The one drain of one agent; many may wait for it. For one event loop."""

    def __init__(
        self,
        replica: Replica,
        options: AgentOptions,
        on_mark: Callable[[], None],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """on_mark: called once, when the replica is marked."""
        self._replica = replica
        self._options = options
        self._on_mark = on_mark
        self._clock = clock

    def begin(self) -> bool:
        """Marks the replica; whether it was marked before. Does not block."""
        if self._replica.is_draining:
            return True
        self._replica.mark()
        self._on_mark()
        return False

    async def wait(self, seconds: float) -> DrainReport:
        """Begins, and waits at most so long until nothing is left. Cancelling it does not end the drain."""
        was_draining, started = self.begin(), self._clock()
        while not (is_empty := self._is_empty()) and self._clock() - started < seconds:
            await asyncio.sleep(min(self._options.poll, max(0.0, started + seconds - self._clock())))
        load = self._replica.load
        return DrainReport(
            is_empty=is_empty,
            waited=self._clock() - started,
            was_draining=was_draining,
            pending=load.pending if load else 0,
            waiting=load.waiting if load else 0,
            running=load.running if load else 0,
        )

    def _is_empty(self) -> bool:
        marked_at = self._replica.marked_at
        if marked_at is None or self._clock() - marked_at < self._options.hold:
            return False
        return self._replica.quiet_seconds() >= self._options.settle
