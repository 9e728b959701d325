"""A `trireme worker` as a child process: started, started again when it ends, and ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from trireme.triton.process import end_process, start_process


@dataclass(frozen=True, slots=True)
class RestartTiming:
    """Seconds.

    pause: before a worker that was killed is started again; twice as long each time that one gave up, at most
    `longest_pause`. long_life: one that lived so long has not given up. stop: for a worker to end by itself.
    """

    pause: float = 0.5
    longest_pause: float = 30.0
    long_life: float = 10.0
    stop: float = 15.0


DEFAULT_TIMING = RestartTiming()


class WorkerProcess:
    """One worker. `environ` has its settings; what it says goes to `log_file`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        log_file: Path,
        timing: RestartTiming = DEFAULT_TIMING,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Starts it and returns at once."""
        self._timing = timing
        self._clock = clock
        self._environ = dict(environ)
        self._log_file = log_file
        self._pause = self._timing.pause
        self._due: float | None = None
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.write_bytes(b"")
        self._start()

    @property
    def pid(self) -> int:
        """Process id of the worker, or of the last one."""
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts it again if it ended: one that was killed at once, one that gave up later and later.

        Does not block.
        """
        if self.is_running():
            return
        if self._due is None:
            gave_up = self._process.returncode >= 0 and self._clock() - self._started < self._timing.long_life
            self._pause = min(self._pause * 2, self._timing.longest_pause) if gave_up else self._timing.pause
            self._due = self._clock() + self._pause
            notice(f"The worker ended; starting it again. Its log is {self._log_file}.")
        if self._clock() >= self._due:
            self._start()

    def stop(self) -> None:
        """Ends it; blocks until it is gone. What it holds goes back to the queue. Safe to call twice."""
        end_process(self._process, self._timing.stop)

    def _start(self) -> None:
        self._due = None
        self._started = self._clock()
        command = [sys.executable, "-m", "trireme.cli", "worker", "--parent", str(os.getpid())]
        self._process = start_process(command, self._environ, self._log_file)
