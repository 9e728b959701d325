"""A `trireme worker` as a child process: started, started again when it ends, and ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

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
        if self.is_running():
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _start(self) -> None:
        self._due = None
        self._started = monotonic()
        with self._log_file.open("ab") as log:
            # A session of its own: Ctrl-C reaches only us, and we end what we started in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trireme.cli", "worker", "--parent", str(os.getpid())],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
