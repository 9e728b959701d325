"""What a link does with packets: holds each for the delay of its way, or loses it. No device is touched here."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass

# Of a link, both ways together; what comes while so many wait is lost, as in a router.
MOST_WAITING = 20_000
CUT = 100.0


@dataclass(frozen=True, slots=True)
class Path:
    """How a link is now, each way: milliseconds, and percent of packets lost.

    jitter_ms: a packet's delay is up to so much more or less. loss_percent 100: nothing passes, and what is under
    way is lost as well.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError for numbers that no link has."""
        if self.delay_ms < 0 or self.jitter_ms < 0 or not 0 <= self.loss_percent <= CUT:
            raise ValueError(f"a delay is at least 0 ms and a loss from 0 to 100 %, got {self}")


class DelayQueue:
    """Packets under way between two ends, 0 and 1. Times are seconds of a clock that never goes back."""

    def __init__(self, path: Path, seed: int = 0) -> None:
        self.carried = self.lost = 0
        self._path = path
        self._random = random.Random(seed)  # noqa: S311 - a simulation
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._last = [0.0, 0.0]
        self._count = 0

    @property
    def path(self) -> Path:
        """How the link is; a packet keeps the delay that it was sent with."""
        return self._path

    @path.setter
    def path(self, path: Path) -> None:
        self._path = path
        if path.loss_percent >= CUT:
            self.lost += len(self._waiting)
            self._waiting.clear()
            self._last = [0.0, 0.0]

    def put(self, packet: bytes, to: int, now: float) -> None:
        """Takes a packet for the end `to`; packets of one way keep their order, as on one path."""
        path = self._path
        if len(self._waiting) >= MOST_WAITING or 100 * self._random.random() < path.loss_percent:
            self.lost += 1
            return
        late_ms = max(0.0, path.delay_ms + path.jitter_ms * self._random.uniform(-1, 1))
        due = self._last[to] = max(self._last[to], now + late_ms / 1e3)
        self._count += 1
        heapq.heappush(self._waiting, (due, self._count, to, packet))

    def take(self, now: float) -> list[tuple[int, bytes]]:
        """The packets that have arrived by now, each with its end."""
        arrived = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(self._waiting)
            arrived.append((to, packet))
        self.carried += len(arrived)
        return arrived

    def next_due(self) -> float | None:
        """When the next packet arrives; None where none is under way."""
        return self._waiting[0][0] if self._waiting else None
