"""What a build is made of, as hashes and versions, and whether a placed version is of the same."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trireme.artifacts.manifest import Manifest, hash_file, read_manifest, verify_files
from trireme.errors import ArtifactError


def read_tools(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages by name; "not installed" for one that is absent."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def hash_folder(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """sha256, in hex, of every file below `folder` with one of `suffixes`, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())
    return {str(path.relative_to(folder)): hash_file(path) for path in files}


def find_same(version_dir: Path, digest: str) -> Manifest | None:
    """The placed manifest when it is of the same inputs and its files are whole, else None."""
    try:
        manifest = read_manifest(version_dir)
        if manifest.inputs_digest != digest:
            return None
        verify_files(version_dir, manifest)
    except ArtifactError:
        return None
    return manifest
