"""Places what a build made: a folder appears whole or not at all, and the one of before stays until then.

A build writes into a folder on the same file system as its destination, and two renames swap it with the one
of before. What a crash leaves behind is cleared, or put back, by the next build.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trireme.errors import InvalidInputError, UnavailableError
from trireme.locks import hold_lock

VERSION = "1"
STAGED, REPLACED = ".tmp-", ".old-"


@contextlib.contextmanager
def stage_version(model_dir: Path, bytes_needed: int) -> Iterator[Path]:
    """A folder to write a version into; placed as <model>/1 when the block ends without an error.

    Holds the model's lock meanwhile. Raises UnavailableError when another build runs or the disk has
    fewer than `bytes_needed` free or fills up; then the folder is gone and the old version stays.
    """
    target, replaced = model_dir / VERSION, model_dir / f"{REPLACED}{VERSION}"
    with _made_folder(model_dir), lock_model(model_dir):
        _restore(replaced, target)
        for path in model_dir.glob(f"{STAGED}*"):
            shutil.rmtree(path)
        stage = Path(tempfile.mkdtemp(prefix=STAGED, dir=model_dir))
        stage.chmod(0o755)
        with _swapped(stage, target, replaced, bytes_needed):
            yield stage


@contextlib.contextmanager
def stage_folder(out: Path, bytes_needed: int) -> Iterator[Path]:
    """As stage_version for any folder `out`: written beside it, as .NAME.tmp, which is the lock too."""
    out.parent.mkdir(parents=True, exist_ok=True)
    stage, replaced = out.with_name(f".{out.name}.tmp"), out.with_name(f".{out.name}.old")
    stage.mkdir(exist_ok=True)
    with hold_lock(stage, f"another run writes {stage}; wait for it to end", is_folder=True):
        _restore(replaced, out)
        for path in stage.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with _swapped(stage, out, replaced, bytes_needed):
            yield stage


def check_place(out: Path, manifest_name: str) -> None:
    """Raises InvalidInputError when `out` is something that no earlier run of ours has made."""
    if out.exists() and not (out / manifest_name).is_file():
        raise InvalidInputError(f"{out} is there and holds no {manifest_name}; name another folder")


def lock_model(model_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps builds and tuners out of a model's folder. Raises UnavailableError when one is in there already."""
    refusal = f"another build of {model_dir}, or its tuner, is running; wait for it to end"
    return hold_lock(model_dir / ".lock", refusal)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


@contextlib.contextmanager
def _swapped(stage: Path, target: Path, replaced: Path, bytes_needed: int) -> Iterator[None]:
    """Swaps `stage` with `target` when the block ends without an error; it is gone in any case."""
    full = UnavailableError(
        f"the disk of {target.parent} is full: the build needs about {bytes_needed:,} bytes; free some and try"
        " again"
    )
    try:
        if shutil.disk_usage(target.parent).free < bytes_needed:
            raise full
        yield
        _swap(stage, target, replaced)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise full from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _swap(stage: Path, target: Path, replaced: Path) -> None:
    """Renames `stage` to `target`, whose folder of before waits as `replaced` meanwhile; all synced to disk.

    Raises OSError; then the folder of before is back in its place.
    """
    for path in [*stage.rglob("*"), stage]:
        sync(path)
    if target.exists():
        target.rename(replaced)
    try:
        stage.rename(target)
    except OSError:
        if replaced.exists():
            replaced.rename(target)
        raise
    sync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _restore(replaced: Path, target: Path) -> None:
    """Puts back what a crashed build had only moved aside; removes it where the new folder is in place."""
    if not replaced.exists():
        return
    if target.exists():
        shutil.rmtree(replaced)
    else:
        replaced.rename(target)
