import json

import pytest

from benchmarks.common.report import DOCS, RESULTS
from benchmarks.gpu import page


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Results and pages are written here."""
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "DOCS", tmp_path)
    (tmp_path / "gpu.md").write_text(
        "before\n<!-- begin: benchmarks.gpu.page -->\nold\n<!-- end -->\nafter\n"
    )
    return tmp_path


def checkpoint(name, model, method, bits, group=0):
    kind = {"model": model, "method": method, "bits": bits, "group_size": group}
    return {"name": f"triton-{name}", "checkpoint": kind}


LINES = (
    checkpoint("bf16", "big", "none", 16),
    checkpoint("bnb-int8", "big", "bnb-int8", 8),
    checkpoint("default-awq", "SmolLM2-135M-Instruct", "awq", 4, 32),
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


def test_a_run_becomes_one_file_of_models_and_one_of_each_shape(folder):
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    whole = {"name": "client-bf16-answers", "mode": "answers", "answers_tokens_per_s": 975.0}
    with (folder / "results.jsonl").open("a") as results:
        results.write(json.dumps(whole) + "\n")
    by_hand = {"mode": "throughput", "model": "default-awq", "output_tokens_per_s": 12000.4}
    (folder / "client.log").write_text(f"noise\nRESULT {json.dumps(by_hand)}\n")
    files = [str(folder / name) for name in ("results.jsonl", "client.log")]
    page.main([*files, "--name", "one"])
    models = json.loads((folder / "one-gpu.json").read_text())["models"]
    assert models["bf16"]["ratio"] == 0.95
    big = json.loads((folder / "one-big-quantization-gpu.json").read_text())
    assert [(row["method"], row["output_tokens_per_second"]) for row in big["rows"]] == [("none", 950)]
    small = json.loads((folder / "one-SmolLM2-135M-Instruct-quantization-gpu.json").read_text())
    assert [(row["group_size"], row["output_tokens_per_second"]) for row in small["rows"]] == [(32, 12000)]
    text = (folder / "gpu.md").read_text()
    assert "| bf16 | 1,000 | 950 | 0.950 |" in text and "old" not in text
    assert "`bf16` with each answer in one response: 975 tokens/s" in text
    assert "| bnb-int8 | below 50 | not measured |" in text, "what was given up says what it is below"


def test_what_was_measured_stands_also_where_its_process_was_ended_afterwards(folder):
    late = {"name": "offline-bf16", "failed": -1, "seconds": 100, "tokens": 5000}
    lines = "".join(json.dumps(line) + "\n" for line in (*LINES, late))
    (folder / "results.jsonl").write_text(lines)
    page.main([str(folder / "results.jsonl"), "--name", "one"])
    assert "| bf16 | 1,000 | 950 |" in (folder / "gpu.md").read_text()


def test_the_users_way_is_told_in_two_sentences(folder):
    found = {"checkpoint": "bf16", "export_s": 31.8, "export_memory_mb": 74, "bytes": 16e9}
    found |= {"instance_group": ["instance_group { kind: KIND_GPU count: 1 }"]}

    def tell(exported):
        document = {"gpu": "one", "versions": {"server": "2.51.0"}, "models": {}, "exported": exported}
        (folder / "x-gpu.json").write_text(json.dumps(document))
        return page.format_results(folder)

    assert "took 32 s and 74 MB of memory for `bf16`, 16.0 GB" in tell(found)
    assert "served that folder" not in tell(found)
    answers = [{"stream": True, "parts": 24, "text": " A city", "tokens": [12, 24]}]
    answers.append({"stream": False, "parts": 1, "text": "A city", "tokens": [12, 24]})
    found |= {"answers": answers, "server": "2.51.0", "ready_after_s": 60.2, "stopped": "exit status 0"}
    found |= {"served_instance_group": [{"kind": "KIND_GPU", "gpus": [0]}]}
    assert "served that folder after 60 s on KIND_GPU [0]" in tell(found)
    assert 'streamed in 24 responses and whole in 1 response of 24 tokens: "A city"; after' in tell(found)
    small = tell({**found, "export_s": 0.41, "bytes": 12_326_583})
    assert "took 0.4 s" in small and "12.3 MB" in small


def test_the_committed_section_is_made_of_the_committed_figures():
    assert page.format_results(RESULTS).strip() in (DOCS / "gpu.md").read_text()
