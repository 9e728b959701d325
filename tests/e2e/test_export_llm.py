"""The default LLM's checkpoints through build/export_llm.py, and what OpenVINO GenAI then writes."""

import json
import subprocess
import sys

import numpy as np
import pytest
from stacks import ROOT

from trireme.artifacts.manifest import hash_file, read_manifest, verify_files
from trireme.checkpoints.config import read_config
from trireme.export_llm.architecture import read_architecture
from trireme.export_llm.quantization import read_quantization
from trireme.export_llm.reference import compute_logits
from trireme.export_llm.serving_files import ServedGraph
from trireme.export_llm.weights import Weights
from trireme.generate.openvino_properties import compile_properties

CHECKPOINTS = sorted(path.parent for path in (ROOT / "defaults").glob("llm*/model.safetensors"))
GOLDEN = json.loads((ROOT / "defaults" / "llm" / "golden.json").read_text())["cases"]
NEW_TOKENS = 24


def export(source, repository, *more):
    command = [sys.executable, "build/export_llm.py", str(source), "--name", "m"]
    command += ["--repository", str(repository), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=CHECKPOINTS, ids=lambda path: path.name)
def exported(request, tmp_path_factory):
    """(checkpoint folder, placed version folder) on the CPU."""
    repository = tmp_path_factory.mktemp("models")
    printed = export(request.param, repository)
    assert "m: built: cpu" in printed and "logit_error" in printed
    assert "already built" in export(request.param, repository)
    return request.param, repository / "m" / "1"


def reference(source, ids):
    config = read_config(source)
    weights = Weights(source, read_architecture(config), read_quantization(config))
    return compute_logits(weights, [ids])[0]


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


def test_the_placed_files_are_whole_and_passed_the_gate(exported):
    source, version = exported
    manifest = read_manifest(version)
    verify_files(version, manifest)
    assert manifest.figures["logit_error"] < 0.05 and manifest.figures["top1_agreement"] >= 0.95
    quantization = read_quantization(read_config(source))
    assert manifest.precision == (quantization.precision if quantization else "fp16")
    if quantization:
        assert manifest.sizes["openvino_model.bin"] < 1.05 * (source / "model.safetensors").stat().st_size


def test_the_pipeline_writes_what_the_checkpoint_finds_likeliest(exported):
    source, version = exported
    prompts = [case["token_ids"] for case in GOLDEN]
    behind = []
    for ids, made in zip(prompts, generate(version, prompts), strict=True):
        assert len(made) == NEW_TOKENS
        logits = reference(source, [*ids, *made])[len(ids) - 1 : -1]
        chosen = logits[np.arange(NEW_TOKENS), made]
        behind += list(logits.max(axis=-1) - chosen)
    # Rounding may prefer a token that is as likely; never one that is clearly less so.
    assert max(behind) < 0.5
    assert np.mean(np.array(behind) == 0) > 0.9


@pytest.mark.parametrize("exported", [ROOT / "defaults" / "llm"], indirect=True, ids=["llm"])
def test_the_golden_next_tokens_of_the_float_model_come_out(exported):
    _, version = exported
    longest = max(len(case["token_ids"]) for case in GOLDEN)
    served = ServedGraph(version / "openvino_model.xml", compile_properties(), longest)
    for case in GOLDEN:
        logits = served.logits(case["token_ids"])[-1].astype(np.float64)
        found = logits - np.logaddexp.reduce(logits)
        np.testing.assert_allclose(found[case["top_token_ids"]], case["top_logprobs"], atol=0.15)


def test_the_gpu_reads_the_same_checkpoint_untouched(exported, tmp_path):
    source, _ = exported
    export(source, tmp_path, "--target", "gpu")
    version = tmp_path / "m" / "1"
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert hash_file(version / name) == hash_file(source / name)
    verify_files(version, read_manifest(version))
