"""Builds the models of the repository that are not built yet; each from its recipe.toml."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import Recipe
from trireme.artifacts.repository import list_recipes
from trireme.errors import TriremeError
from trireme.export.pipeline import build_model
from trireme.export.progress import build_with_progress
from trireme.export_llm.pipeline import build_llm

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Builds every model with weights whose adapter, if it has one, is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--cache", type=Path, default=Path(".trireme/sources"), help="downloaded checkpoints")
    parser.add_argument("--force", action="store_true", help="build again what is already there")
    given = parser.parse_args()
    options = BuildOptions(given.repository, given.cache, PROJECT, force=given.force)
    for recipe in list_recipes(given.repository):
        if recipe.adapter and not (PROJECT / recipe.adapter).is_dir():
            print(f"{recipe.model}: skipped, {recipe.adapter} is not there")
        elif recipe.has_weights:
            build_one(recipe, options)


def build_one(recipe: Recipe, options: BuildOptions) -> None:
    """Builds one model behind a progress bar and prints what came out."""
    build = build_llm if recipe.traits.is_generator else build_model
    manifest, was_built = build_with_progress(recipe, options, build)
    state = "built" if was_built else "already built"
    engine = f" on {manifest.engine}" if recipe.traits.is_encoder else ""
    print(f"{recipe.model}: {state}, {manifest.precision}{engine}, {manifest.total_bytes:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
