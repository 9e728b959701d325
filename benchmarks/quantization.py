"""One table of all quantization methods: figures, size, time to quantize, speed on CPU and GPU.

The checkpoints are made by build/quantize_llm.py in .venv-quantize (make quantize-env), with the gate open, so that
a method that would not pass has its row too. The CPU's speed is that of the OpenVINO engine, called directly, where
the checkpoint can be exported for it. GPU figures are merged from benchmarks/results/*-quantization-gpu.json:

    {"machine": "...", "model": "...", "rows": [{"method": "awq", "bits": 4, "output_tokens_per_second": 1.0,
     "single_stream_tokens_per_second": 1.0, "weights_gib": 1.0}]}
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import (
    DOCS,
    PROJECT,
    RESULTS,
    Circumstances,
    format_circumstances,
    format_table,
    read_circumstances,
    show_progress_note,
    write_json,
)

from trireme.errors import GateError, InvalidInputError, TriremeError, UnavailableError
from trireme.quantize.figures import Figures
from trireme.quantize.gate import DEFAULTS, check_gate
from trireme.quantize.manifest import QuantizationManifest, read_quantization

SEED = 1
# Name of the row -> method, bits and the flags that ask for it.
METHODS: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "none (bf16)": ("none", 16, ()),
    "AWQ int4, g128": ("awq", 4, ()),
    "AWQ int4, g32": ("awq", 4, ("--group-size", "32")),
    "GPTQ int4, g128": ("gptq", 4, ()),
    "GPTQ int4, g32": ("gptq", 4, ("--group-size", "32")),
    "GPTQ int8, g128": ("gptq", 8, ("--bits", "8")),
    "bitsandbytes NF4": ("bnb-nf4", 4, ()),
    "bitsandbytes int8": ("bnb-int8", 8, ()),
}
OPEN_GATE = ("--max-perplexity-ratio", "1000", "--max-kl", "1000", "--min-agreement", "0")
GPU_FILES = "*-quantization-gpu.json"
NOT_MEASURED = "not measured"
PROMPT_TOKENS, OUTPUT_TOKENS, ROUNDS = 128, 64, 5
STREAMS = (1, 8)
MARKS = ("<!-- begin: benchmarks/quantization.py -->", "<!-- end -->")
HEADER = (
    "method",
    "MB",
    "perplexity ratio",
    "KL, nats",
    "top-1 agreement",
    "default gate",
    "quantized in, s",
    *(f"CPU tok/s, {count} stream{'s' if count > 1 else ''}" for count in STREAMS),
    "GPU tok/s",
    "GPU tok/s, 1 stream",
    "GPU weights, GiB",
)


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method on one model. `cpu` maps a number of streams to output tokens per second."""

    name: str
    method: str
    bits: int
    total_bytes: int
    seconds: float
    figures: dict[str, float]
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """All methods on one model, and what they were measured on."""

    model: str
    parameters: int
    calibration: dict[str, Any]
    evaluation: dict[str, Any]
    tools: dict[str, str]
    rows: tuple[MethodRow, ...]
    circumstances: Circumstances


@dataclass(frozen=True, slots=True)
class GpuRow:
    """Speed of one method on a GPU; None where it was not measured."""

    output: float | None = None
    single: float | None = None
    weights_gib: float | None = None


