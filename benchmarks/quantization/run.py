"""Tables of all quantization methods: figures, size, time to quantize, speed on CPU and GPU.

The checkpoints are made by build/quantize_llm.py in .venv-quantize (make quantize-env), with the gate open, so that
a method that would not pass has its row too. The CPU's speed is that of the OpenVINO engine, called directly, where
the checkpoint can be exported for it. With --device cuda, on a machine with a GPU, it only quantizes and writes
benchmarks/results/quantization-cuda.json. page.py has the tables and where GPU speeds come from.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from benchmarks.common.report import (
    DOCS,
    PROJECT,
    RESULTS,
    read_circumstances,
    read_record,
    show_progress_note,
    write_json,
    write_section,
)
from benchmarks.common.script import make_parser, run_script
from benchmarks.generation.clients import DirectEngine
from benchmarks.quantization.page import (
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    ROUNDS,
    STREAMS,
    MethodRow,
    QuantizationReport,
    format_section,
    format_table,
    read_gpu,
)
from trireme.artifacts.recipe import RECIPE_FILE, read_recipe
from trireme.checkpoints.source import fetch_source
from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.quantize.cards import choose_group
from trireme.quantize.checkpoint import read_causal_lm
from trireme.quantize.manifest import QuantizationManifest, read_quantization

SEED = 1
# Name of the row -> method, bits and the flags that ask for it. A model has the rows of its widest group and of 32.
METHODS: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "none (bf16)": ("none", 16, ()),
    **{f"AWQ int4, g{group}": ("awq", 4, ("--group-size", str(group))) for group in (128, 64, 32)},
    **{f"GPTQ int4, g{group}": ("gptq", 4, ("--group-size", str(group))) for group in (128, 64, 32)},
    **{
        f"GPTQ int8, g{group}": ("gptq", 8, ("--bits", "8", "--group-size", str(group)))
        for group in (128, 64, 32)
    },
    "bitsandbytes NF4": ("bnb-nf4", 4, ()),
    "bitsandbytes int8": ("bnb-int8", 8, ()),
}
OPEN_GATE = ("--max-perplexity-ratio", "1000", "--max-kl", "1000", "--min-agreement", "0")
DEVICE_RESULTS = {"cpu": "quantization.json", "cuda": "quantization-cuda.json"}


def quantize_all(options: argparse.Namespace, names: Sequence[str]) -> dict[str, QuantizationManifest]:
    """Runs build/quantize_llm.py for each row that is not in the work folder yet. Blocks for minutes.

    Raises UnavailableError with the script's last words when it fails.
    """
    with ThreadPoolExecutor(options.jobs) as pool:
        manifests = pool.map(lambda name: quantize(options, name), names)
        return dict(zip(names, manifests, strict=True))


def find_model(options: argparse.Namespace) -> Path:
    """The checkpoint to quantize. Downloads and imports the default LLM where none is named and it is not there."""
    if options.model is not None:
        return Path(options.model)
    recipe = read_recipe(PROJECT / "model_repository" / "llm" / RECIPE_FILE)
    return fetch_source(recipe, PROJECT / ".trireme" / "sources", PROJECT)


def quantize(options: argparse.Namespace, name: str) -> QuantizationManifest:
    """One row. Raises UnavailableError with the script's last words when it fails."""
    method, _, flags = METHODS[name]
    show_progress_note(f"quantizing: {name}")
    command = [str(options.quantizer), str(PROJECT / "build" / "quantize_llm.py"), str(find_model(options))]
    command += [str(folder_of(options.work, name)), "--method", method, *flags, *OPEN_GATE]
    command += ["--calibration", str(options.calibration), "--eval", str(options.eval)]
    command += ["--samples", str(options.samples), "--eval-tokens", str(options.eval_tokens)]
    command += ["--device", options.device, "--log", str(folder_of(options.work, name)) + ".log"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(
            f"cannot run {options.quantizer}: {error.strerror}; set it up with: make quantize-env"
        ) from None
    if done.returncode:
        raise UnavailableError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return read_quantization(folder_of(options.work, name))


def choose_rows(linears: Iterable[tuple[int, int]], only: Sequence[str] = ()) -> list[str]:
    """The rows of a model with these projections (inputs, outputs); `only` names methods, empty for all.

    GPTQ in 8 bits has the widest group that divides every projection, AWQ and GPTQ in 4 bits that one and 32.
    """
    widest = choose_group(linears, 0)
    rows = []
    for name, (method, bits, flags) in METHODS.items():
        group = int(flags[-1]) if flags else None
        fits = group in (None, widest) or (group == 32 and widest and bits == 4)
        if fits and (not only or method in only):
            rows.append(name)
    return rows


def folder_of(work: Path, name: str) -> Path:
    """The checkpoint's folder of a row."""
    return work / "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def measure_cpu(options: argparse.Namespace, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Row -> streams -> output tokens per second: medians of rounds in which the rows take turns.

    A row whose checkpoint has no OpenVINO form is left out and named on stderr.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as opened:
        engines = {}
        for name in names:
            try:
                engines[name] = opened.enter_context(open_engine(options, name))
            except TriremeError as error:
                show_progress_note(f"no CPU speed of {name}: {error}")
        for turn in range(ROUNDS + 1):
            show_progress_note(f"CPU speed, round {turn} of {ROUNDS}" if turn else "CPU speed, warming up")
            for name, engine in engines.items():
                for count in STREAMS:
                    rate = measure_rate(engine, count, turn)
                    if turn:
                        rates.setdefault(name, {}).setdefault(str(count), []).append(rate)
    return {
        name: {key: statistics.median(found) for key, found in row.items()} for name, row in rates.items()
    }


@contextmanager
def open_engine(options: argparse.Namespace, name: str) -> Iterator[DirectEngine]:
    """The row's checkpoint exported for OpenVINO and loaded. Raises TriremeError when it cannot be."""
    from trireme.artifacts.build import BuildOptions
    from trireme.artifacts.recipe import Recipe
    from trireme.artifacts.repository import version_dir
    from trireme.export_llm.pipeline import build_llm
    from trireme.generate.engine import EngineOptions
    from trireme.generate.registry import open_engine as open_registered

    folder = folder_of(options.work, name)
    repository = options.work / "models"
    recipe = Recipe(folder.name, "generator", source=str(folder.resolve()), target="cpu")
    build_llm(recipe, BuildOptions(repository, options.work / "sources", PROJECT))
    opened = EngineOptions(
        version_dir(repository, recipe.model),
        eos_token_ids=(),
        max_model_len=PROMPT_TOKENS + OUTPUT_TOKENS,
        max_num_seqs=max(STREAMS),
        prefix_caching=False,
        kv_cache_gb=1.0,
    )
    with closing(DirectEngine(open_registered("openvino", opened))) as engine:
        yield engine


def measure_rate(engine: DirectEngine, count: int, turn: int) -> float:
    """Output tokens per second of `count` requests that start together. Blocks until the last has ended."""
    # Ids past the special ones, different in every request: only the count matters here.
    prompts = [
        [3 + (turn * 997 + number * 131 + place * 17) % 4000 for place in range(PROMPT_TOKENS)]
        for number in range(count)
    ]
    return engine.run(prompts, OUTPUT_TOKENS).tokens_per_second


def measure(options: argparse.Namespace, words: list[str]) -> QuantizationReport:
    """Quantizes, measures and returns all rows. Blocks for minutes."""
    circumstances = read_circumstances("benchmarks.quantization.run", words, SEED)
    options.model = find_model(options)
    names = choose_rows(read_causal_lm(options.model).linears, options.only)
    made = quantize_all(options, names)
    speeds = measure_cpu(options, names) if options.device == "cpu" else {}
    first = made[names[0]]
    calibrated = next((manifest.calibration for manifest in made.values() if manifest.calibration), {})
    return QuantizationReport(
        model=options.name or first.source,
        parameters=first.parameters,
        calibration=calibrated or {"name": "no text", "tokens": 0, "sequence_length": 0},
        evaluation=first.evaluation,
        tools={name: version for manifest in made.values() for name, version in manifest.tools.items()},
        rows=tuple(
            MethodRow(
                name=name,
                method=manifest.method,
                bits=manifest.bits,
                group_size=manifest.group_size,
                total_bytes=manifest.total_bytes,
                seconds=manifest.seconds,
                figures=manifest.figures,
                cpu=speeds.get(name, {}),
            )
            for name, manifest in made.items()
        ),
        circumstances=circumstances,
        device=options.device,
    )


def work(options: argparse.Namespace, words: list[str]) -> None:
    """Measures or merges; a GPU's figures are written alone, a CPU's with the page."""
    if not options.merge:
        if options.calibration is None or options.eval is None:
            raise InvalidInputError("give --calibration and --eval, two text files, or --merge")
        write_json(options.results / DEVICE_RESULTS[options.device], measure(options, words))
    if options.device != "cpu":
        return
    report, on_gpu = (options.results / DEVICE_RESULTS[device] for device in ("cpu", "cuda"))
    found = read_record(report, QuantizationReport)
    other = read_record(on_gpu, QuantizationReport) if on_gpu.is_file() else None
    runs = read_gpu(options.results)
    write_section(DOCS / "quantization.md", "benchmarks.quantization.run", format_section(found, runs, other))
    print(format_table(found, runs))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = make_parser(__doc__)
    checkpoints = PROJECT / ".trireme" / "quantization"
    quantizer = PROJECT / ".venv-quantize" / "bin" / "python"
    parser.add_argument("--model", type=Path, help="a float checkpoint; default: the default LLM's, imported")
    parser.add_argument("--name", help="what the page calls the model; default: its source")
    parser.add_argument("--calibration", type=Path, help="a text file (required to measure)")
    parser.add_argument("--eval", type=Path, help="another text file (required to measure)")
    parser.add_argument("--samples", type=int, default=32, help="windows to calibrate on (default 32)")
    parser.add_argument("--eval-tokens", type=int, default=16_384, help="default 16384")
    parser.add_argument("--device", choices=tuple(DEVICE_RESULTS), default="cpu", help="where to quantize")
    parser.add_argument("--jobs", type=int, default=1, help="methods quantized at the same time (default 1)")
    parser.add_argument("--only", nargs="*", default=(), help="methods to measure; default: all")
    parser.add_argument("--work", type=Path, default=checkpoints, help="checkpoints")
    parser.add_argument("--quantizer", type=Path, default=quantizer)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where figures are read and written")
    parser.add_argument(
        "--merge", action="store_true", help="measure nothing; merge the GPU files into the table"
    )
    return run_script(parser, work, arguments)


if __name__ == "__main__":
    sys.exit(main())
