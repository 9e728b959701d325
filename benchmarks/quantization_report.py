"""The tables of docs/quantization.md, from what was measured on a CPU and on GPUs.

Speeds on a GPU are merged from benchmarks/results/*-quantization-gpu.json, one model a file. A row is known by its
method, bits and group size (0 where the method has no groups):

    {"machine": "...", "model": "...", "rows": [{"method": "awq", "bits": 4, "group_size": 128,
     "output_tokens_per_second": 1.0, "single_stream_tokens_per_second": 1.0, "weights_gib": 1.0}]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report import Circumstances, format_circumstances, format_table

from trireme.artifacts.gate import Gate
from trireme.errors import GateError, InvalidInputError
from trireme.quantize.gate import DEFAULTS

GPU_FILES = "*-quantization-gpu.json"
NOT_MEASURED = "not measured"
PROMPT_TOKENS, OUTPUT_TOKENS, ROUNDS = 128, 64, 5
STREAMS = (1, 8)
MARKS = ("<!-- begin: benchmarks/quantization.py -->", "<!-- end -->")
GPU_HEADER = ("GPU tok/s, 64 streams", "GPU tok/s, 1 stream", "GPU weights, GiB")
HEADER = (
    "method",
    "MB",
    "perplexity ratio",
    "KL, nats",
    "top-1 agreement",
    "default gate",
    "quantized in, s",
    *(f"CPU tok/s, {count} stream{'s' if count > 1 else ''}" for count in STREAMS),
    *GPU_HEADER,
)
DEVICE_HEADER = (
    "method",
    *(
        f"{figure}, {device}"
        for figure in ("perplexity ratio", "KL", "agreement", "s")
        for device in ("CPU", "GPU")
    ),
)
NAMES = {
    "none": "none (bf16)",
    "awq": "AWQ",
    "gptq": "GPTQ",
    "bnb-nf4": "bitsandbytes NF4",
    "bnb-int8": "bitsandbytes int8",
}

# Method, bits, group size.
Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method on one model. `cpu` maps a number of streams to output tokens per second."""

    name: str
    method: str
    bits: int
    group_size: int
    total_bytes: int
    seconds: float
    figures: dict[str, float]
    cpu: dict[str, float]


@dataclass(frozen=True, slots=True)
class QuantizationReport:
    """All methods on one model, and what they were measured on. `device` is where they were quantized."""

    model: str
    parameters: int
    calibration: dict[str, Any]
    evaluation: dict[str, Any]
    tools: dict[str, str]
    rows: tuple[MethodRow, ...]
    circumstances: Circumstances
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class GpuRow:
    """Speed of one method on a GPU; None where it was not measured."""

    output: float | None = None
    single: float | None = None
    weights_gib: float | None = None


@dataclass(frozen=True, slots=True)
class GpuRun:
    """One file: one model's rows on one machine."""

    machine: str
    model: str
    rows: Mapping[Key, GpuRow]


def read_gpu(results: Path) -> list[GpuRun]:
    """Every file's rows, in the order of the files' names.

    Raises InvalidInputError naming a file that is not in the form this module's text shows.
    """
    runs = []
    for path in sorted(results.glob(GPU_FILES)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows = {_key(row): _gpu_row(row) for row in record["rows"]}
            runs.append(GpuRun(str(record["machine"]), str(record["model"]), rows))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path} holds no GPU figures ({error!r}); mend or delete it") from None
    return runs


def name_method(key: Key) -> str:
    """What people call it, such as "AWQ int4, g128"."""
    method, bits, group = key
    return f"{NAMES[method]} int{bits}, g{group}" if group else NAMES[method]


def format_rows(report: QuantizationReport, runs: Sequence[GpuRun]) -> str:
    """The Markdown table; GPU figures are those of the same model, the last run's where several have the row."""
    gpu = {key: run.rows[key] for key, run in _choose_runs(report, runs).items()}
    rows = []
    for row in report.rows:
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
                *_gpu_cells(gpu.get((row.method, row.bits, row.group_size), GpuRow())),
            )
        )
    return format_table(HEADER, rows)


def _choose_runs(report: QuantizationReport, runs: Sequence[GpuRun]) -> dict[Key, GpuRun]:
    """The run that each method's figures come from."""
    return {key: run for run in runs if run.model == report.model for key in run.rows}


