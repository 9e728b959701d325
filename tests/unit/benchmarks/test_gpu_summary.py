import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def summary(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("gpu_summary", BENCHMARKS / "gpu" / "summary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(module, "PAGE", tmp_path / "gpu.md")
    module.PAGE.write_text(f"before\n{module.MARKS[0]}\nold\n{module.MARKS[1]}\nafter\n")
    return module


def checkpoint(name, model, method, bits, group=0):
    kind = {"model": model, "method": method, "bits": bits, "group_size": group}
    return {"name": f"triton-{name}", "checkpoint": kind}


LINES = (
    checkpoint("bf16", "big", "none", 16),
    checkpoint("bnb-int8", "big", "bnb-int8", 8),
    checkpoint("default-awq", "defaults/llm", "awq", 4, 32),
    {"name": "triton-bf16", "ready": True, "weights_gib": 14.96},
    {
        "name": "offline-bf16",
        "output_tokens_per_s": 1000.0,
        "single_stream_tokens_per_s": 100.0,
        "gpu": "one GPU",
        "versions": {"vllm": "1.0"},
    },
    {"name": "client-bf16-throughput", "mode": "throughput", "output_tokens_per_s": 950.0},
    {"name": "offline-bnb-int8", "failed": -1, "seconds": 100, "tokens": 5000},
)


def test_a_run_becomes_one_file_of_models_and_one_of_each_shape(summary, tmp_path, monkeypatch):
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    whole = {"name": "client-bf16-answers", "mode": "answers", "answers_tokens_per_s": 975.0}
    with (tmp_path / "results.jsonl").open("a") as results:
        results.write(json.dumps(whole) + "\n")
    by_hand = {"mode": "throughput", "model": "default-awq", "output_tokens_per_s": 12000.4}
    (tmp_path / "client.log").write_text(f"noise\nRESULT {json.dumps(by_hand)}\n")
    files = [str(tmp_path / name) for name in ("results.jsonl", "client.log")]
    monkeypatch.setattr(sys, "argv", ["summary.py", *files, "--name", "one"])
    summary.main()
    models = json.loads((tmp_path / "one-gpu.json").read_text())["models"]
    assert models["bf16"]["ratio"] == 0.95
    big = json.loads((tmp_path / "one-big-quantization-gpu.json").read_text())
    assert [(row["method"], row["output_tokens_per_second"]) for row in big["rows"]] == [("none", 950)]
    small = json.loads((tmp_path / "one-llm-quantization-gpu.json").read_text())
    assert [(row["group_size"], row["output_tokens_per_second"]) for row in small["rows"]] == [(32, 12000)]
    page = (tmp_path / "gpu.md").read_text()
    assert "| bf16 | 1,000 | 950 | 0.950 |" in page and "old" not in page
    assert "`bf16` with each answer in one response: 975 tokens/s" in page
    assert "| bnb-int8 | below 50 | not measured |" in page, "what was given up says what it is below"


def test_what_was_measured_stands_also_where_its_process_was_ended_afterwards(summary):
    late = {"name": "offline-bf16", "failed": -1, "seconds": 100, "tokens": 5000}
    models = {}
    for line in (*LINES, late):
        summary._sort(models, line)
    assert summary._cells("bf16", models["bf16"])[1] == "1,000"


def test_the_users_way_is_told_in_two_sentences(summary):
    found = {"checkpoint": "bf16", "export_s": 31.8, "export_memory_mb": 74, "bytes": 16e9}
    found |= {"instance_group": ["instance_group { kind: KIND_GPU count: 1 }"]}
    (line,) = summary._exported_lines(found)
    assert "took 32 s and 74 MB of memory for `bf16`, 16.0 GB" in line
    answers = [{"stream": True, "parts": 24, "text": " A city", "tokens": [12, 24]}]
    answers.append({"stream": False, "parts": 1, "text": "A city", "tokens": [12, 24]})
    found |= {"answers": answers, "server": "2.51.0", "ready_after_s": 60.2, "stopped": "exit status 0"}
    found |= {"served_instance_group": [{"kind": "KIND_GPU", "gpus": [0]}]}
    line = summary._exported_lines(found)[1]
    assert "served that folder after 60 s on KIND_GPU [0]" in line
    assert 'streamed in 24 responses and whole in 1 response of 24 tokens: "A city"; after' in line
    small = summary._exported_lines({**found, "export_s": 0.41, "bytes": 12_326_583})[0]
    assert "took 0.4 s" in small and "12.3 MB" in small
