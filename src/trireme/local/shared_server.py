"""What the embedded servers share: one start at a time, whose process it is, and waiting."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trireme.errors import UnavailableError
from trireme.locks import try_lock

LOOK_SECONDS = 0.05


def wait_until(condition: Callable[[], bool], deadline: float, every: float = LOOK_SECONDS) -> bool:
    """Blocks until the condition holds; False where it does not by `deadline` (of time.monotonic)."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every)
    return True


@contextmanager
def hold_start_lock(home: Path, server: str, seconds: float) -> Iterator[None]:
    """One process at a time starts or stops the server of `home`. Raises UnavailableError after `seconds`."""
    with (home / "start.lock").open("ab") as lock:
        if not wait_until(lambda: try_lock(lock), time.monotonic() + seconds):
            raise UnavailableError(f"another process is still starting {server} in {home}; try again")
        yield


def is_server_of(pid: int, folder: Path) -> bool:
    """Whether process `pid` was started with `folder` in its command line, as the server of that folder is."""
    try:
        if Path("/proc/self/cmdline").exists():
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
        else:
            arguments = subprocess.check_output(["/bin/ps", "-o", "command=", "-p", str(pid)])
    except (OSError, subprocess.CalledProcessError):
        return False
    return os.fsencode(folder) in arguments