def format_other_models(report: QuantizationReport, runs: Sequence[GpuRun]) -> list[str]:
    """A table for each run of another model than the report's, with the gain of each row over the run's bf16."""
    parts = []
    for run in runs:
        if run.model == report.model:
            continue
        first = run.rows.get(("none", 16, 0), GpuRow())
        rows = [
            (
                name_method(key),
                *_gpu_cells(row),
                *(_ratio(row.output, first.output), _ratio(row.single, first.single)),
            )
            for key, row in run.rows.items()
        ]
        header = ("method", *GPU_HEADER, "64 streams, over bf16", "1 stream, over bf16")
        parts += [f"{run.model}, {run.machine}:", "", format_table(header, rows), ""]
    return parts


def format_devices(report: QuantizationReport, other: QuantizationReport) -> str:
    """The figures of the same methods, quantized on a CPU and on a GPU, side by side."""
    second = {row.name: row for row in other.rows}
    rows = []
    for row in report.rows:
        if row.name not in second:
            continue
        pair = (row, second[row.name])
        rows.append(
            (
                row.name,
                *(
                    f"{one.figures[name]:.4f}"
                    for name in ("perplexity_ratio", "kl", "agreement")
                    for one in pair
                ),
                *(f"{one.seconds:.0f}" for one in pair),
            )
        )
    return format_table(DEVICE_HEADER, rows)


def judge_default(row: MethodRow) -> str:
    """Whether the row passes the default thresholds of its method: passes or fails."""
    try:
        Gate(row.name, DEFAULTS[row.method, row.bits]).check(row.figures)
    except GateError:
        return "fails"
    return "passes"


def format_section(
    report: QuantizationReport, runs: Sequence[GpuRun], other: QuantizationReport | None = None
) -> str:
    """All tables and what stands beside them. `other`: the same methods quantized on a GPU."""
    judged, calibrated = report.evaluation, report.calibration
    machines = sorted({run.machine for run in _choose_runs(report, runs).values()})
    lines = [
        f"`{report.model}`, {report.parameters:,} parameters, perplexity of the original"
        f" {report.rows[0].figures['perplexity_original']:.2f}:",
        "",
        format_rows(report, runs),
        "",
        f"- Judged on {judged['tokens']:,} tokens of {judged['name']}; calibrated on {calibrated['tokens']:,}"
        f" tokens of {calibrated['name']}, windows of {calibrated['sequence_length']}.",
        f"- CPU speed: the OpenVINO engine called directly, {PROMPT_TOKENS} tokens in and {OUTPUT_TOKENS} out,"
        f" medians of {ROUNDS} rounds in which the methods take turns. OpenVINO reads no bitsandbytes checkpoints.",
        *(f"- GPU speed: {machine}; 128 tokens in and 128 out" for machine in machines or [NOT_MEASURED]),
        f"- Quantized with {_format_tools(report)}",
        format_circumstances(report.circumstances),
        "",
        *format_other_models(report, runs),
    ]
    if other is not None:
        same = (other.calibration, other.evaluation) == (calibrated, judged)
        lines += [
            f"Quantized with `--device cpu` and with `--device {other.device}`, on"
            f" {'the same texts' if same else 'other texts'}:",
            "",
            format_devices(report, other),
            "",
            f"- On the GPU machine with {_format_tools(other)}",
            format_circumstances(other.circumstances),
            "",
        ]
    return "\n".join(lines).rstrip()


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


def _format_tools(report: QuantizationReport) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(report.tools.items()))


def _key(row: Mapping[str, Any]) -> Key:
    method = str(row["method"])
    return method, int(row["bits"]), int(row["group_size"])


def _gpu_row(row: Mapping[str, Any]) -> GpuRow:
    names = ("output_tokens_per_second", "single_stream_tokens_per_second", "weights_gib")
    return GpuRow(*(row.get(name) for name in names))


def _gpu_cells(row: GpuRow) -> tuple[str, str, str]:
    return _cell(row.output, ",.0f"), _cell(row.single, ",.0f"), _cell(row.weights_gib, ".2f")


def _ratio(value: float | None, base: float | None) -> str:
    return _cell(value / base if value and base else None, ".2f")


def _cell(value: float | None, form: str) -> str:
    return NOT_MEASURED if value is None or math.isnan(value) else format(value, form)
