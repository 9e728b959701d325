"""What the search does, on stderr while it does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.status import Status

from trireme.tune.search import Trial
from trireme.tune.setting import Setting


class TerminalWatch:
    """A live line with the best so far in a terminal; elsewhere a line for each setting that has ended."""

    def __init__(self, console: Console, slo_p95_ms: float, seconds: float, status: Status | None) -> None:
        self._console, self._status = console, status
        self._slo, self._seconds, self._started = slo_p95_ms, seconds, time.monotonic()
        self._start: Setting | None = None
        self._best = "nothing measured yet"
        self._count = 0
        self._stage = ""

    def measuring(self, setting: Setting, concurrency: int, stage: str) -> None:
        """A run begins."""
        self._start = self._start or setting
        if self._status is not None:
            words = setting.describe(self._start)
            self._status.update(
                f"{self._clock()} {stage}: {words}, {concurrency} in flight. "
                f"{self._count} settings, best so far {self._best}"
            )
        elif stage not in (self._stage, "search"):
            self._console.print(f"{self._clock()} {stage}", highlight=False)
        self._stage = stage

    def tried(self, trial: Trial, best: Trial) -> None:
        """A setting has ended."""
        self._count += 1
        self._best = self._describe(best)
        if self._status is None:
            self._console.print(
                f"{self._clock()} {self._describe(trial)}, {trial.end}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    def _describe(self, trial: Trial) -> str:
        words = trial.setting.describe(self._start)
        point = trial.find_best(self._slo) or trial.find_nearest()
        if point is None:
            return f"{words}: {trial.reason}"
        figures = f"{point.requests_per_s:.1f}/s, p95 {point.p95_ms:.1f} ms, {point.concurrency} in flight"
        return f"{figures} ({words})"

    def _clock(self) -> str:
        passed = time.monotonic() - self._started
        return f"{_minutes(passed)} of {_minutes(self._seconds)}"


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def show_search(console: Console, slo_p95_ms: float, seconds: float) -> Iterator[TerminalWatch]:
    """A watch that shows what it hears on `console` while the block runs."""
    if not console.is_terminal:
        yield TerminalWatch(console, slo_p95_ms, seconds, None)
        return
    with console.status("Starting") as status:
        yield TerminalWatch(console, slo_p95_ms, seconds, status)
