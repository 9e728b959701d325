"""Run perf_analyzer on a served model and print what it measured."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from trireme.errors import TriremeError
from trireme.tune.perf_analyzer import PerfRun, measure, prepare_tool


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name of a served model")
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC endpoint, HOST:PORT")
    parser.add_argument("--input-data", type=Path, required=True, help="perf_analyzer's JSON of inputs")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1])
    parser.add_argument("--window-s", type=float, default=5.0, help="seconds per window")
    parser.add_argument("--shape", action="append", default=[], metavar="NAME:DIMS")
    parser.add_argument("--data-dir", type=Path, default=Path(".trireme"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_arguments(arguments)
    try:
        tool = prepare_tool(options.data_dir)
        for concurrency in options.concurrency:
            shapes = tuple(options.shape)
            run = PerfRun(
                options.model, options.url, concurrency, options.input_data, options.window_s, shapes
            )
            print(measure(tool, run))
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
