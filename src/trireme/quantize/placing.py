"""Places a checkpoint's folder: it appears whole or not at all, and the one of before stays until then.

The new folder is written beside its place, as .NAME.tmp, and renamed. The folder itself is the lock; what a
crash leaves behind is cleared, or put back, by the next run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trireme.artifacts.placing import check_space, disk_full, swap_folder
from trireme.errors import InvalidInputError, UnavailableError


@contextlib.contextmanager
def stage_folder(out: Path, bytes_needed: int) -> Iterator[Path]:
    """An empty folder to write into; renamed to `out` when the block ends without an error.

    Raises UnavailableError when another run writes the same `out` or the disk has fewer than `bytes_needed`
    free or fills up; then the folder is gone and the old one stays.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    stage, replaced = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    with _lock(stage):
        try:
            _clear(stage, replaced, out)
            check_space(out.parent, bytes_needed)
            yield stage
            swap_folder(stage, out, replaced)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_full(out.parent, bytes_needed) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def check_place(out: Path, manifest_name: str) -> None:
    """Raises InvalidInputError when `out` is something that no earlier run of ours has made."""
    if out.exists() and not (out / manifest_name).is_file():
        raise InvalidInputError(f"{out} is there and holds no {manifest_name}; name another folder")


@contextlib.contextmanager
def _lock(stage: Path) -> Iterator[None]:
    stage.mkdir(exist_ok=True)
    descriptor = os.open(stage, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UnavailableError(f"another run writes {stage}; wait for it to end") from None
    else:
        yield
    finally:
        os.close(descriptor)


def _clear(stage: Path, replaced: Path, out: Path) -> None:
    if replaced.exists():
        if out.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(out)
    for path in stage.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
