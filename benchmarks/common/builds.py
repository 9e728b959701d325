"""Models built from recipes of a benchmark's own, by our build script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.common.report import PROJECT
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, write_recipe
from trireme.errors import UnavailableError


def build(recipe: Recipe, repository: Path) -> Path:
    """The model's folder, built unless the same is there. Blocks for minutes.

    Raises UnavailableError with the script's last words, for instance without the build extra.
    """
    folder = repository / recipe.model
    folder.mkdir(parents=True, exist_ok=True)
    write_recipe(folder / RECIPE_FILE, recipe)
    command = [sys.executable, str(PROJECT / "build" / "export_encoder.py")]
    command += ["--recipe", str(folder / RECIPE_FILE), "--repository", str(repository)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"cannot build {recipe.model}: {done.stderr.strip()[-300:]}")
    return folder
