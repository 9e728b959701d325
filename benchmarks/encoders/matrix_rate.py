"""How fast this machine multiplies large matrices, in fp32, bf16 and int8, through the best library at hand.

Run on its own it prints JSON: 10^12 operations per second of each; a multiplication with its addition is two.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

# Rows, inner size and columns. oneDNN's int8 is fastest where the inner size still fits the second-level cache.
SHAPES = ((2048, 2048, 2048), (4096, 1536, 1536))
# A format that the processor lacks is emulated at a thousandth of a TFLOP/s: one product of SHAPES takes 15 s then.
# What would need longer than this for one is said by what a small product does.
SMALL = (512, 512, 512)
MOST_SECONDS = 5.0


def measure_rate(run: Callable[[], object], operations: float, seconds: float) -> float:
    """10^12 operations per second over `seconds`, one call at the least, the first left out."""
    run()
    started, calls = time.perf_counter(), 0
    while not calls or time.perf_counter() - started < seconds:
        run()
        calls += 1
    return calls * operations / (time.perf_counter() - started) / 1e12


def measure_rates(seconds: float, threads: int) -> dict[str, float]:
    """The best of SHAPES by torch, which hands fp32 to MKL or oneDNN and bf16 and int8 to oneDNN. Blocks."""
    import torch

    torch.set_num_threads(threads)
    best = {name: measure_rate(run, _operations(SMALL), 0.05) for name, run in _products(SMALL).items()}
    for shape in SHAPES:
        operations = _operations(shape)
        for name, run in _products(shape).items():
            if operations <= MOST_SECONDS * best[name] * 1e12:
                best[name] = max(best[name], measure_rate(run, operations, seconds))
    return {name: max(best[one] for one in best if one.startswith(name)) for name in ("fp32", "bf16", "int8")}


def _operations(shape: tuple[int, int, int]) -> float:
    rows, inner, columns = shape
    return 2.0 * rows * inner * columns


def _products(shape: tuple[int, int, int]) -> dict[str, Callable[[], object]]:
    """One multiplication by each library at hand; a name begins with its format."""
    import torch
    from torch.utils import mkldnn

    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(size, generator=generator) for size in ((rows, inner), (inner, columns)))
    halves = a.bfloat16(), b.bfloat16()
    small = [torch.randint(-127, 127, t.shape, generator=generator, dtype=torch.int8) for t in (a, b)]
    packed, dense = mkldnn.to_mkldnn(torch.nn.Linear(inner, columns, bias=False)), a.to_mkldnn()
    runs: dict[str, Callable[[], object]] = {
        "fp32": lambda: a @ b,
        "fp32, packed": lambda: packed(dense),
        "bf16": lambda: halves[0] @ halves[1],
        "int8": lambda: torch._int_mm(*small),
    }
    return {name: _without_gradients(run) for name, run in runs.items()}


def _without_gradients(run: Callable[[], object]) -> Callable[[], object]:
    def act() -> object:
        import torch

        with torch.inference_mode():
            return run()

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measurement")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help=f"default: all {cores}")
    given = parser.parse_args()
    print(json.dumps(measure_rates(given.seconds, given.threads)))


if __name__ == "__main__":
    main()
