"""What a build is made of, as hashes and versions."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trireme.artifacts.manifest import hash_file, hash_json


@dataclass(frozen=True, slots=True)
class Inputs:
    """What shapes a build's files: values of its recipe, hashes of what it `read`, versions of its tools."""

    recipe: Mapping[str, Any]
    read: Mapping[str, Any]
    tools: dict[str, str]

    @property
    def digest(self) -> str:
        """sha256, in hex; two builds of the same digest would make the same files."""
        return hash_json({"recipe": self.recipe, "tools": self.tools, **self.read})


def read_tools(names: Sequence[str]) -> dict[str, str]:
    """Versions of installed packages by name; "not installed" for one that is absent."""
    return {name: _read_version(name) for name in names}


def hash_folder(
    folder: Path, suffixes: Sequence[str] = (), pattern: str = "**/*", without: str = ""
) -> dict[str, str]:
    """sha256, in hex, of files in `folder` by their path in there: those that end in `suffixes` and fit `pattern`.

    No suffixes: all. `without` is the name of a file that is left out.
    """
    files = sorted(path for path in folder.glob(pattern) if path.is_file() and path.name != without)
    chosen = [path for path in files if not suffixes or path.name.endswith(tuple(suffixes))]
    return {str(path.relative_to(folder)): hash_file(path) for path in chosen}


def _read_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        # A package on the path without its metadata, such as a checkout, may still say it.
        return str(getattr(sys.modules.get(name), "__version__", "not installed"))
