"""Files on disk: walking a folder and opening what is in it, without following it anywhere else."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trireme.errors import DocumentError

READ_BYTES = 1 << 20

Stamp = tuple[int, int, int]


@contextmanager
def open_regular(file: Path, root: Path) -> Iterator[BinaryIO]:
    """The bytes of a regular file below `root` (resolved). Never blocks on a pipe or a device.

    Raises DocumentError for anything else, for a link that leads out of `root`, and for what the system says
    no to, also while the file is read.
    """
    try:
        real = _resolve(file)
        if not real.is_relative_to(root):
            raise DocumentError(
                "it is a link that leads out of the folder; ingest the place that it leads to"
            )
        if not stat.S_ISREG(real.lstat().st_mode):
            raise DocumentError("it is not a regular file")
        # Between the look and the opening a pipe may take its place: that must not block either.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as opened:  # noqa: PTH123 - a descriptor, not a path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DocumentError("it is not a regular file")
            yield opened
    except OSError as error:
        raise DocumentError(f"it cannot be read: {error.strerror or error}") from None


def _resolve(file: Path) -> Path:
    try:
        return file.resolve(strict=True)
    except RuntimeError:
        # What Python before 3.13 says to a loop of links.
        raise DocumentError("it is a link that leads back to itself") from None


def stamp(opened: BinaryIO) -> Stamp:
    """Changes when the open file is written to: inode, size in bytes, time of the last write."""
    found = os.fstat(opened.fileno())
    return found.st_ino, found.st_size, found.st_mtime_ns


def digest_of(opened: BinaryIO, fingerprint: bytes) -> str:
    """sha256 (hex) of `fingerprint` and the rest of the file, read in blocks."""
    digest = hashlib.sha256(fingerprint)
    while block := opened.read(READ_BYTES):
        digest.update(block)
    return digest.hexdigest()


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Files below `folder` in sorted order, without hidden ones, each with "" or the reason it cannot be used.

    Folders that cannot be listed, and links to folders outside, come with their reason too.
    """
    root = folder.resolve()
    failed: list[tuple[Path, str]] = []

    def note(error: OSError) -> None:
        failed.append((Path(error.filename), f"it cannot be read: {error.strerror}"))

    for below, folders, files in os.walk(folder, onerror=note):
        yield from failed
        failed.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if _leads_out(Path(below, name), root):
                yield Path(below, name), "it is a link that leads out of the folder; ingest it by itself"
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(below, name), ""
    yield from failed


def _leads_out(folder: Path, root: Path) -> bool:
    # A link to a folder inside is not followed either: what it leads to is walked by itself.
    try:
        return folder.is_symlink() and not folder.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return True
