"""Quantizes a causal language model into a Hugging Face checkpoint that vLLM and transformers load as it is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trireme.errors import TriremeError
from trireme.quantize.cards import Load
from trireme.quantize.fitting import describe_fit
from trireme.quantize.pipeline import RunOptions, quantize_checkpoint
from trireme.quantize.recipe import DEVICES, GROUP_SIZES, METHODS, make_recipe
from trireme.quantize.report import format_manifest, show_run

PROJECT = Path(__file__).resolve().parent.parent
RECIPE_KEYS = (
    "source",
    "method",
    "revision",
    "bits",
    "group_size",
    "sym",
    "calibration",
    "eval",
    "samples",
    "sequence_length",
    "eval_tokens",
    "device",
    "seed",
    "max_perplexity_ratio",
    "max_kl",
    "min_agreement",
    "note",
)


def main() -> None:
    """Quantizes one checkpoint and prints its figures, or prints what fits where."""
    given = parse_arguments()
    keys = {key: getattr(given, key) for key in RECIPE_KEYS}
    if given.estimate:
        print(
            describe_fit(
                keys, given.recipe, given.cache, Load(given.context, given.sequences, given.overhead_gb)
            )
        )
        return
    recipe = make_recipe(keys, given.recipe)
    options = RunOptions(PROJECT / "defaults" / "calibration.txt", given.cache, given.log, given.force)
    with show_run() as watch:
        manifest, was_made = quantize_checkpoint(recipe, given.out, options, watch)
    print(format_manifest(given.out.name, manifest, was_made))


def parse_arguments() -> argparse.Namespace:
    """The command line; keys of the recipe that are not given are None."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", help="a checkpoint's folder, or its hub id (with --revision)")
    parser.add_argument(
        "out", nargs="?", type=Path, help="the folder to place; needs --force when it is there"
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="quantize nothing; print which cards hold SOURCE (without it: common sizes) and what a run takes",
    )
    parser.add_argument("--context", type=int, default=4096, help="tokens of a sequence, with --estimate")
    parser.add_argument("--sequences", type=int, default=8, help="sequences at once, with --estimate")
    parser.add_argument(
        "--overhead-gb", type=float, default=2.0, help="beside weights and KV cache, with --estimate"
    )
    parser.add_argument(
        "--recipe", type=Path, help="a TOML file with these options as keys; flags go over it"
    )
    parser.add_argument("--method", choices=tuple(METHODS), help="default: awq")
    parser.add_argument("--revision", help="the hub commit to take, 40 hexadecimal digits")
    parser.add_argument("--bits", type=int, help="4 or 8; default: the method's")
    parser.add_argument("--group-size", type=int, choices=GROUP_SIZES, help="default: 128")
    parser.add_argument("--sym", action=argparse.BooleanOptionalAction, help="gptq only; default: yes")
    parser.add_argument("--calibration", help="a text file; default: the built-in sample")
    parser.add_argument(
        "--eval", help="a text file; default: the held-out last quarter of the calibration text"
    )
    parser.add_argument(
        "--samples", type=int, help="windows to calibrate on; default: 16 for awq, up to 64 for gptq"
    )
    parser.add_argument("--sequence-length", type=int, help="tokens of one window; default: 512")
    parser.add_argument("--eval-tokens", type=int, help="tokens to judge on, at most; default: 16384")
    parser.add_argument("--device", choices=DEVICES, help="default: cpu")
    parser.add_argument("--seed", type=int, help="default: 1")
    parser.add_argument("--max-perplexity-ratio", type=float, help="threshold of the gate")
    parser.add_argument("--max-kl", type=float, help="threshold of the gate, nats per token")
    parser.add_argument("--min-agreement", type=float, help="threshold of the gate, 0 to 1")
    parser.add_argument("--note", help="a line for the manifest, such as the calibration text's licence")
    parser.add_argument("--cache", type=Path, default=Path(".trireme/sources"), help="downloaded checkpoints")
    parser.add_argument(
        "--log", type=Path, default=Path(".trireme/quantize.log"), help="the libraries' output"
    )
    parser.add_argument("--force", action="store_true", help="replace what an earlier run placed")
    given = parser.parse_args()
    if given.out is None and not given.estimate:
        # One path alone is OUT: the source stands in the recipe.
        if given.source is None:
            parser.error("the following arguments are required: out")
        given.source, given.out = None, Path(given.source)
    return given


if __name__ == "__main__":
    try:
        main()
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
