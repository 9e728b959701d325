"""What rounding to 4 bits changes in weights that had 4 bits before, beside random weights of the same shapes.

A checkpoint made of GGUF Q4_1 holds, in groups of 32, sixteen evenly spaced values. Rounding to nearest by itself,
no calibration. `error` is that of the weights over the layers asked for, |W - Q(W)| / |W|. `common` is the part of
it that the weights of a group share: 1 for one shift of all, 1 / sqrt(group) for independent errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.common.script import make_parser, run_script
from trireme.checkpoints.tensors import TensorFiles
from trireme.errors import InvalidInputError

Array = npt.NDArray[np.float32]
GROUPS = (32, 64, 128)
SEED = 1
# Dettmers et al. 2023, QLoRA: the sixteen values of NF4, as bitsandbytes has them.
NF4 = np.array(
    [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ],
    np.float32,
)


def round_float_minimum(weights: Array) -> Array:
    """Each row [rows, group] to sixteen values from its least to its largest; as GGUF's Q4_1 stores them."""
    least = weights.min(1, keepdims=True)
    scale = np.maximum(weights.max(1, keepdims=True) - least, 1e-8) / 15
    rounded: Array = np.round((weights - least) / scale) * scale + least
    return rounded


def round_asymmetric(weights: Array) -> Array:
    """Each row to sixteen values from about its least to its largest, one of them 0; as AWQ stores them."""
    most, least = weights.max(1, keepdims=True), weights.min(1, keepdims=True)
    scale = np.maximum(most - least, 1e-5) / 15
    zero = np.clip(-np.round(least / scale), 0, 15)
    rounded: Array = (np.clip(np.round(weights / scale) + zero, 0, 15) - zero) * scale
    return rounded


def round_symmetric(weights: Array) -> Array:
    """Each row to -8 .. 7 times a scale; as GPTQ stores them by default."""
    scale = np.maximum(np.abs(weights).max(1, keepdims=True) * 2 / 15, 1e-8)
    rounded: Array = np.clip(np.round(weights / scale), -8, 7) * scale
    return rounded


def round_nf4(weights: Array) -> Array:
    """Each row to the nearest of NF4's values times its largest weight."""
    widest = np.maximum(np.abs(weights).max(1, keepdims=True), 1e-8)
    edges = (NF4[1:] + NF4[:-1]) / 2
    rounded: Array = NF4[np.searchsorted(edges, weights / widest)] * widest
    return rounded


# Name -> group and how to round.
WAYS: dict[str, tuple[int, Callable[[Array], Array]]] = {
    "minimum kept in float, g32": (32, round_float_minimum),
    **{f"asymmetric, g{group}": (group, round_asymmetric) for group in GROUPS},
    **{f"symmetric, g{group}": (group, round_symmetric) for group in GROUPS},
    "NF4, blocks of 64": (64, round_nf4),
}


def find_error(matrices: Sequence[Array], way: str) -> dict[str, float] | None:
    """`error` and `common` of all matrices [outputs, inputs]; None where the group does not divide their inputs."""
    group, rounding = WAYS[way]
    if any(matrix.shape[1] % group for matrix in matrices):
        return None
    lost = whole = shifted = 0.0
    for matrix in matrices:
        rows = matrix.reshape(-1, group)
        change = (rows - rounding(rows)).astype(np.float64)
        lost += float(np.square(change).sum())
        shifted += group * float(np.square(change.mean(1)).sum())
        whole += float(np.square(rows, dtype=np.float64).sum())
    return {
        "error": round((lost / whole) ** 0.5, 5),
        "common": round((shifted / lost) ** 0.5 if lost else 0.0, 4),
    }


def count_values(matrices: Sequence[Array], group: int) -> float:
    """The mean number of different values in a group; 16 and fewer tell a 4-bit grid."""
    counts = [
        (np.diff(np.sort(matrix.reshape(-1, group), axis=1), axis=1) != 0).sum(1) + 1 for matrix in matrices
    ]
    return float(np.concatenate(counts).mean())


def read_matrices(folder: Path, layers: Sequence[int]) -> list[Array]:
    """The projections of these decoder layers. Raises InvalidInputError where there are none."""
    files = TensorFiles(folder)
    wanted = [f".layers.{layer}." for layer in layers]
    names = [
        name
        for name in sorted(files.entries)
        if name.endswith("_proj.weight") and any(mark in name for mark in wanted)
    ]
    if not names:
        raise InvalidInputError(f"{folder} has no projections in layers {' '.join(map(str, layers))}")
    return [files.read(name).astype(np.float32) for name in names]


def make_random(matrices: Sequence[Array]) -> list[Array]:
    """Normal weights of the same shapes and spreads, rounded to bfloat16 as a checkpoint's are."""
    made = np.random.default_rng(SEED)
    drawn = [made.standard_normal(one.shape, np.float32) * one.std() for one in matrices]
    # To the nearest by adding half of what is cut.
    return [((one.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32) for one in drawn]


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Prints one JSON object a checkpoint."""
    for folder in options.models:
        real = read_matrices(folder, options.layers)
        drawn = make_random(real)
        errors = {
            way: {"checkpoint": find_error(real, way), "normal": find_error(drawn, way)} for way in WAYS
        }
        values = {"checkpoint": round(count_values(real, 32), 2), "normal": round(count_values(drawn, 32), 2)}
        found = {"model": folder.name, "layers": options.layers, "values_in_32": values, "errors": errors}
        print(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="checkpoint folders")
    parser.add_argument("--layers", type=int, nargs="+", default=[0], help="decoder layers (default 0)")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
