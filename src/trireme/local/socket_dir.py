"""The private folder of a server's Unix socket: the same one from start to start where that is safe."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from trireme.local.account import Account

PREFIX = "trireme-db-"
# sun_path holds 108 bytes with its NUL; macOS has 104.
MAX_SOCKET_PATH = 103


def make_socket_dir(note: Path, account: Account | None) -> Path:
    """The folder that `note` names, so that clients find a restarted server again, or a new one, noted there."""
    owner = account.uid if account else os.getuid()
    if last := _read_note(note):
        with suppress(FileExistsError, FileNotFoundError):
            last.mkdir(mode=0o700)
            if account:
                os.chown(last, account.uid, account.gid)
        # Somebody else may have made the name his own meanwhile.
        found = last.lstat() if last.exists() else None
        if found and stat.S_ISDIR(found.st_mode) and found.st_uid == owner and not found.st_mode & 0o077:
            return last
    base = tempfile.gettempdir()
    if len(os.fsencode(base)) + len(f"/{PREFIX}12345678/.s.PGSQL.5432") > MAX_SOCKET_PATH:
        base = "/tmp"  # noqa: S108 - mkdtemp makes a private folder in it
    socket_dir = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    if account:
        os.chown(socket_dir, account.uid, account.gid)
    note.write_text(str(socket_dir))
    return socket_dir


def _read_note(note: Path) -> Path | None:
    try:
        path = Path(note.read_text())
    except OSError:
        return None
    return path if path.name.startswith(PREFIX) else None


def remove_socket_dir(socket_dir: Path | None) -> None:
    """Delete a folder of ours with its socket; any other path is left alone. Never raises."""
    if socket_dir and socket_dir.name.startswith(PREFIX):
        shutil.rmtree(socket_dir, ignore_errors=True)
