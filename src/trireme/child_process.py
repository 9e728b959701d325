"""A command of ours as a child process: started, started again when it ends or hangs, and ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from trireme.triton.process import end_process, start_process


@dataclass(frozen=True, slots=True)
class RestartTiming:
    """Seconds.

    pause: before a child that was killed is started again; twice as long each time that one gave up, at most
    `longest_pause`. long_life: one that lived so long has not given up. stop: for a child to end by itself.
    """

    pause: float = 0.5
    longest_pause: float = 30.0
    long_life: float = 10.0
    stop: float = 15.0


DEFAULT_TIMING = RestartTiming()


class ChildProcess:
    """One `trireme COMMAND` at a time. `environ` has its settings; what it says goes to `log_file`.

    The command takes --parent and ends when this process is gone. words: its options. title: what people call it.
    """

    def __init__(
        self,
        command: str,
        environ: Mapping[str, str],
        log_file: Path,
        timing: RestartTiming = DEFAULT_TIMING,
        clock: Callable[[], float] = monotonic,
        *,
        words: Sequence[str] = (),
        title: str = "",
    ) -> None:
        """Starts it and returns at once."""
        self._command = command
        self._words = tuple(words)
        self.title = title or f"the {command}"
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
        """Process id of the child, or of the last one."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since the child, or the last one, was started."""
        return self._clock() - self._started

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
            gave_up = self._process.returncode >= 0 and self.age < self._timing.long_life
            self._pause = min(self._pause * 2, self._timing.longest_pause) if gave_up else self._timing.pause
            self._due = self._clock() + self._pause
            notice(f"{self._subject} ended; starting it again. Its log is {self._log_file}.")
        if self._clock() >= self._due:
            self._start()

    def kill(self) -> None:
        """Ends it at once; `look_after` starts it again."""
        self._process.kill()

    def restart(self) -> None:
        """Ends it and starts it again; blocks until the old one is gone. Not while `look_after` runs."""
        end_process(self._process, self._timing.stop)
        self._start()

    def stop(self) -> None:
        """Ends it; blocks until it is gone. Safe to call twice."""
        end_process(self._process, self._timing.stop)

    @property
    def _subject(self) -> str:
        """Its title, as a sentence begins."""
        return self.title[:1].upper() + self.title[1:]

    def _command_line(self) -> list[str]:
        own = ["--parent", str(os.getpid())]
        return [sys.executable, "-m", "trireme.cli", self._command, *self._words, *own]

    def _start(self) -> None:
        self._due = None
        self._started = self._clock()
        self._process = start_process(self._command_line(), self._environ, self._log_file)
