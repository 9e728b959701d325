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
