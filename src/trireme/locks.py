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
def hold_lock(path: Path, refusal: str, *, is_folder: bool = False) -> Iterator[None]:
    """Holds the lock of the file `path`, which is made where it is missing, or of a folder that is there.

    Raises UnavailableError with the text `refusal` while another holds it.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_WRONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        if not try_lock(descriptor):
            raise UnavailableError(refusal)
        yield
    finally:
        os.close(descriptor)
