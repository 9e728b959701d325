"""Calls what failed again, with growing pauses, until it works."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between two attempts: `first`, then twice as long each time, at most `longest`.

    The error of an attempt is raised when it was number `attempts`, or when the next one would begin more than
    `patience` seconds after the first.
    """

    first: float = 0.0
    longest: float = math.inf
    patience: float = math.inf
    attempts: float = math.inf


def retry(
    act: Callable[[], T],
    on: type[Exception],
    pauses: Pauses,
    wait: Callable[[float], object],
    notice: Callable[[Exception], object] = lambda _: None,
    *,
    clock: Callable[[], float] = monotonic,
) -> T:
    """What `act` returns, called again for as long as it raises `on`.

    wait: called with the seconds to wait before each further attempt; what it raises ends the attempts.
    notice: called with the error before each wait. Blocks; raises what `act` raises.
    """
    until, pause, failures = clock() + pauses.patience, pauses.first, 0
    while True:
        try:
            return act()
        except on as error:
            failures += 1
            if failures >= pauses.attempts or clock() + pause > until:
                raise
            notice(error)
        wait(pause)
        pause = min(2 * pause, pauses.longest)
