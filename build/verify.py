"""Checks the files of every built model against its manifest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.artifacts.manifest import read_manifest, verify_files
from trireme.artifacts.repository import is_built, list_recipes, version_dir
from trireme.errors import ArtifactError, TriremeError


def main() -> int:
    """Returns the exit code: 1 when a model's files are missing or not those of its manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    repository: Path = parser.parse_args().repository
    broken = 0
    for recipe in list_recipes(repository):
        if not recipe.has_weights:
            continue
        if not is_built(repository, recipe):
            print(f"{recipe.model}: not built")
            continue
        folder = version_dir(repository, recipe.model)
        try:
            verify_files(folder, read_manifest(folder))
            print(f"{recipe.model}: whole")
        except ArtifactError as error:
            broken += 1
            print(f"error: {recipe.model}: {error}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
