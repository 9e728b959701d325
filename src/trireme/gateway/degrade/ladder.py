"""Which steps are taken: up at once, down one by one after a calm time, so that none flaps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """A step, and the seconds of waiting work from which it is taken.

    is_light: with the steps before it the route writes no more, so that the backlog of LLMs no longer counts.
    """

    name: str
    seconds: float
    is_light: bool = False


class Ladder:
    """The steps of one route, in order. For one event loop."""

    def __init__(
        self,
        rungs: Sequence[Rung],
        calm_share: float,
        calm_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """calm_share, calm_seconds: the last step is taken back after so long below that share of its seconds."""
        self._rungs = tuple(rungs)
        self._calm_share, self._calm_seconds = calm_share, calm_seconds
        self._clock = clock
        self._calm_since: float | None = None
        # How many steps are taken.
        self.level = 0

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps that are taken."""
        return tuple(rung.name for rung in self._rungs[: self.level])

    @property
    def all_steps(self) -> tuple[str, ...]:
        """Names of all steps."""
        return tuple(rung.name for rung in self._rungs)

    @property
    def is_at_end(self) -> bool:
        """Whether no step is left to take."""
        return self.level == len(self._rungs)

    def look(self, backlog: float, light: float, *, is_loaded: bool = False) -> tuple[str, ...]:
        """Take or take back what the seconds of waiting work ask for; returns `steps`. light: without the LLMs'.

        is_loaded: more comes than is answered, and little waits since others are refused: no step is taken back.
        """
        before = self.level
        while self.level < len(self._rungs) and self._seconds(self.level, backlog, light) >= (
            self._rungs[self.level].seconds
        ):
            self.level += 1
        if self.level > before or not self.level or is_loaded or not self._is_calm(backlog, light):
            self._calm_since = None
            return self.steps
        now = self._clock()
        if self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self._calm_seconds:
            self.level -= 1
            self._calm_since = now
        return self.steps

    def _is_calm(self, backlog: float, light: float) -> bool:
        last = self.level - 1
        return self._seconds(last, backlog, light) < self._rungs[last].seconds * self._calm_share

    def _seconds(self, place: int, backlog: float, light: float) -> float:
        return light if self._rungs[place].is_light else backlog
