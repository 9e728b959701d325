"""A checkpoint through build/export_llm.py, and what OpenVINO GenAI writes with the default LLM's graph."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from generators import TOKENIZER, TOKENIZER_FILES, VOCABULARY, write_tiny_llm
from stacks import ROOT

from trireme.artifacts.manifest import hash_file, read_manifest, verify_files
from trireme.artifacts.recipe import read_recipe
from trireme.checkpoints.config import read_config
from trireme.checkpoints.lora import LoraAdapter
from trireme.checkpoints.source import fetch_source
from trireme.errors import UnavailableError
from trireme.export_llm.architecture import read_architecture
from trireme.export_llm.reference import compute_logits
from trireme.export_llm.weights import Weights
from trireme.generate.openvino_properties import compile_properties

DEFAULT = ROOT / "model_repository" / "llm"
GOLDEN = json.loads((ROOT / "tests" / "golden" / "llm.json").read_text())["cases"]
NEW_TOKENS = 16


def export(source, repository, *more):
    command = [sys.executable, "build/export_llm.py", str(source), "--name", "m"]
    command += ["--repository", str(repository), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny random Llama with a tokenizer of real text."""
    folder = tmp_path_factory.mktemp("source")
    write_tiny_llm(folder, VOCABULARY)
    for path in folder.glob("openvino_model.*"):
        path.unlink()
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, folder / name)
    return folder


@pytest.mark.parametrize(("precision", "named"), [("", "fp16"), ("int8", "int8")])
def test_the_placed_files_are_whole_and_passed_the_gate(source, precision, named, tmp_path):
    # Two of a random model's tokens are often as likely.
    wishes = ["--min-top1-agreement", "0.5", *(["--precision", precision] if precision else [])]
    printed = export(source, tmp_path, *wishes)
    assert f"m: built: cpu, {named}" in printed
    assert "logit_error" in printed and "kl" in printed
    assert "already built" in export(source, tmp_path, *wishes)
    manifest = read_manifest(tmp_path / "m" / "1")
    verify_files(tmp_path / "m" / "1", manifest)
    assert manifest.precision == named


def test_the_gpu_reads_the_same_checkpoint_untouched(source, tmp_path):
    export(source, tmp_path, "--target", "gpu")
    version = tmp_path / "m" / "1"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert hash_file(version / name) == hash_file(source / name)
    verify_files(version, read_manifest(version))


def default_weights():
    """The default LLM as its recipe has it, before it is rounded."""
    recipe = read_recipe(DEFAULT / "recipe.toml")
    try:
        folder = fetch_source(recipe, ROOT / ".trireme" / "sources")
    except UnavailableError as error:
        pytest.skip(str(error))
    adapter = LoraAdapter(ROOT / recipe.adapter) if recipe.adapter else None
    return Weights(folder, read_architecture(read_config(folder)), adapter=adapter)


def generate(version, prompts):
    """Greedy tokens of each prompt, all in one batch, by the pipeline that the engine runs."""
    import openvino
    import openvino_genai

    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    pipeline = openvino_genai.ContinuousBatchingPipeline(str(version), scheduler, "CPU", compile_properties())
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = NEW_TOKENS
    config.ignore_eos = True
    handles = [
        pipeline.add_request(number, openvino.Tensor(np.array([ids], np.int64)), config)
        for number, ids in enumerate(prompts)
    ]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return [handle.read_all()[0].generated_ids for handle in handles]


def test_the_default_llm_writes_what_its_checkpoint_finds_likeliest():
    prompts = [case["prompt_tokens"] for case in GOLDEN[:4]]
    made = generate(DEFAULT / "1", prompts)
    assert {len(tokens) for tokens in made} == {NEW_TOKENS}
    rows = [[*ids, *tokens] for ids, tokens in zip(prompts, made, strict=True)]
    behind = []
    for ids, tokens, logits in zip(prompts, made, compute_logits(default_weights(), rows), strict=True):
        said = logits[len(ids) - 1 : -1]
        behind += list(said.max(axis=-1) - said[np.arange(NEW_TOKENS), tokens])
    # Rounding may prefer a token that is nearly as likely; never one that is clearly less so.
    assert max(behind) < 1.0
    assert np.mean(np.array(behind) == 0) > 0.8
