"""Whole builds with the real optimum-intel; they need its environment (make optimum-env)."""

import json
from pathlib import Path

import numpy as np
import pytest

from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import Recipe
from trireme.export_llm.exported import drop_unknown_tokens
from trireme.export_llm.optimum_process import Optimum
from trireme.export_llm.pipeline import build_llm

ROOT = Path(__file__).parents[3]
NEEDS_OPTIMUM = pytest.mark.skipif(
    not Optimum(ROOT).is_there(), reason="needs .venv-optimum: make optimum-env"
)
PHI = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
GEMMA = {
    "head_dim": 16,
    "query_pre_attn_scalar": 16,
    "sliding_window": 32,
    "layer_types": ["sliding_attention", "full_attention"],
}
BEYOND = {"id": 96, "content": "<image_soft_token>", "special": True}


@pytest.fixture
def options(tmp_path):
    return BuildOptions(tmp_path / "models", tmp_path / "cache", ROOT)


def add_token(folder):
    path = folder / "tokenizer.json"
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    path.write_text(json.dumps({**json.loads(path.read_text()), "added_tokens": [{**BEYOND, **flags}]}))


def test_a_token_without_a_row_is_taken_out_and_others_stay(make_llm, tmp_path):
    folder, _ = make_llm(tmp_path / "source")
    add_token(folder)
    before = (folder / "tokenizer.json").read_text()
    drop_unknown_tokens(folder, 97)
    assert (folder / "tokenizer.json").read_text() == before
    drop_unknown_tokens(folder, 96)
    assert json.loads((folder / "tokenizer.json").read_text()) == {**json.loads(before), "added_tokens": []}


@NEEDS_OPTIMUM
def test_a_quantized_checkpoint_of_another_family_keeps_its_own_integers(make_packed, options, tmp_path):
    folder, _ = make_packed(tmp_path / "source", "awq", family="phi3", **PHI)
    loose = {"min_top1_agreement": 0.5, "max_logit_error": 0.15}
    manifest, _ = build_llm(Recipe("tiny", "generator", source=str(folder), **loose), options)
    assert manifest.precision == "awq-int4 g32" and manifest.figures["logit_error"] < 0.15
    graph = (options.repository / "tiny" / "1" / "openvino_model.xml").read_text()
    # Each of two layers: queries, keys and values together, output, gate and up together, down; integers and zeros.
    assert graph.count('element_type="u4"') == 2 * 4 * 2


@NEEDS_OPTIMUM
def test_the_engine_writes_past_the_window_of_an_exported_model_what_transformers_does(
    make_llm, torch_logits, options, tmp_path
):
    from trireme.generate.engine import EngineOptions, EngineRequest, Sampling
    from trireme.generate.openvino import OpenVinoEngine

    folder, model = make_llm(tmp_path / "source", "gemma3_text", "bfloat16", **GEMMA)
    add_token(folder)
    loose = {"min_top1_agreement": 0.5}
    manifest, _ = build_llm(Recipe("tiny", "generator", source=str(folder), **loose), options)
    version = options.repository / "tiny" / "1"
    assert "<image_soft_token>" not in (version / "tokenizer.json").read_text()
    assert "optimum environment: optimum-intel" in manifest.tools
    prompt = np.random.default_rng(3).integers(4, 96, 100).tolist()
    engine = OpenVinoEngine(EngineOptions(version, (2,), 256, threads=1, kv_cache_gb=0.1))
    try:
        greedy = Sampling(max_tokens=24, temperature=0.0, ignore_eos=True)
        engine.submit(EngineRequest("one", tuple(prompt), greedy))
        tokens: list[int] = []
        for chunks in engine.stream():
            tokens += [token for chunk in chunks for token in chunk.tokens]
            if any(chunk.is_last for chunk in chunks):
                break
    finally:
        engine.close()
    logits = torch_logits(model, prompt + tokens)[len(prompt) - 1 : -1]
    # Rounding may turn a near tie; what was taken is never far from the likeliest.
    behind = logits.max(axis=-1) - logits[np.arange(len(tokens)), tokens]
    assert len(tokens) == 24 and behind.max() < 0.02 * np.ptp(logits, axis=-1).min()
