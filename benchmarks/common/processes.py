"""Processes: one that answers in JSON, the end of one with all it started, processor time and memory from /proc."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from trireme.errors import UnavailableError

T = TypeVar("T")


def make_flags(**values: object) -> list[str]:
    """A command line's options: `http_port=1` as --http-port 1."""
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


class JsonProcess:
    """A process that reads a job a line on stdin and answers with a line on stdout, both JSON."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], cwd: Path
    ) -> None:
        """Starts it in a session of its own and returns at once. Its stderr goes to `log`."""
        self.name = name
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environ,
                cwd=cwd,
                start_new_session=True,
            )

    def ask(self, job: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Its answer to one job. Raises UnavailableError where it ends, is late or answers with an error."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise UnavailableError(f"{self.name} ended: {error}") from error
        return self.read(f"to {job.get('do', 'a job')} ", timeout_s)

    def read(self, what: str, timeout_s: float) -> dict[str, Any]:
        """The next line that it writes. Raises UnavailableError as `ask` does."""
        assert self._process.stdout is not None
        # Every job has one line for an answer, so none is buffered.
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise UnavailableError(f"{self.name} gave no answer {what}within {timeout_s:.0f} s, or ended")
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise UnavailableError(reply["error"])
        return reply

    def is_running(self) -> bool:
        return self._process.returncode is None and self._process.poll() is None

    def stop(self) -> None:
        """Ends it and all that it started. Safe to call twice."""
        end_session(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            # What was left unsent to an ended process is lost with it.
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


def end_session(process: subprocess.Popen[Any], patience_s: float = 10.0) -> None:
    """Ends a process that leads a session, and its group, also where only that is left. Blocks until it is gone."""
    for number in (signal.SIGCONT, signal.SIGTERM):
        signal_group(process, number)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[Any], number: int) -> None:
    """Sends a signal to a process that leads a session and to its group; one that is gone hears nothing."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def wait_for_page(url: str, process: subprocess.Popen[Any], seconds: float) -> bool:
    """Until its server answers there. Blocks; False when the process has ended or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        if has_page(url):
            return True
        time.sleep(0.1)
    return False


def has_page(url: str) -> bool:
    """Whether a server answers there, within two seconds, with a page that is no error."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _read_all(processes: Iterable[psutil.Process], read: Callable[[psutil.Process], T]) -> list[T]:
    """What `read` says of each process; one that ended meanwhile is left out."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            found.append(read(process))
    return found


def list_family(family: int) -> list[psutil.Process]:
    """Process `family` and all below it."""
    first = psutil.Process(family)
    return [first, *first.children(recursive=True)]


def _read_own_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def read_session_time(session: int) -> float:
    """Processor seconds so far of every live process of `session`: a server and its stubs."""

    def read(process: psutil.Process) -> float:
        return _read_own_time(process) if os.getsid(process.pid) == session else 0.0

    return sum(_read_all(psutil.process_iter(), read))


def find_session(port: int) -> int:
    """The session of a process of this machine that listens on a TCP port; 0 where none does."""
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr.port == port and one.pid:
            with contextlib.suppress(ProcessLookupError):
                return os.getsid(one.pid)
    return 0


def read_session_waits(session: int) -> tuple[float, float]:
    """Seconds so far that threads of `session` ran, and that they were ready to and waited for a processor."""
    ran = waited = 0.0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError, ValueError):
            if os.getsid(process.pid) != session:
                continue
            for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                one, other, _ = file.read_text().split()
                ran, waited = ran + int(one) / 1e9, waited + int(other) / 1e9
    return ran, waited


def read_family_time(family: int) -> float:
    """Processor seconds so far of process `family` and all below it, those that ended included."""

    def read(process: psutil.Process) -> float:
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)

    return sum(_read_all(list_family(family), read))


def read_others_time(family: int) -> float:
    """Seconds so far that the machine was busy for others than process `family` and all below it.

    What a hypervisor took away counts too. Only differences mean something: they tell whether a run was alone.
    """
    ours, seen = read_family_time(family), psutil.cpu_times()
    return float(seen.user + seen.nice + seen.system + seen.irq + seen.softirq + seen.steal - ours)


def read_named_times(prefix: str = "") -> dict[str, float]:
    """Processor seconds so far, by name and id, of processes whose name begins with `prefix`.

    "clients" holds those of this process's children which have ended.
    """
    ended = os.times()
    named = _read_all(psutil.process_iter(), lambda one: (one.name(), one.pid, _read_own_time(one)))
    found = {f"{name}:{pid}": seconds for name, pid, seconds in named if name.startswith(prefix)}
    return {"clients": ended.children_user + ended.children_system, **found}


def read_status(pid: int, *fields: str) -> dict[str, int]:
    """Bytes that /proc/PID/status names, such as RssAnon; those that it does not have are left out.

    Raises OSError for a process that is gone.
    """
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    lines = (line.partition(":")[::2] for line in text.splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in lines if name in fields}


def read_shared_memory(name: str) -> float:
    """MiB of all processes of that name, pages that they share counted once."""

    def read(process: psutil.Process) -> float:
        return process.memory_full_info().pss / 2**20 if process.name() == name else 0.0

    return sum(_read_all(psutil.process_iter(), read))
