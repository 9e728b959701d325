"""Folders for files that are on their way: for this user alone, and removed in any case."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trireme.errors import UnavailableError

PREFIX = "trireme-uploads-"


class UploadFolders:
    """A folder for each upload, below one of this process. What a killed process left behind is removed, too."""

    def __init__(self, parent: Path | None = None) -> None:
        """parent: where they lie; None is the system's folder for temporary files. Makes nothing yet."""
        self._parent = Path(tempfile.gettempdir()) if parent is None else parent
        self._root: Path | None = None
        self._lock = -1

    @contextmanager
    def open(self) -> Iterator[Path]:
        """A new empty folder of mode 0700, removed with all that is in it at the end. Raises UnavailableError."""
        try:
            folder = Path(tempfile.mkdtemp(dir=self._open_root()))
        except OSError as error:
            raise UnavailableError(f"the gateway has no room for uploads: {error.strerror}") from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove everything. Idempotent; a later `open` makes a new place."""
        root, self._root = self._root, None
        if root is not None:
            shutil.rmtree(root, ignore_errors=True)
            os.close(self._lock)

    def _open_root(self) -> Path:
        if self._root is None or not self._root.is_dir():
            self._root = None
            self._sweep()
            root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
            # Held until this process ends, however it does: others know by it whose folder is nobody's.
            self._lock = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._root = root
        return self._root

    def _sweep(self) -> None:
        for left in self._parent.glob(f"{PREFIX}*"):
            # Another user's, one that is in use, or one that somebody else removes at this moment.
            with contextlib.suppress(OSError):
                descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.fstat(descriptor).st_uid == os.geteuid():
                        shutil.rmtree(left, ignore_errors=True)
                finally:
                    os.close(descriptor)
