"""The tables of docs/quantization.md, from what was measured on a CPU and on GPUs.

Speeds on a GPU are merged from benchmarks/results/*-quantization-gpu.json, one model a file. A row is known by its
method, bits and group size (0 where the method has no groups):

    {"machine": "...", "model": "...", "rows": [{"method": "awq", "bits": 4, "group_size": 128,
     "output_tokens_per_second": 1.0, "single_stream_tokens_per_second": 1.0, "weights_gib": 1.0}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.report import Circumstances, format_pairs, render
from trireme.artifacts.gate import Gate
from trireme.errors import GateError, InvalidInputError
from trireme.quantize.gate import DEFAULTS

GPU_FILES = "*-quantization-gpu.json"
NOT_MEASURED = "not measured"
PROMPT_TOKENS, OUTPUT_TOKENS, ROUNDS = 128, 64, 5
STREAMS = (1, 8)
NAMES = {
    "none": "none (bf16)",
    "awq": "AWQ",
    "gptq": "GPTQ",
    "bnb-nf4": "bitsandbytes NF4",
    "bnb-int8": "bitsandbytes int8",
}

NO_SPEEDS = dict.fromkeys(("output_tokens_per_second", "single_stream_tokens_per_second", "weights_gib"))

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
class GpuRun:
    """One file: one model's rows on one machine, each with the figures that were measured."""

    machine: str
    model: str
    rows: Mapping[Key, Mapping[str, Any]]


def read_gpu(results: Path) -> list[GpuRun]:
    """Every file's rows, in the order of the files' names.

    Raises InvalidInputError naming a file that is not in the form this module's text shows.
    """
    runs = []
    for path in sorted(results.glob(GPU_FILES)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            rows = {_key(row): {**NO_SPEEDS, **row} for row in record["rows"]}
            runs.append(GpuRun(str(record["machine"]), str(record["model"]), rows))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInputError(f"{path} holds no GPU figures ({error!r}); mend or delete it") from None
    return runs


def name_method(key: Key) -> str:
    """What people call it, such as "AWQ int4, g128"."""
    method, bits, group = key
    return f"{NAMES[method]} int{bits}, g{group}" if group else NAMES[method]


def format_table(report: QuantizationReport, runs: Sequence[GpuRun]) -> str:
    """The Markdown table; GPU figures are those of the same model, the last run's where several have the row."""
    return render("quantization/table.md.j2", **_describe(report, runs))


def _describe(report: QuantizationReport, runs: Sequence[GpuRun]) -> dict[str, Any]:
    speeds = {key: run.rows[key] for key, run in _choose_runs(report, runs).items()}
    keys = [(row.method, row.bits, row.group_size) for row in report.rows]
    rows = [(row, speeds.get(key, NO_SPEEDS)) for row, key in zip(report.rows, keys, strict=True)]
    return {"rows": rows, "judge": judge_default, "nothing": NOT_MEASURED}


def _choose_runs(report: QuantizationReport, runs: Sequence[GpuRun]) -> dict[Key, GpuRun]:
    """The run that each method's figures come from."""
    return {key: run for run in runs if run.model == report.model for key in run.rows}


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
    """All tables and what stands beside them. `other`: the same methods quantized on a GPU.

    Runs of other models have a table each, with the gain of each row over the run's bf16.
    """
    second = {row.name: row for row in other.rows} if other else {}
    return render(
        "quantization/section.md.j2",
        **_describe(report, runs),
        report=report,
        other=other,
        machines=sorted({run.machine for run in _choose_runs(report, runs).values()}),
        others=[run for run in runs if run.model != report.model],
        pairs=[(row, second[row.name]) for row in report.rows if row.name in second],
        sizes={"PROMPT_TOKENS": PROMPT_TOKENS, "OUTPUT_TOKENS": OUTPUT_TOKENS, "ROUNDS": ROUNDS},
        name_method=name_method,
        no_row=NO_SPEEDS,
        tools=lambda one: format_pairs(dict(sorted(one.tools.items()))),
        ratio=lambda value, base: value / base if value and base else None,
    )


def _key(row: Mapping[str, Any]) -> Key:
    method = str(row["method"])
    return method, int(row["bits"]), int(row["group_size"])
