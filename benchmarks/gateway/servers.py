"""HTTP servers that a run starts on loopback and ends: their process, their port, what a client must send."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.common.processes import end_session, read_session_time, wait_for_page
from trireme.errors import UnavailableError

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs. pid: the leader of its session; 0 where its processor time is of no interest.

    is_varied: whether no two requests to it are equal.
    """

    name: str
    port: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    pid: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    is_varied: bool = False

    def read_cpu_s(self) -> float:
        """Processor seconds so far of the server and all in its session."""
        return read_session_time(self.pid) if self.pid else 0.0


@contextmanager
def run_process(
    folder: Path, command: Sequence[str], environ: Mapping[str, str], *, page: str, seconds: float
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in `folder`, which gets its log, once its `page` answers; `seconds`: to start.

    Raises UnavailableError with its last words; leaves nothing running.
    """
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environ,
            cwd=folder,
            start_new_session=True,
        )
    try:
        if not wait_for_page(page, process, seconds):
            lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise UnavailableError(f"it did not start: {(lines or ['no word'])[-1].strip()[:300]}")
        yield process
    finally:
        end_session(process)
