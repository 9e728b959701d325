"""Real quantizers on a small Llama that is trained for seconds, and its checkpoints read by the layout in docs.

The quantizers have an environment of their own: .venv-quantize beside .venv, or the interpreter that
QUANTIZE_PYTHON names.
"""

import json
import os
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from stacks import ROOT

PYTHON = Path(os.environ.get("QUANTIZE_PYTHON", ROOT / ".venv-quantize" / "bin" / "python"))
SCRIPT = ROOT / "build" / "quantize_llm.py"
SAMPLE = ROOT / "defaults" / "calibration.txt"
SIZES = {
    "vocab_size": 512,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
}
STEPS, ROWS, LENGTH = 120, 16, 128
SHORT = ("--samples", "16", "--sequence-length", "128", "--eval-tokens", "4096")
METHODS = {
    "awq": ("--method", "awq", "--group-size", "64"),
    "gptq": ("--method", "gptq"),
    "gptq-asymmetric": ("--method", "gptq", "--no-sym", "--group-size", "32"),
    "gptq-int8": ("--method", "gptq", "--bits", "8"),
    "bnb-nf4": ("--method", "bnb-nf4"),
    "bnb-int8": ("--method", "bnb-int8"),
}
CLASSIC = [name for name in METHODS if not name.startswith("bnb")]
# In AWQ's words, column 8 j + c is the nibble at this place, counted from the lowest.
AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
PROGRESS = re.compile(r"(quantize|evaluate): \d+ of \d+ (layers|windows), [\d.]+ (s|min|h) left")
# gptqmodel's own search beside ours, in float32 and with fewer tokens than it leaves out.
COMPARE_BOUNDS = """
from types import SimpleNamespace
import torch
from gptqmodel.looper.awq_processor import AWQProcessor
from trireme.quantize.clipping import find_bounds
from trireme.quantize.gptq import clip_by_moments

torch.manual_seed(7)
theirs = AWQProcessor.__new__(AWQProcessor)
theirs.qcfg = SimpleNamespace(group_size=32, sym=False, bits=4)
weight = torch.randn(128, 256) * (1 + 5 * (torch.rand(128, 256) > 0.97))
inputs = torch.randn(2, 200, 256) * torch.rand(256)
expected = theirs._compute_best_clip(weight, inputs)
found = find_bounds(weight, inputs, 32, theirs._pseudo_quantize_tensor_into)
assert found.shape == expected.shape, (found.shape, expected.shape)
print("EQUAL", (found == expected).float().mean().item())
print("CLIPPED", (expected < weight.view(128, 8, 32).abs().amax(-1, keepdim=True)).float().mean().item())
from gptqmodel.looper import awq_processor
with clip_by_moments():
    ours = awq_processor.AWQProcessor.__new__(awq_processor.AWQProcessor)
    ours.qcfg = theirs.qcfg
    assert isinstance(ours, AWQProcessor) and torch.equal(ours._compute_best_clip(weight, inputs), found)
    assert type(ours)._search_best_clip is AWQProcessor._search_best_clip
assert awq_processor.AWQProcessor is AWQProcessor
"""
LOAD_AND_GENERATE = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], local_files_only=True, device_map="cpu")
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
ids = tokenizer("The server ", return_tensors="pt").input_ids
made = model.generate(ids, max_new_tokens=6, do_sample=False, pad_token_id=1)
print("GENERATED", made.shape[1] - ids.shape[1])
"""


@pytest.fixture(scope="session", autouse=True)
def built_models():
    """The served models play no part here."""


@pytest.fixture(scope="module")
def environment():
    if not PYTHON.is_file():
        pytest.skip("no .venv-quantize (make quantize-env), and QUANTIZE_PYTHON names no interpreter")
    return PYTHON


@pytest.fixture(scope="module")
def trained(environment, tmp_path_factory):
    """A Llama of 0.5 M parameters that has read the built-in sample for a few seconds."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("trained")
    ids = torch.tensor(make_tokenizer(folder, SAMPLE.read_text(encoding="utf-8")))
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, bos_token_id=0, eos_token_id=1)
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(STEPS):
        starts = torch.randint(len(ids) - LENGTH, (ROWS,))
        batch = torch.stack([ids[start : start + LENGTH] for start in starts.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 4.5, "it learned something: guessing is 6.2"
    model.bfloat16().save_pretrained(folder)
    return folder


def make_tokenizer(folder, text):
    """Writes a byte-level BPE of the text; returns the text's ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZES["vocab_size"], special_tokens=["<s>", "</s>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator([text], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return tokenizer.encode(text).ids


def run_script(environment, folder, *arguments):
    command = [environment, SCRIPT, *arguments, "--log", folder / "libraries.log"]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=folder)


@pytest.fixture(scope="module")
def quantize(environment, trained, tmp_path_factory):
    """quantize(name) -> (folder, finished process), run once for each method."""
    made = {}
    folder = tmp_path_factory.mktemp("quantized")

    def get(name):
        if name not in made:
            made[name] = run_script(environment, folder, trained, folder / name, *METHODS[name], *SHORT)
        assert made[name].returncode == 0, made[name].stderr
        return folder / name, made[name]

    return get


@pytest.mark.parametrize("name", METHODS)
def test_a_checkpoint_passes_its_gate_and_is_whole(quantize, trained, name):
    from trireme.quantize.manifest import read_quantization, verify_quantization

    folder, done = quantize(name)
    manifest = read_quantization(folder)
    verify_quantization(folder, manifest)
    figures, limits = manifest.figures, manifest.thresholds
    assert figures["perplexity_original"] < 100
    assert 0 < figures["kl"] <= limits["max_kl"]
    assert figures["agreement"] >= limits["min_agreement"]
    assert "tokenizer.json" in manifest.files and "config.json" in manifest.files
    assert (folder / "tokenizer.json").read_bytes() == (trained / "tokenizer.json").read_bytes()
    assert f"{name}: made: {manifest.method}" in done.stdout


@pytest.mark.parametrize("name", METHODS)
def test_people_read_our_lines_and_the_log_holds_the_libraries(quantize, name):
    _, done = quantize(name)
    # How many lines say how far it is depends on the machine.
    lines = [line for line in done.stderr.splitlines() if not PROGRESS.fullmatch(line)]
    assert len(lines) == 3 and "estimate:" in lines[0] and lines[1:] == ["quantize", "evaluate"]
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.parametrize("name", METHODS)
def test_plain_transformers_loads_and_generates(quantize, environment, name):
    folder, _ = quantize(name)
    done = subprocess.run([environment, "-c", LOAD_AND_GENERATE, folder], capture_output=True, text=True)
    assert "GENERATED 6" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize("name", METHODS)
def test_the_config_says_the_bytes_of_every_quantized_checkpoint(quantize, trained, name):
    from trireme.checkpoints.tensors import TensorFiles
    from trireme.quantize.manifest import read_quantization
    from trireme.quantize.sizes import read_shape, stored_bytes

    folder, _ = quantize(name)
    made = read_quantization(folder)
    shape = read_shape("trained", json.loads((trained / "config.json").read_text()))
    written = sum(entry.size for entry in TensorFiles(folder).entries.values())
    assert stored_bytes(shape.all_linears, shape.kept, made.method, made.bits, made.group_size) == written


def test_bounds_are_those_of_gptqmodel_and_its_class_comes_back(environment):
    done = subprocess.run([environment, "-c", COMPARE_BOUNDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(line.split() for line in done.stdout.splitlines() if line.startswith(("EQUAL", "CLIPPED")))
    # Sums in another order may decide between two bounds that are as good as equal.
    assert float(said["EQUAL"]) > 0.99 and 0.1 < float(said["CLIPPED"]) < 0.9


def test_an_estimate_quantizes_nothing_and_names_every_method(environment, trained, tmp_path):
    done = run_script(environment, tmp_path, "--estimate", trained)
    assert done.returncode == 0, done.stderr
    assert all(f" {method} " in done.stdout for method in ("awq", "gptq", "bnb-nf4", "bnb-int8", "none"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", CLASSIC)
def test_the_documented_layout_gives_back_the_measured_model(quantize, trained, name):
    """Integers, zero points and scales read with numpy, as an importer would, have the manifest's figures."""
    from trireme.quantize.evaluate import judge, keep_weights, use_float_activations
    from trireme.quantize.recipe import QuantizeRecipe
    from trireme.quantize.texts import read_texts
    from trireme.quantize.unquantized import load_original, open_tokenizer

    folder, _ = quantize(name)
    manifest = json.loads((folder / "quantization.json").read_text())
    original, dense = load_original(trained, "cpu"), load_original(trained, "cpu")
    dense.load_state_dict(read_dense(folder), strict=False)
    for model in (original, dense):
        use_float_activations(model, keep_weights)
    recipe = QuantizeRecipe("m", manifest["method"], samples=16, sequence_length=128, eval_tokens=4096)
    encode, prefix = open_tokenizer(trained)
    passage = read_texts(recipe, encode, prefix, SAMPLE, SIZES["max_position_embeddings"]).evaluation
    assert passage.digest == manifest["evaluation"]["sha256"]
    figures = judge(original, dense, passage.windows, lambda: None)
    assert figures.perplexity == pytest.approx(manifest["figures"]["perplexity"], rel=1e-3)
    assert figures.kl == pytest.approx(manifest["figures"]["kl"], rel=0.05, abs=1e-5)


def read_dense(folder):
    """The checkpoint's tensors with every packed projection as a dense weight [outputs, inputs]."""
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    unpack = unpack_awq if config["quant_method"] == "awq" else partial(unpack_gptq, bits=config["bits"])
    dense = {}
    for name, tensor in stored.items():
        base, _, last = name.rpartition(".")
        if last == "qweight":
            words = {key: stored[f"{base}.{key}"] for key in ("qweight", "qzeros")}
            integers, zeros = unpack(**{key: value.numpy().view(np.uint32) for key, value in words.items()})
            group = np.arange(len(integers)) // config["group_size"]
            if config["quant_method"] == "gptq":
                assert (stored[f"{base}.g_idx"].numpy() == group).all()
            scales = stored[f"{base}.scales"].float().numpy()
            weight = (integers - zeros[group]) * scales[group]
            dense[f"{base}.weight"] = torch.from_numpy(weight.astype(np.float32).T.copy())
        elif last not in ("qzeros", "scales", "g_idx"):
            dense[name] = tensor
    return dense


def unpack_awq(qweight, qzeros):
    """Integers [inputs, outputs] and zero points [groups, outputs]: eight columns in a word, interleaved."""

    def spread(words):
        nibbles = (words[:, :, None] >> (4 * np.array(AWQ_PLACES, np.uint32))) & 15
        return nibbles.reshape(len(words), -1).astype(np.int64)

    return spread(qweight), spread(qzeros)


def unpack_gptq(qweight, qzeros, bits):
    """The same of GPTQ: rows of the weight in a word, columns of the zero points, stored less one."""
    shifts = bits * np.arange(32 // bits, dtype=np.uint32)
    mask = 2**bits - 1
    integers = ((qweight[:, None, :] >> shifts[None, :, None]) & mask).reshape(-1, qweight.shape[1])
    zeros = ((qzeros[:, :, None] >> shifts) & mask).reshape(len(qzeros), -1)
    return integers.astype(np.int64), zeros.astype(np.int64) + 1


def test_the_configs_are_those_of_auto_awq_and_auto_gptq(quantize):
    awq = json.loads((quantize("awq")[0] / "config.json").read_text())["quantization_config"]
    assert {key: awq[key] for key in ("quant_method", "version", "zero_point", "bits", "group_size")} == {
        "quant_method": "awq",
        "version": "gemm",
        "zero_point": True,
        "bits": 4,
        "group_size": 64,
    }
    gptq = json.loads((quantize("gptq")[0] / "config.json").read_text())["quantization_config"]
    assert (gptq["quant_method"], gptq["checkpoint_format"]) == ("gptq", "gptq")
    assert (gptq["desc_act"], gptq["sym"], gptq["bits"], gptq["group_size"]) == (False, True, 4, 128)


@pytest.mark.parametrize("name", ["awq", "gptq"])
def test_the_same_inputs_give_the_same_bytes(quantize, environment, trained, tmp_path, name):
    folder, _ = quantize(name)
    done = run_script(environment, tmp_path, trained, tmp_path / "again", *METHODS[name], *SHORT)
    assert done.returncode == 0, done.stderr
    first, second = (
        json.loads((path / "quantization.json").read_text()) for path in (folder, tmp_path / "again")
    )
    assert first["files"] == second["files"] and first["figures"] == second["figures"]


def test_a_second_run_finds_its_own_checkpoint(quantize, environment, trained, tmp_path):
    folder, _ = quantize("bnb-nf4")
    copy = shutil.copytree(folder, tmp_path / "bnb-nf4")
    done = run_script(environment, tmp_path, trained, copy, *METHODS["bnb-nf4"], *SHORT)
    assert done.returncode == 0 and "already made from the same inputs" in done.stdout


def test_past_the_gate_the_script_fails_names_the_figure_and_places_nothing(environment, trained, tmp_path):
    done = run_script(
        environment, tmp_path, trained, tmp_path / "out", "--method", "gptq", *SHORT, "--max-kl", "0.0000001"
    )
    assert done.returncode == 1
    [said] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "kl 0.0" in said and "is above 1e-07" in said and "nothing was placed" in said
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["libraries.log"]


def test_in_the_wrong_environment_the_script_says_what_to_run(tmp_path):
    import sys

    source = tmp_path / "source"
    source.mkdir()
    done = run_script(sys.executable, tmp_path, source, tmp_path / "out", "--method", "awq")
    assert done.returncode == 1 and "make quantize-env" in done.stderr
    assert "Traceback" not in done.stderr
