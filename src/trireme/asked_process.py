"""A child process that answers HTTP, and is started again also when it does not."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from trireme.child_process import DEFAULT_TIMING, ChildProcess, RestartTiming
from trireme.errors import UnavailableError

MOST_MISSES = 3


@dataclass(frozen=True, slots=True)
class HealthTiming:
    """Seconds.

    every: between two questions. answer: that one may take. start: until the first answer; a process that has not
    answered by then counts as silent. leftover: how long the port may stay taken by one whose supervisor was
    killed, and which ends by itself.
    """

    every: float = 10.0
    answer: float = 10.0
    start: float = 120.0
    leftover: float = 15.0


DEFAULT_HEALTH = HealthTiming()


class AskedProcess(ChildProcess):
    """One process that serves HTTP at `address`. MOST_MISSES unanswered questions in a row: it is ended."""

    def __init__(
        self,
        command: str,
        environ: Mapping[str, str],
        log_file: Path,
        *,
        address: str,
        path: str,
        timing: RestartTiming = DEFAULT_TIMING,
        health: HealthTiming = DEFAULT_HEALTH,
        clock: Callable[[], float] = monotonic,
        words: Sequence[str] = (),
        title: str = "",
    ) -> None:
        """Starts it and returns at once. address: host:port. path: what is asked for."""
        self._address = address
        self._path = path
        self._health = health
        self._answered = self._misses = 0
        super().__init__(command, environ, log_file, timing, clock, words=words, title=title)
        self._closed = threading.Event()
        threading.Thread(target=self._keep_asking, name=f"{command} health", daemon=True).start()

    def wait_until_ready(self) -> None:
        """Blocks until it answers. Raises UnavailableError with its own reason where it ends before, or is slow."""
        deadline = monotonic() + self._health.start
        while not self.answers(1.0):
            if not self.is_running():
                raise UnavailableError(f"{self.title} stopped while starting: {self._last_words()}")
            if monotonic() > deadline:
                raise UnavailableError(f"{self.title} did not answer within {self._health.start:.0f} s")
            time.sleep(0.05)
        self._answered = self.pid

    def answers(self, seconds: float) -> bool:
        """Whether it says within so many seconds that it lives, in whatever words."""
        return self.status(seconds) != 0

    def status(self, seconds: float) -> int:
        """The HTTP status of its answer within so many seconds; 0 where none came."""
        try:
            with closing(http.client.HTTPConnection(self._address, timeout=seconds)) as connection:
                connection.request("GET", self._path)
                return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0

    def ask(self) -> None:
        """Asks once, as a thread does now and then, and counts what is not answered."""
        pid = self.pid
        if self.answers(self._health.answer):
            self._answered, self._misses = pid, 0
        elif pid == self.pid and (pid == self._answered or self.age > self._health.start):
            self._misses += 1

    def look_after(self, notice: Callable[[str], None]) -> None:
        """As ChildProcess.look_after; one that hangs is ended first."""
        if self._misses >= MOST_MISSES and self.is_running():
            notice(f"{self._subject} has not answered {self._misses} times in a row.")
            self._misses = 0
            self.kill()
        super().look_after(notice)

    def stop(self) -> None:
        """As ChildProcess.stop; asks no more."""
        self._closed.set()
        super().stop()

    def _start(self) -> None:
        self._misses = 0
        super()._start()

    def _keep_asking(self) -> None:
        while not self._closed.wait(self._health.every):
            self.ask()

    def _last_words(self) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()
        telling = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
        return f"{telling[-1] if telling else 'it said nothing'} (log: {self._log_file})"
