"""Writes tuned settings into a model repository: every file of every model, or none.

New contents are staged beside the models first. Then a plan is placed that names them, with hashes of what is
there before and after: that rename is the moment from which the change counts. A run that is killed before it
has changed nothing; one that is killed behind it, between two renames, is completed by `recover`, which the
tuner calls when it starts. What lies between is served as it is: each file by itself is whole, config.pbtxt
decides what the server does, and recipe.toml, which comes first, what the next build writes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trireme.artifacts.config_writer import config_files
from trireme.artifacts.manifest import MANIFEST_FILE, format_manifest, read_manifest
from trireme.artifacts.placing import lock_model, sync
from trireme.artifacts.recipe import RECIPE_FILE, parse_recipe
from trireme.artifacts.recipe_edit import edit_recipe
from trireme.artifacts.repository import version_dir
from trireme.artifacts.tuning import Tuning
from trireme.errors import UnavailableError

FOLDER, PLAN = ".tuning", "plan.json"
CHANGED = "changed while it was tuned; nothing was written, run the tuner again"


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file, named from the repository on: its content now, None for no file, and the wanted one."""

    name: str
    before: bytes | None
    after: bytes

    @property
    def model(self) -> str:
        """The folder it is in."""
        return Path(self.name).parts[0]


def plan_changes(repository: Path, model: str, values: Mapping[str, int], tuning: Tuning) -> list[FileChange]:
    """The files of `model` that differ once its recipe says `values` and its manifest `tuning`. Writes nothing.

    Raises SettingError for a recipe that cannot be edited, ArtifactError without a manifest.
    """
    folder = repository / model
    recipe = folder / RECIPE_FILE
    text = recipe.read_bytes().decode()
    edited = edit_recipe(text, model, values)
    version = version_dir(repository, model)
    manifest = format_manifest(replace(read_manifest(version), tuning=tuning))
    wanted = {
        RECIPE_FILE: edited.encode(),
        **config_files(parse_recipe(edited, model)),
        f"{version.name}/{MANIFEST_FILE}": manifest.encode(),
    }
    found = [FileChange(f"{model}/{name}", _read(folder / name), after) for name, after in wanted.items()]
    return [change for change in found if change.before != change.after]


def place_changes(repository: Path, changes: Sequence[FileChange]) -> None:
    """Makes all of `changes`, or raises UnavailableError and leaves every file as it was.

    Holds the models' locks; a signal waits until it is done. Blocks for milliseconds.
    """
    if not changes:
        return
    models = sorted({change.model for change in changes})
    plan = repository / models[0] / FOLDER / PLAN
    with _signals_wait(), _lock_all(repository, models):
        for change in changes:
            if _read(repository / change.name) != change.before:
                raise UnavailableError(f"{repository / change.name} was {CHANGED}")
        if plan.exists():
            raise UnavailableError(f"{plan} tells of an unfinished run; run the tuner again to complete it")
        try:
            _stage(repository, changes, plan)
        except OSError as error:
            _clear(repository, models)
            raise UnavailableError(f"cannot write into {repository}: {error}; nothing was changed") from error
        try:
            _apply(repository, changes)
        except OSError as error:
            _undo(repository, changes, plan)
            raise UnavailableError(f"cannot write into {repository}: {error}; nothing was changed") from error
        # The change is whole; a plan that cannot be removed is found done by the next run.
        with suppress(OSError):
            _remove(plan)
            _clear(repository, models)


def recover(repository: Path) -> list[str]:
    """Completes what a killed run had decided on, removes what it had only staged. One sentence for each.

    A file that was changed since by someone else stays as it is, and the rest of that run is dropped.
    """
    notices = []
    for plan in sorted(repository.glob(f"[!.]*/{FOLDER}/{PLAN}")):
        changes = _read_plan(plan)
        models = sorted({Path(name).parts[0] for name, _, _ in changes} | {plan.parents[1].name})
        with _signals_wait(), _lock_all(repository, models):
            notices.append(_complete(repository, changes))
            _remove(plan)
            _clear(repository, models)
    for folder in sorted(repository.glob(f"[!.]*/{FOLDER}")):
        with _lock_all(repository, [folder.parent.name]):
            _clear(repository, [folder.parent.name])
    return notices


def _complete(repository: Path, changes: Sequence[tuple[str, str, str]]) -> str:
    """Renames what is still staged where nobody touched the target since."""
    pending = []
    for name, before, after in changes:
        found = _hash(_read(repository / name))
        if found == after:
            continue
        if found != before or _hash(_read(_staged(repository, name))) != after:
            return (
                f"{name} was changed since the last run of the tuner was ended: the rest of that run is"
                " dropped; check with: python build/write_configs.py --check"
            )
        pending.append(name)
    for name in pending:
        _replace(_staged(repository, name), repository / name)
    names = ", ".join(name for name, _, _ in changes)
    return f"the last run of the tuner was ended while it wrote; completed: {names}"


def _stage(repository: Path, changes: Sequence[FileChange], plan: Path) -> None:
    for change in changes:
        staged = _staged(repository, change.name)
        staged.parent.mkdir(exist_ok=True)
        _write(staged, change.after)
        if change.before is not None:
            shutil.copymode(repository / change.name, staged)
    lines = [[change.name, _hash(change.before), _hash(change.after)] for change in changes]
    _write(plan.with_suffix(".new"), json.dumps(lines, indent=1).encode())
    _replace(plan.with_suffix(".new"), plan)


def _apply(repository: Path, changes: Sequence[FileChange]) -> None:
    for change in changes:
        (repository / change.name).parent.mkdir(exist_ok=True)
        _replace(_staged(repository, change.name), repository / change.name)


def _undo(repository: Path, changes: Sequence[FileChange], plan: Path) -> None:
    """Puts back what was there. Where that fails too the plan stays, for the next run to complete."""
    try:
        for change in changes:
            target, staged = repository / change.name, _staged(repository, change.name)
            if _read(target) == change.after and change.before is None:
                _remove(target)
            elif _read(target) == change.after and change.before is not None:
                _write(staged, change.before)
                shutil.copymode(target, staged)
                _replace(staged, target)
        _remove(plan)
    except OSError as error:
        raise UnavailableError(
            f"{repository} is changed by half ({error}); make it writable, then run the tuner again"
        ) from error
    _clear(repository, sorted({change.model for change in changes}))


def _read_plan(plan: Path) -> list[tuple[str, str, str]]:
    """(name, hash before, hash after) of each file; empty for a plan that nobody of ours wrote."""
    try:
        lines: Any = json.loads(plan.read_bytes())
        changes = [(str(name), str(before), str(after)) for name, before, after in lines]
    except (OSError, ValueError, TypeError):
        return []
    return (
        [] if any(".." in Path(name).parts or Path(name).is_absolute() for name, _, _ in changes) else changes
    )


def _staged(repository: Path, name: str) -> Path:
    model, *rest = Path(name).parts
    return repository / model / FOLDER / "_".join(rest)


def _clear(repository: Path, models: Sequence[str]) -> None:
    for model in models:
        folder = repository / model / FOLDER
        if folder.is_dir():
            for path in folder.iterdir():
                _remove(path)
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def _lock_all(repository: Path, models: Sequence[str]) -> Iterator[None]:
    with ExitStack() as locks:
        for model in models:
            locks.enter_context(lock_model(repository / model))
        yield


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Ctrl-C and SIGTERM arrive when the block has ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _hash(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    sync(path)


def _replace(source: Path, target: Path) -> None:
    source.replace(target)
    sync(target.parent)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
