"""The shared memory through which tritonserver and its stubs exchange tensors, and what a killed one leaves."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SHM_DIR = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
# What the Python backend calls its files: triton_<backend>_backend_shm_region_<uuid>.
_PATTERN = "triton_*_backend_shm_region_*"


def remove_leftovers(folder: Path = SHM_DIR) -> list[str]:
    """Unlinks this user's files of stubs and servers that are gone; the names of those. Never raises.

    They hold texts of requests, and nobody else removes them.
    """
    files = [path for path in folder.glob(_PATTERN) if _is_ours(path)]
    if not files:
        return []
    used = _mapped(str(folder))
    gone = [path for path in files if str(path) not in used]
    for path in gone:
        path.unlink(missing_ok=True)
    return [path.name for path in gone]


def make_private(folder: Path = SHM_DIR) -> None:
    """Lets this user alone read the files through which this stub and the server talk. Never raises.

    Boost, which makes them, gives them 0644 whatever the umask. A backend calls it before its first request.
    """
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            _, found, path = line.partition(str(folder) + "/triton_")
            if found:
                Path(found + path).chmod(0o600)


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except OSError:
        return False


def _mapped(folder: str) -> set[str]:
    """Files below `folder` that a process of this user has mapped or open."""
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        # It may end meanwhile, or belong to somebody else.
        with suppress(OSError):
            # A server that starts maps a file and then closes it: looked at in this order, none is missed.
            for link in (process / "fd").iterdir():
                with suppress(OSError):
                    found.add(str(link.readlink()))
            for line in (process / "maps").read_text().splitlines():
                _, _, path = line.partition(folder)
                if path:
                    found.add(folder + path.removesuffix(" (deleted)"))
    return found
