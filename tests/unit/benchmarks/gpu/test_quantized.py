import json
from types import SimpleNamespace

import pytest

from benchmarks.gpu import quantized
from benchmarks.gpu.quantized import main, read_result
from benchmarks.quantization.page import read_gpu
from trireme.errors import UnavailableError

SPEED = {
    "output_tokens_per_s": 900.0,
    "single_stream_tokens_per_s": 90.0,
    "gpu": "a GPU",
    "versions": {"vllm": "1.0"},
}
FIGURES = {
    "perplexity": 11.0,
    "perplexity_original": 10.0,
    "perplexity_ratio": 1.1,
    "kl": 0.05,
    "agreement": 0.9,
    "tokens": 100,
}


@pytest.fixture
def model(tmp_path):
    """SmolLM2's widths in one layer, as far as headers go."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "smollm2"
    folder.mkdir()
    config = {
        "architectures": ["LlamaForCausalLM"],
        "num_hidden_layers": 1,
        "hidden_size": 576,
        "vocab_size": 64,
        "max_position_embeddings": 128,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    weights = {
        "model.layers.0.mlp.up_proj.weight": torch.zeros(1536, 576, dtype=torch.bfloat16),
        "model.layers.0.mlp.down_proj.weight": torch.zeros(576, 1536, dtype=torch.bfloat16),
    }
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.fixture
def words(model, tmp_path):
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text("text")
    texts = ["--calibration", str(tmp_path / "one.txt"), "--eval", str(tmp_path / "two.txt")]
    return [str(model), *texts, "--work", str(tmp_path / "work")]


def make(options, name):
    if name == "bitsandbytes int8":
        raise UnavailableError("no int8 today")
    sizes = {"model.safetensors": 2**30, "tokenizer.json": 500}
    return SimpleNamespace(sizes=sizes, figures=FIGURES, seconds=12.5)


def test_every_method_is_a_row_of_figures_size_and_speed(monkeypatch, words, tmp_path, capsys):
    monkeypatch.setattr(quantized, "quantize", make)
    monkeypatch.setattr(quantized, "measure_speed", lambda options, folder: SPEED)
    out = tmp_path / "smollm2-quantization-gpu.json"
    assert main([*words, "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    rows = {(row["method"], row["bits"], row["group_size"]): row for row in found["rows"]}
    assert {key for key in rows if key[0] == "awq"} == {("awq", 4, 64), ("awq", 4, 32)}, (
        "128 does not divide 576"
    )
    assert {"gptq", "awq", "bnb-nf4", "bnb-int8", "none"} == {key[0] for key in rows}
    row = rows["awq", 4, 64]
    assert (row["weights_gib"], row["output_tokens_per_second"], row["figures"]["kl"]) == (1.0, 900.0, 0.05)
    assert rows["bnb-int8", 8, 0]["error"] == "no int8 today"
    [run] = read_gpu(tmp_path)
    assert run.machine == "a GPU through vLLM alone (vllm 1.0)" and run.model == "smollm2"


def test_a_speed_that_fails_leaves_the_figures(monkeypatch, words, capsys, tmp_path):
    monkeypatch.setattr(quantized, "quantize", make)
    assert main([*words, "--only", "none", "--vllm", str(tmp_path / "absent")]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["figures"]["kl"] == 0.05 and "name it with --vllm" in row["error"]


def test_the_last_result_is_read_and_none_names_the_log(tmp_path):
    assert read_result('noise\nRESULT {"a": 1}\nRESULT {"a": 2}\n', tmp_path / "x.log") == {"a": 2}
    with pytest.raises(UnavailableError, match=r"what it said is in x\.log"):
        read_result("noise", tmp_path / "x.log")


def test_a_missing_text_ends_with_one_sentence(words, capsys):
    words[2] = "absent.txt"
    assert main(words) == 1
    assert "must name two text files" in capsys.readouterr().err
