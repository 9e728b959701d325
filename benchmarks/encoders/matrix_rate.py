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


def measure_rate(run: Callable[[], object], operations: float, seconds: float) -> float:
    """10^12 operations per second, the first call left out."""
    run()
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        run()
        calls += 1
    return calls * operations / (time.perf_counter() - started) / 1e12


def measure_rates(seconds: float, threads: int) -> dict[str, float]:
    """The best of SHAPES by torch, which hands fp32 to MKL or oneDNN and bf16 and int8 to oneDNN. Blocks."""
    import torch
    from torch.utils import mkldnn

    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(1)
    best = {"fp32": 0.0, "bf16": 0.0, "int8": 0.0}
    for rows, inner, columns in SHAPES:
        operations = 2.0 * rows * inner * columns
        a, b = (torch.randn(shape, generator=generator) for shape in ((rows, inner), (inner, columns)))
        layer = torch.nn.Linear(inner, columns, bias=False)
        halves = a.bfloat16(), b.bfloat16()
        small = [torch.randint(-127, 127, t.shape, generator=generator, dtype=torch.int8) for t in (a, b)]
        with torch.inference_mode():
            packed = mkldnn.to_mkldnn(layer)
            dense = a.to_mkldnn()
            found = {
                "fp32": max(
                    measure_rate(lambda a=a, b=b: a @ b, operations, seconds),
                    measure_rate(lambda f=packed, x=dense: f(x), operations, seconds),
                ),
                "bf16": measure_rate(lambda h=halves: h[0] @ h[1], operations, seconds),
                "int8": measure_rate(lambda s=small: torch._int_mm(*s), operations, seconds),
            }
        best = {name: max(best[name], found[name]) for name in best}
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each measurement")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help=f"default: all {cores}")
    given = parser.parse_args()
    print(json.dumps(measure_rates(given.seconds, given.threads)))


if __name__ == "__main__":
    main()