def quantize_all(options: argparse.Namespace, names: Sequence[str]) -> dict[str, QuantizationManifest]:
    """Runs build/quantize_llm.py for each row that is not in the work folder yet. Blocks for minutes.

    Raises UnavailableError with the script's last words when it fails.
    """
    made = {}
    for name in names:
        method, _, flags = METHODS[name]
        show_progress_note(f"quantizing: {name}")
        command = [str(options.quantizer), str(PROJECT / "build" / "quantize_llm.py"), str(options.model)]
        command += [str(folder_of(options.work, name)), "--method", method, *flags, *OPEN_GATE]
        command += ["--calibration", str(options.calibration), "--eval", str(options.eval)]
        command += ["--samples", str(options.samples), "--eval-tokens", str(options.eval_tokens)]
        command += ["--log", str(options.work / "libraries.log")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UnavailableError(
                f"cannot run {options.quantizer}: {error.strerror}; set it up with: make quantize-env"
            ) from None
        if done.returncode:
            raise UnavailableError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        made[name] = read_quantization(folder_of(options.work, name))
    return made


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
def open_engine(options: argparse.Namespace, name: str) -> Iterator[Any]:
    """The row's checkpoint exported for OpenVINO and loaded. Raises TriremeError when it cannot be."""
    from trireme.artifacts.recipe import Recipe
    from trireme.artifacts.repository import version_dir
    from trireme.export.pipeline import BuildOptions
    from trireme.export_llm.pipeline import build_llm
    from trireme.generate.engine import EngineOptions
    from trireme.generate.registry import open_engine as open_registered

    folder = folder_of(options.work, name)
    repository = options.work / "models"
    recipe = Recipe(folder.name, "generator", source=str(folder.resolve()), target="cpu")
    build_llm(recipe, BuildOptions(repository, options.work / "sources", PROJECT))
    engine = open_registered(
        "openvino",
        EngineOptions(
            version_dir(repository, recipe.model),
            eos_token_ids=(),
            max_model_len=PROMPT_TOKENS + OUTPUT_TOKENS,
            max_num_seqs=max(STREAMS),
            prefix_caching=False,
            kv_cache_gb=0.25,
        ),
    )
    try:
        yield _Stream(engine)
    finally:
        engine.close()


class _Stream:
    """An engine and the one consumer of its stream."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.steps = engine, engine.stream()


def measure_rate(opened: Any, count: int, turn: int) -> float:
    """Output tokens per second of `count` requests that start together. Blocks until the last has ended."""
    from trireme.generate.engine import EngineRequest, Sampling

    sampling = Sampling(max_tokens=OUTPUT_TOKENS, temperature=0.0, ignore_eos=True)
    waiting, tokens = set(), 0
    started = time.perf_counter()
    for number in range(count):
        # Ids past the special ones, different in every request: only the count matters here.
        prompt = tuple(3 + (turn * 997 + number * 131 + place * 17) % 4000 for place in range(PROMPT_TOKENS))
        request = EngineRequest(f"{turn}-{count}-{number}", prompt, sampling)
        waiting.add(request.request_id)
        opened.engine.submit(request)
    while waiting:
        for chunk in next(opened.steps):
            tokens += len(chunk.tokens)
            if chunk.error is not None:
                raise chunk.error
            if chunk.is_last:
                waiting.discard(chunk.request_id)
    return tokens / (time.perf_counter() - started)


def read_gpu(results: Path) -> tuple[dict[tuple[str, int], GpuRow], list[str]]:
    """(method, bits) -> GPU figures of all files, and a line for each file saying where it was measured.

    Raises InvalidInputError naming a file that is not in the form this module's text shows.
    """
    rows: dict[tuple[str, int], GpuRow] = {}
    machines = []
    for path in sorted(results.glob(GPU_FILES)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            machines.append(f"{record['machine']}, {record['model']}")
            for row in record["rows"]:
                key = (str(row["method"]), int(row.get("bits", 16 if row["method"] == "none" else 4)))
                rows[key] = GpuRow(
                    row.get("output_tokens_per_second"),
                    row.get("single_stream_tokens_per_second"),
                    row.get("weights_gib"),
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path} holds no GPU figures ({error!r}); mend or delete it") from None
    return rows, machines


def format_rows(report: QuantizationReport, gpu: Mapping[tuple[str, int], GpuRow]) -> str:
    """The Markdown table; a GPU's figures stand in the first row of their method and width."""
    shown: set[tuple[str, int]] = set()
    rows = []
    for row in report.rows:
        key = (row.method, row.bits)
        found = GpuRow() if key in shown else gpu.get(key, GpuRow())
        shown.add(key)
        rows.append(
            (
                row.name,
                f"{row.total_bytes / 1e6:.1f}",
                f"{row.figures['perplexity_ratio']:.4f}",
                f"{row.figures['kl']:.4f}",
                f"{row.figures['agreement']:.4f}",
                judge_default(row),
                f"{row.seconds:.0f}",
                *(_cell(row.cpu.get(str(count)), ",.0f") for count in STREAMS),
                _cell(found.output, ",.0f"),
                _cell(found.single, ",.0f"),
                _cell(found.weights_gib, ".2f"),
            )
        )
    return format_table(HEADER, rows)


def judge_default(row: MethodRow) -> str:
    """Whether the row passes the default thresholds of its method: passes or fails."""
    try:
        check_gate(
            row.name,
            Figures(**{**row.figures, "tokens": int(row.figures["tokens"])}),
            DEFAULTS[row.method, row.bits],
        )
    except GateError:
        return "fails"
    return "passes"


def format_section(
    report: QuantizationReport, gpu: Mapping[tuple[str, int], GpuRow], machines: list[str]
) -> str:
    """The table and what stands beside it."""
    judged, calibrated = report.evaluation, report.calibration
    versions = ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))
    lines = [
        f"`{report.model}`, {report.parameters:,} parameters, perplexity of the original"
        f" {report.rows[0].figures['perplexity_original']:.2f}:",
        "",
        format_rows(report, gpu),
        "",
        f"- Judged on {judged['tokens']:,} tokens of {judged['name']}; calibrated on {calibrated['tokens']:,}"
        f" tokens of {calibrated['name']}, windows of {calibrated['sequence_length']}.",
        f"- CPU speed: the OpenVINO engine called directly, {PROMPT_TOKENS} tokens in and {OUTPUT_TOKENS} out,"
        f" medians of {ROUNDS} rounds in which the methods take turns. OpenVINO reads no bitsandbytes checkpoints.",
        *(
            f"- The GPU columns are of another run and another model: {machine}"
            for machine in machines or [NOT_MEASURED]
        ),
        f"- Quantized with {versions}",
        format_circumstances(report.circumstances),
    ]
    return "\n".join(lines)


