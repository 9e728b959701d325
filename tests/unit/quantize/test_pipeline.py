import json
import shutil
import sys
from dataclasses import replace

import pytest

from trireme.errors import ArtifactError, GateError, InvalidInputError, UnavailableError, UnsupportedError
from trireme.quantize import unquantized
from trireme.quantize.manifest import read_quantization, verify_quantization
from trireme.quantize.pipeline import RunOptions, RunWatch, quantize_checkpoint
from trireme.quantize.recipe import QuantizeRecipe


@pytest.fixture
def options(sample, tmp_path):
    return RunOptions(sample, tmp_path / "cache", tmp_path / "log.txt")


def recipe(source, **keys):
    return QuantizeRecipe(
        str(source), **{"method": "none", "sequence_length": 64, "eval_tokens": 512, **keys}
    )


@pytest.fixture
def out(tmp_path):
    return tmp_path / "placed" / "model"


def test_a_run_places_a_whole_checkpoint_with_its_manifest(llama, options, out):
    steps = []
    watch = RunWatch(
        estimated=lambda model, estimate: steps.append(("estimated", estimate.output_bytes)),
        begin=lambda step, total: steps.append((step, total)),
    )
    manifest, was_made = quantize_checkpoint(recipe(llama), out, options, watch)
    assert was_made and read_quantization(out) == manifest
    verify_quantization(out, manifest)
    assert sorted(manifest.files) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert [step for step, _ in steps] == ["read", "estimated", "quantize", "evaluate"]
    assert dict(steps)["evaluate"] == manifest.evaluation["windows"] == 8
    estimated = dict(steps)["estimated"]
    assert estimated <= manifest.sizes["model.safetensors"] <= 1.05 * estimated + 4_000
    # bfloat16 against float32: near, not equal.
    assert manifest.figures["perplexity_ratio"] == pytest.approx(1.0, abs=1e-3)
    assert 0.9 < manifest.figures["agreement"] <= 1.0
    assert manifest.source == llama.name, "an absolute path is cut to its name"
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_the_same_inputs_are_quantized_once(llama, options, out, tmp_path):
    first, _ = quantize_checkpoint(recipe(llama), out, options)
    moved = shutil.copytree(llama, tmp_path / "moved")
    assert quantize_checkpoint(recipe(moved), out, options) == (first, False)
    with pytest.raises(InvalidInputError, match="made of other inputs; --force replaces it"):
        quantize_checkpoint(recipe(llama, eval_tokens=256), out, options)
    again, was_made = quantize_checkpoint(recipe(llama), out, replace(options, force=True))
    assert was_made and again.files == first.files, "the same inputs give the same bytes"


def test_a_damaged_folder_is_not_taken_for_the_same(llama, options, out):
    quantize_checkpoint(recipe(llama), out, options)
    (out / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(InvalidInputError, match="is there and not whole"):
        quantize_checkpoint(recipe(llama), out, options)


def test_a_figure_past_the_gate_places_nothing(llama, options, out):
    with pytest.raises(GateError, match=r"perplexity_ratio .* is above 0\.5"):
        quantize_checkpoint(recipe(llama, max_perplexity_ratio=0.5), out, options)
    assert list(out.parent.iterdir()) == []


def test_a_figure_past_the_gate_leaves_the_checkpoint_of_before(llama, options, out):
    before, _ = quantize_checkpoint(recipe(llama), out, options)
    forced = replace(options, force=True)
    with pytest.raises(GateError):
        quantize_checkpoint(recipe(llama, max_perplexity_ratio=0.5), out, forced)
    assert read_quantization(out) == before
    verify_quantization(out, before)


def test_an_error_of_a_library_is_ours_and_names_the_log(llama, options, out, monkeypatch):
    def fail(model, stage):
        (stage / "half.safetensors").write_text("x")
        print("what the library says")
        raise KeyError("q_proj")

    monkeypatch.setattr(unquantized, "write_half", fail)
    with pytest.raises(ArtifactError, match=r"KeyError: 'q_proj'; what led to it is in .*log\.txt"):
        quantize_checkpoint(recipe(llama), out, options)
    assert list(out.parent.iterdir()) == []


def test_running_out_of_memory_is_said_as_such(llama, options, out, monkeypatch):
    def fail(model, stage):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(unquantized, "write_half", fail)
    with pytest.raises(UnavailableError, match=r"out of memory: .*; lower --samples"):
        quantize_checkpoint(recipe(llama), out, options)


def test_what_cannot_be_quantized_is_refused_before_anything_is_written(llama, options, out, tmp_path):
    with pytest.raises(InvalidInputError, match="pin a revision of some/model"):
        quantize_checkpoint(recipe("some/model"), out, options)
    pickled = shutil.copytree(llama, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin is a pickle"):
        quantize_checkpoint(recipe(pickled), out, options)
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    with pytest.raises(InvalidInputError, match=r"eval text short\.txt has 10 tokens"):
        quantize_checkpoint(recipe(llama, eval=str(short)), out, options)
    assert not out.parent.exists()


def test_without_gptqmodel_a_run_says_what_to_install(llama, options, out, monkeypatch):
    monkeypatch.setitem(sys.modules, "gptqmodel", None)
    with pytest.raises(UnavailableError, match="make quantize-env"):
        quantize_checkpoint(recipe(llama, method="awq"), out, options)


def test_a_missing_gpu_is_said(llama, options, out, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnavailableError, match="torch sees no GPU; use --device cpu"):
        quantize_checkpoint(recipe(llama, device="cuda"), out, options)
