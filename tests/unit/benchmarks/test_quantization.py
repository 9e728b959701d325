import json

import pytest
import quantization
from quantization import (
    HEADER,
    MARKS,
    METHODS,
    GpuRow,
    MethodRow,
    QuantizationReport,
    folder_of,
    format_rows,
    format_section,
    judge_default,
    main,
    measure_rate,
    read_gpu,
    read_report,
    write_section,
)
from report import read_circumstances, write_json

from trireme.errors import InvalidInputError
from trireme.generate.engine import Chunk
from trireme.quantize.gate import DEFAULTS

FIGURES = {
    "perplexity_original": 20.0,
    "perplexity": 20.6,
    "perplexity_ratio": 1.03,
    "kl": 0.02,
    "agreement": 0.95,
    "tokens": 1000,
}


def row(name, method="awq", bits=4, **changes):
    made = {"total_bytes": 1_500_000, "seconds": 12.4, "figures": FIGURES, "cpu": {"1": 100.4, "8": 300.6}}
    return MethodRow(name, method, bits, **{**made, **changes})


@pytest.fixture
def report():
    return QuantizationReport(
        model="small",
        parameters=1_000_000,
        calibration={"name": "one.txt", "tokens": 2048, "sequence_length": 512},
        evaluation={"name": "two.txt", "tokens": 1024},
        tools={"gptqmodel": "7.6.0"},
        rows=(row("none", "none", 16), row("AWQ, g128"), row("AWQ, g32", cpu={})),
        circumstances=read_circumstances("quantization.py", [], 1),
    )


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_every_row_has_a_method_with_thresholds_and_a_folder_of_its_own(tmp_path):
    assert {(method, bits) for method, bits, _ in METHODS.values()} == set(DEFAULTS)
    assert len({folder_of(tmp_path, name) for name in METHODS}) == len(METHODS)


def test_what_was_not_measured_says_so(report):
    none, awq, fine = cells(format_rows(report, {}))
    assert len(none) == len(HEADER)
    assert none[7:] == ["100", "301", "not measured", "not measured", "not measured"]
    assert fine[7:] == ["not measured"] * 5
    assert awq[1:7] == ["1.5", "1.0300", "0.0200", "0.9500", "passes", "12"]


def test_figures_of_a_gpu_are_merged_by_method_and_bits(report, tmp_path):
    (tmp_path / "big-quantization-gpu.json").write_text(
        json.dumps(
            {
                "machine": "one GPU",
                "model": "an 8B shape",
                "rows": [
                    {"method": "none", "output_tokens_per_second": 8413.2, "weights_gib": 14.96},
                    {"method": "awq", "bits": 4, "single_stream_tokens_per_second": 246.6},
                ],
            }
        )
    )
    gpu, machines = read_gpu(tmp_path)
    assert gpu == {("none", 16): GpuRow(8413.2, None, 14.96), ("awq", 4): GpuRow(None, 246.6, None)}
    none, awq, fine = cells(format_rows(report, gpu))
    assert none[9:] == ["8,413", "not measured", "14.96"]
    assert awq[9:] == ["not measured", "247", "not measured"]
    assert fine[9:] == ["not measured"] * 3, "the GPU ran one group size"
    assert "- The GPU columns are of another run and another model: one GPU, an 8B shape" in format_section(
        report, gpu, machines
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


def test_a_report_reads_back_and_the_table_stands_between_the_marks(report, tmp_path):
    write_json(tmp_path / "quantization.json", report)
    assert read_report(tmp_path / "quantization.json") == report
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARKS[0]}\nold\n{MARKS[1]}\nafter\n")
    for _ in range(2):
        write_section(page, format_section(report, {}, []))
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "old" not in text and text.count("| AWQ, g32 |") == 1
    with pytest.raises(InvalidInputError, match="has no lines"):
        write_section(tmp_path / "quantization.json", "x")


class Replies:
    """An engine that gives every request two tokens in the first step and the rest in the second."""

    def __init__(self):
        self.submitted = []
        self.engine = self

    def submit(self, request):
        self.submitted.append(request)

    @property
    def steps(self):
        names = [request.request_id for request in self.submitted]
        rest = quantization.OUTPUT_TOKENS - 2
        yield_first = [Chunk(name, (5, 6)) for name in names]
        yield_last = [Chunk(name, (7,) * rest, "length") for name in names]
        if not hasattr(self, "_steps"):
            self._steps = iter([yield_first, yield_last])
        return self._steps


def test_a_rate_counts_the_tokens_of_all_streams(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(quantization.time, "perf_counter", lambda: next(clock))
    engine = Replies()
    assert measure_rate(engine, 4, turn=1) == 4 * quantization.OUTPUT_TOKENS / 2.0
    assert len({request.prompt for request in engine.submitted}) == 4
    assert {len(request.prompt) for request in engine.submitted} == {quantization.PROMPT_TOKENS}


def test_without_texts_or_an_environment_the_script_ends_with_one_sentence(tmp_path, capsys):
    assert main([]) == 1
    assert "give --calibration and --eval" in capsys.readouterr().err
    words = ["--calibration", "a", "--eval", "b", "--only", "none", "--work", str(tmp_path)]
    assert main([*words, "--quantizer", str(tmp_path / "python")]) == 1
    assert "make quantize-env" in capsys.readouterr().err
