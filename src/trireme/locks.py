"""Locks of files and folders between processes; the system frees those of a process that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trireme.errors import UnavailableError


def try_lock(file: BinaryIO | int) -> bool:
    """Takes the lock of an open file, given as such or by its descriptor; False while another holds it.

    It is held until the file is closed. One that this file shares becomes its own.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share_lock(file: BinaryIO | int) -> None:
    """Takes the lock of an open file together with others that share it; blocks while one holds it alone."""
    fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def hold_lock(path: Path, refusal: str) -> Iterator[None]:
    """Holds the lock of `path` during the block: a folder's own, or a file's, which is made where it is missing.

    Raises UnavailableError with the text `refusal` while another holds it.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        if not try_lock(descriptor):
            raise UnavailableError(refusal)
        yield
    finally:
        os.close(descriptor)
