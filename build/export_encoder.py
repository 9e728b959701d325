"""Exports an embedding model, reranker or classifier for its engine and places it in the model repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe, write_recipe
from trireme.artifacts.recipe_arguments import add_recipe_arguments, given_values
from trireme.errors import InvalidInputError, TriremeError
from trireme.export.new_recipe import check_recipe_is_free, make_recipe
from trireme.export.progress import build_with_progress

PROJECT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Builds one model and prints its figures."""
    given = parse_arguments()
    options = BuildOptions(
        given.repository, given.cache, PROJECT, given.quality, given.quality_queries, given.force
    )
    recipe = find_recipe(given)
    manifest, was_built = build_with_progress(recipe, options)
    if given.recipe is None:
        write_recipe(given.repository / recipe.model / RECIPE_FILE, recipe)
    state = "built" if was_built else "already built from the same inputs (--force builds it again)"
    what = f"{manifest.kind}, {manifest.precision} on {manifest.engine}"
    print(f"{recipe.model}: {state}: {what}, {manifest.total_bytes:,} bytes")
    for name, value in manifest.figures.items():
        print(f"  {name} {value:.6f}")
    for dataset, figures in manifest.quality.items():
        print(f"  nDCG@10 on {dataset}: {figures['before']:.4f} before, {figures['after']:.4f} after")


def find_recipe(given: argparse.Namespace) -> Recipe:
    """The recipe of --recipe, or one made of the other arguments."""
    values = given_values(given, "export_encoder")
    if given.recipe is not None:
        if values or given.name:
            raise InvalidInputError(f"--recipe already says everything; drop {([*values] or ['name'])[0]}")
        return read_recipe(given.recipe)
    if not given.name or not (given.source or given.package):
        raise InvalidInputError("give SOURCE and --name, or --recipe")
    recipe = make_recipe(given.name, values, given.cache)
    check_recipe_is_free(recipe, given.repository)
    return recipe


def parse_arguments() -> argparse.Namespace:
    """The command line; keys of the recipe that are not given are None."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", help="the model's folder in the repository")
    parser.add_argument("--recipe", type=Path, help="a recipe.toml that says everything")
    add_recipe_arguments(parser, "export_encoder")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--cache", type=Path, default=Path(".trireme/sources"), help="downloaded checkpoints")
    parser.add_argument("--quality", type=Path, help="a BEIR folder: nDCG@10 before and after")
    parser.add_argument("--quality-queries", type=int, default=200, help="at most so many queries")
    parser.add_argument("--force", action="store_true", help="build again what is already there")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
