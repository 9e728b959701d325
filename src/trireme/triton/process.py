"""Child processes in sessions of their own, with a log file: how they begin and how they end."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def start_process(
    command: Sequence[str], environ: Mapping[str, str], log_file: Path
) -> subprocess.Popen[bytes]:
    """Starts it with no input, and adds all its output to `log_file`. Returns at once.

    What it makes is this user's alone to read: shared memory and logs hold texts of requests.
    """
    with log_file.open("ab") as log:
        # A session of its own: Ctrl-C reaches only us, and we end what we started in order.
        return subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=0o077,
        )


def end_process(process: subprocess.Popen[bytes], seconds: float) -> None:
    """SIGTERM, and after so many seconds SIGKILL. Blocks until it is gone; does nothing where it is."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def has_ended(group: int) -> bool:
    """Whether nothing of a process group runs any more. Its files and ports are free only then, and not as soon as
    its leader is a zombie: threads and children may be ending still."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # Behind the name, which may hold anything: state, parent, group; the 18th is the number of threads.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and not (fields[0] in "ZX" and int(fields[17]) <= 1):
            return False
    return True
