"""On the GPU machine: every 4- and 8-bit form of one checkpoint, its figures, size and speed, as one JSON object.

build/quantize_llm.py makes each row with the gate open, vLLM alone serves it (offline.py), one row after the other.
Group sizes are those that divide the model. What is printed, and written to --out, is a file as
benchmarks/results/*-quantization-gpu.json, of which docs/quantization.md is made. A row that fails has an `error`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.report import PROJECT, show_progress_note
from benchmarks.common.script import make_parser, run_script
from benchmarks.gpu.machine import QUIET, SOURCE
from benchmarks.quantization.run import METHODS, choose_rows, folder_of, quantize
from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.quantize.checkpoint import read_causal_lm
from trireme.quantize.manifest import QuantizationManifest

RESULT = "RESULT "
FIGURES = ("perplexity", "perplexity_original", "perplexity_ratio", "kl", "agreement")


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Makes, judges and measures every row. Blocks for minutes; prints the object last."""
    if not options.calibration.is_file() or not options.eval.is_file():
        raise InvalidInputError("--calibration and --eval must name two text files")
    rows, machine = [], "no row was measured"
    for name in choose_rows(read_causal_lm(options.model).linears, options.only):
        row, gpu = measure_row(options, name)
        machine = gpu or machine
        rows.append(row)
    found = {"machine": machine, "model": options.name or options.model.name, "rows": rows}
    text = json.dumps(found, indent=2) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text, end="")


def measure_row(options: argparse.Namespace, name: str) -> tuple[dict[str, Any], str]:
    """One row, and the GPU's name; an empty name and an `error` in the row when something failed."""
    method, bits, flags = METHODS[name]
    row: dict[str, Any] = {"method": method, "bits": bits, "group_size": int(flags[-1]) if flags else 0}
    try:
        row |= describe(quantize(options, name))
        show_progress_note(f"measuring: {name}")
        speed = measure_speed(options, folder_of(options.work, name))
    except TriremeError as error:
        return {**row, "error": str(error)}, ""
    row["output_tokens_per_second"] = speed["output_tokens_per_s"]
    row["single_stream_tokens_per_second"] = speed["single_stream_tokens_per_s"]
    versions = ", ".join(f"{library} {version}" for library, version in speed["versions"].items())
    return row, f"{speed['gpu']} through vLLM alone ({versions})"


def describe(manifest: QuantizationManifest) -> dict[str, Any]:
    """What the row says of the checkpoint: figures, sizes, seconds to quantize."""
    weights = sum(size for name, size in manifest.sizes.items() if name.endswith(".safetensors"))
    figures = {name: manifest.figures[name] for name in FIGURES}
    return {"figures": figures, "weights_gib": weights / 2**30, "seconds": manifest.seconds}


def measure_speed(options: argparse.Namespace, folder: Path) -> Mapping[str, Any]:
    """What offline.py measures of the checkpoint in an interpreter that has vLLM. Raises UnavailableError."""
    command = [str(options.vllm), "-m", "benchmarks.gpu.offline", "--model", str(folder.resolve())]
    command += ["--streams", str(options.streams), "--gpu-memory-utilization", str(options.memory_share)]
    command += ["--kv-cache-gib", str(options.kv_cache_gib), "--dtype", options.dtype]
    paths = [*map(str, options.site), str(SOURCE), os.environ.get("PYTHONPATH", "")]
    environ = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    log = folder.with_name(folder.name + "-speed.log")
    try:
        done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"cannot run {options.vllm}: {error.strerror}; name it with --vllm") from None
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    return read_result(done.stdout, log)


def read_result(said: str, log: Path) -> Mapping[str, Any]:
    """The last line RESULT {json} of what offline.py said. Raises UnavailableError naming the log without one."""
    found = [line for line in said.splitlines() if line.startswith(RESULT)]
    if not found:
        raise UnavailableError(f"vLLM gave no result; what it said is in {log.name}")
    result: Mapping[str, Any] = json.loads(found[-1].removeprefix(RESULT))
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("model", type=Path, help="a float checkpoint's folder")
    add("--calibration", type=Path, required=True, help="a text file")
    add("--eval", type=Path, required=True, help="another text file")
    add("--work", type=Path, required=True, help="a folder for checkpoints and logs")
    add("--only", nargs="*", default=(), help="methods to measure; default: all")
    add("--samples", type=int, default=64, help="windows to calibrate on (default 64)")
    add("--eval-tokens", type=int, default=16_384, help="default 16384")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="where to quantize (default cuda)")
    add("--quantizer", type=Path, default=PROJECT / ".venv-quantize" / "bin" / "python")
    add("--vllm", type=Path, default=Path(sys.executable), help="the interpreter that has vLLM")
    add("--site", nargs="*", default=(), help="folders put before that interpreter's path")
    add("--streams", type=int, default=64, help="sequences at once (default 64)")
    add("--kv-cache-gib", type=float, default=5.0)
    add("--memory-share", type=float, default=0.9, help="vLLM's gpu_memory_utilization (default 0.9)")
    add(
        "--dtype",
        default="auto",
        help="vLLM's: auto, float16 or bfloat16; its plain AWQ kernel wants float16",
    )
    add("--name", help="what the results call the model; default: its folder's name")
    add("--out", type=Path, help="also written here")
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