def write_section(document: Path, section: str) -> None:
    """Puts `section` between the marks of `document`. Raises InvalidInputError when they are not there."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise InvalidInputError(f"{document} has no lines {MARKS[0]} and {MARKS[1]}; put them in")
    document.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}", encoding="utf-8")


def read_report(path: Path) -> QuantizationReport:
    """A report that `write_json` wrote. Raises InvalidInputError for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        seen = {**record["circumstances"], "flags": tuple(record["circumstances"]["flags"])}
        rows = tuple(MethodRow(**row) for row in record["rows"])
        return QuantizationReport(**{**record, "rows": rows, "circumstances": Circumstances(**seen)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is no quantization report ({error}); run without --merge") from None


def measure(options: argparse.Namespace, words: list[str]) -> QuantizationReport:
    """Quantizes, measures and returns all rows. Blocks for minutes."""
    circumstances = read_circumstances(__file__, words, SEED)
    names = [name for name in METHODS if not options.only or METHODS[name][0] in options.only]
    made = quantize_all(options, names)
    speeds = measure_cpu(options, names)
    first = made[names[0]]
    calibrated = next((manifest.calibration for manifest in made.values() if manifest.calibration), {})
    return QuantizationReport(
        model=first.source,
        parameters=first.parameters,
        calibration=calibrated or {"name": "no text", "tokens": 0, "sequence_length": 0},
        evaluation=first.evaluation,
        tools={name: version for manifest in made.values() for name, version in manifest.tools.items()},
        rows=tuple(
            MethodRow(
                name=name,
                method=manifest.method,
                bits=manifest.bits,
                total_bytes=manifest.total_bytes,
                seconds=manifest.seconds,
                figures=manifest.figures,
                cpu=speeds.get(name, {}),
            )
            for name, manifest in made.items()
        ),
        circumstances=circumstances,
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=PROJECT / "defaults" / "llm", help="a float checkpoint")
    parser.add_argument("--calibration", type=Path, help="a text file (required to measure)")
    parser.add_argument("--eval", type=Path, help="another text file (required to measure)")
    parser.add_argument("--samples", type=int, default=32, help="windows to calibrate on (default 32)")
    parser.add_argument("--eval-tokens", type=int, default=16_384, help="default 16384")
    parser.add_argument("--only", nargs="*", default=(), help="methods to measure; default: all")
    parser.add_argument(
        "--work", type=Path, default=PROJECT / ".trireme" / "quantization", help="checkpoints"
    )
    parser.add_argument("--quantizer", type=Path, default=PROJECT / ".venv-quantize" / "bin" / "python")
    parser.add_argument(
        "--merge", action="store_true", help="measure nothing; merge the GPU files into the table"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parse_arguments(words)
    try:
        if not options.merge:
            if options.calibration is None or options.eval is None:
                raise InvalidInputError("give --calibration and --eval, two text files, or --merge")
            write_json(RESULTS / "quantization.json", measure(options, words))
        report = read_report(RESULTS / "quantization.json")
        gpu, machines = read_gpu(RESULTS)
        write_section(DOCS / "quantization.md", format_section(report, gpu, machines))
    except TriremeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(format_rows(report, gpu))
    return 0


def _cell(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None or math.isnan(value) else format(value, form)


if __name__ == "__main__":
    sys.exit(main())
