"""A `trireme worker` as a child process: started, started again when it ends, and ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

from trireme.triton.process import end_process, start_process

STOP_SECONDS = 15.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LONG_LIFE_SECONDS = 10.0


class WorkerProcess:
    """One worker. `environ` has its settings; what it says goes to `log_file`."""

    def __init__(self, environ: Mapping[str, str], log_file: Path) -> None:
        """Starts it and returns at once."""
        self._environ = dict(environ)
        self._log_file = log_file
        self._pause = FIRST_PAUSE_SECONDS
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
            gave_up = self._process.returncode >= 0 and monotonic() - self._started < LONG_LIFE_SECONDS
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS) if gave_up else FIRST_PAUSE_SECONDS
            self._due = monotonic() + self._pause
            notice(f"The worker ended; starting it again. Its log is {self._log_file}.")
        if monotonic() >= self._due:
            self._start()

    def stop(self) -> None:
        """Ends it; blocks until it is gone. What it holds goes back to the queue. Safe to call twice."""
        end_process(self._process, STOP_SECONDS)

    def _start(self) -> None:
        self._due = None
        self._started = monotonic()
        command = [sys.executable, "-m", "trireme.cli", "worker", "--parent", str(os.getpid())]
        self._process = start_process(command, self._environ, self._log_file)
