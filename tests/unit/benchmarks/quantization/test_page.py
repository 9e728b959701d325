import json
from dataclasses import replace

import pytest

from benchmarks.common.report import DOCS, RESULTS, read_circumstances, read_record, write_json
from benchmarks.quantization.page import (
    MethodRow,
    QuantizationReport,
    format_section,
    format_table,
    judge_default,
    read_gpu,
)
from trireme.errors import InvalidInputError

FIGURES = {
    "perplexity_original": 20.0,
    "perplexity": 20.6,
    "perplexity_ratio": 1.03,
    "kl": 0.02,
    "agreement": 0.95,
    "tokens": 1000,
}


def row(name, method="awq", bits=4, group_size=128, **changes):
    made = {"total_bytes": 1_500_000, "seconds": 12.4, "figures": FIGURES, "cpu": {"1": 100.4, "8": 300.6}}
    return MethodRow(name, method, bits, group_size, **{**made, **changes})


@pytest.fixture
def report():
    return QuantizationReport(
        model="small",
        parameters=1_000_000,
        calibration={"name": "one.txt", "tokens": 2048, "sequence_length": 512},
        evaluation={"name": "two.txt", "tokens": 1024},
        tools={"gptqmodel": "7.6.0"},
        rows=(row("none", "none", 16, 0), row("AWQ, g128"), row("AWQ, g32", group_size=32, cpu={})),
        circumstances=read_circumstances("quantization.py", [], 1),
    )


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_what_was_not_measured_says_so(report):
    none, awq, fine = cells(format_table(report, []))
    assert len(none) == 12
    assert none[7:] == ["100", "301", "not measured", "not measured", "not measured"]
    assert fine[7:] == ["not measured"] * 5
    assert awq[1:7] == ["1.5", "1.0300", "0.0200", "0.9500", "passes", "12"]


def gpu_file(path, model, rows):
    path.write_text(json.dumps({"machine": "one GPU", "model": model, "rows": rows}))


def gpu_row(method, bits, group, **figures):
    return {"method": method, "bits": bits, "group_size": group, **figures}


def test_gpu_figures_of_the_same_model_stand_in_the_row_of_their_method_bits_and_group(report, tmp_path):
    rows = [
        gpu_row("none", 16, 0, output_tokens_per_second=8413.2, weights_gib=14.96),
        gpu_row("awq", 4, 32, single_stream_tokens_per_second=246.6),
    ]
    gpu_file(tmp_path / "a-quantization-gpu.json", "small", rows)
    runs = read_gpu(tmp_path)
    speeds = runs[0].rows["none", 16, 0]
    assert (speeds["output_tokens_per_second"], speeds["weights_gib"]) == (8413.2, 14.96)
    assert speeds["single_stream_tokens_per_second"] is None
    none, awq, fine = cells(format_table(report, runs))
    assert none[9:] == ["8,413", "not measured", "14.96"]
    assert awq[9:] == ["not measured"] * 3, "the GPU ran another group size"
    assert fine[9:] == ["not measured", "247", "not measured"]
    assert "- GPU speed: one GPU;" in format_section(report, runs)


def test_a_later_run_of_the_same_rows_takes_their_place_and_only_its_machine_is_named(report, tmp_path):
    for name, machine, rate in (("a", "old GPU", 100), ("b", "new GPU", 200)):
        rows = [gpu_row("none", 16, 0, output_tokens_per_second=rate)]
        document = {"machine": machine, "model": "small", "rows": rows}
        (tmp_path / f"{name}-quantization-gpu.json").write_text(json.dumps(document))
    runs = read_gpu(tmp_path)
    assert cells(format_table(report, runs))[0][9] == "200"
    section = format_section(report, runs)
    assert "new GPU" in section and "old GPU" not in section


def test_other_models_have_a_table_of_their_own_with_the_gain_over_bf16(report, tmp_path):
    rows = [
        gpu_row("none", 16, 0, output_tokens_per_second=1000, single_stream_tokens_per_second=100),
        gpu_row("bnb-nf4", 4, 0, output_tokens_per_second=500, single_stream_tokens_per_second=150),
    ]
    gpu_file(tmp_path / "a-quantization-gpu.json", "an 8B shape", rows)
    runs = read_gpu(tmp_path)
    assert [row[9:] for row in cells(format_table(report, runs))] == [["not measured"] * 3] * 3
    section = format_section(report, runs)
    assert "an 8B shape, one GPU:" in section
    assert "| bitsandbytes NF4 | 500 | 150 | not measured | 0.50 | 1.50 |" in section


def test_both_devices_stand_side_by_side(report):
    changed = {**FIGURES, "perplexity_ratio": 1.04}
    other = replace(report, device="cuda", rows=(row("AWQ, g128", seconds=3.0, figures=changed),))
    section = format_section(report, [], other)
    assert "| AWQ, g128 | 1.0300 | 1.0400 | 0.0200 | 0.0200 | 0.9500 | 0.9500 | 12 | 3 |" in section
    assert "with `--device cuda`, on the same texts:" in section
    assert "on other texts:" in format_section(
        report, [], replace(other, evaluation={"name": "x", "tokens": 1})
    )


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}', '{"machine": "m", "model": "m", "rows": [1]}'])
def test_a_broken_gpu_file_is_named(tmp_path, text):
    (tmp_path / "x-quantization-gpu.json").write_text(text)
    with pytest.raises(InvalidInputError, match=r"x-quantization-gpu\.json holds no GPU figures"):
        read_gpu(tmp_path)


def test_the_default_gate_judges_each_row():
    assert judge_default(row("a")) == "passes"
    assert judge_default(row("a", figures={**FIGURES, "kl": 0.06})) == "fails"
    assert judge_default(row("a", "gptq", 8)) == "fails", "eight bits have tighter limits"


def test_a_report_reads_back(report, tmp_path):
    write_json(tmp_path / "quantization.json", report)
    assert read_record(tmp_path / "quantization.json", QuantizationReport) == report


def test_the_committed_section_is_made_of_the_committed_figures():
    report = read_record(RESULTS / "quantization.json", QuantizationReport)
    # A GPU's figures of the same model are there where they were measured.
    on_gpu = RESULTS / "quantization-cuda.json"
    other = read_record(on_gpu, QuantizationReport) if on_gpu.is_file() else None
    section = format_section(report, read_gpu(RESULTS), other)
    assert section in (DOCS / "quantization.md").read_text()
