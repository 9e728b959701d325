"""Places a built version in the repository: it appears whole or not at all.

A build writes into <model>/.tmp-*, on the same file system as its destination, and two renames swap it
with the version of before. What a crash leaves behind is cleared, or put back, by the next build.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trireme.errors import UnavailableError

VERSION = "1"
STAGED, REPLACED = ".tmp-", ".old-"


@contextlib.contextmanager
def stage_version(model_dir: Path, bytes_needed: int) -> Iterator[Path]:
    """A folder to write a version into; placed as <model>/1 when the block ends without an error.

    Holds the model's lock meanwhile. Raises UnavailableError when another build runs or the disk has
    fewer than `bytes_needed` free or fills up; then the folder is gone and the old version stays.
    """
    with _made_folder(model_dir), lock_model(model_dir):
        clear_leftovers(model_dir)
        check_space(model_dir, bytes_needed)
        stage = Path(tempfile.mkdtemp(prefix=STAGED, dir=model_dir))
        try:
            yield stage
            stage.chmod(0o755)
            target = model_dir / VERSION
            swap_folder(stage, target, target.with_name(f"{REPLACED}{target.name}"))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise disk_full(model_dir, bytes_needed) from error
        finally:
            shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def _made_folder(model_dir: Path) -> Iterator[None]:
    """Makes the model's folder, and removes it again when it is new and the block fails."""
    is_new = not model_dir.exists()
    model_dir.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            shutil.rmtree(model_dir, ignore_errors=True)
        raise


def clear_leftovers(model_dir: Path) -> None:
    """Removes what a crashed build left, and puts a version back that it had only moved aside."""
    for path in model_dir.glob(f"{REPLACED}*"):
        target = model_dir / VERSION
        if target.exists():
            shutil.rmtree(path)
        else:
            path.rename(target)
    for path in model_dir.glob(f"{STAGED}*"):
        shutil.rmtree(path)


@contextlib.contextmanager
def lock_model(model_dir: Path) -> Iterator[None]:
    """Keeps builds and tuners out of a model's folder. Raises UnavailableError when one is in there already."""
    with (model_dir / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnavailableError(
                f"another build of {model_dir}, or its tuner, is running; wait for it to end"
            ) from None
        yield


def check_space(folder: Path, bytes_needed: int) -> None:
    """Raises UnavailableError when the disk of `folder`, which must exist, has fewer bytes free."""
    if shutil.disk_usage(folder).free < bytes_needed:
        raise disk_full(folder, bytes_needed)


def disk_full(folder: Path, bytes_needed: int) -> UnavailableError:
    """The error of a disk without room for a build."""
    return UnavailableError(
        f"the disk of {folder} is full: the build needs about {bytes_needed:,} bytes; free some and try again"
    )


def swap_folder(stage: Path, target: Path, replaced: Path) -> None:
    """Renames `stage` to `target`, whose folder of before waits as `replaced` meanwhile; all synced to disk.

    Raises OSError; then the folder of before is back in its place.
    """
    for path in [*stage.rglob("*"), stage]:
        _sync(path)
    if target.exists():
        target.rename(replaced)
    try:
        stage.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    _sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
