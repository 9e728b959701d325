"""Encoders against golden vectors of the published checkpoint, and every batch against its single texts."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from trireme.artifacts.manifest import hash_file
from trireme.artifacts.recipe import read_recipe
from trireme.checkpoints.source import fetch_source
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.engines.onnx import OnnxSession
from trireme.encode.session import SessionOptions
from trireme.encode.text_encoder import EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer
from trireme.export.checkpoint import read_checkpoint
from trireme.export.graph import export_onnx, load_graph

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
# Static int8 over the exporter's 61 odd texts: against fp32, cosine 0.989 at worst and 0.995 on average (0.974 and
# 0.991 without VNNI); alone against a batch, 0.9994 at worst. The bounds leave room for other texts and CPUs.
INT8_TO_FP32 = 0.96
INT8_ALONE_TO_BATCHED = 0.99
# How far int8 may move a score. The reranker's moved by 0.013 at most in the exporter's parity run.
SCORERS = {"reranker": 0.04, "equivalence": 0.15}


@pytest.fixture(scope="module")
def texts():
    return json.loads((GOLDEN / "texts.json").read_text())


@pytest.fixture(scope="module")
def golden():
    stored = json.loads((GOLDEN / "embedding.json").read_text())
    recipe = read_recipe(ROOT / "model_repository/embedding/recipe.toml")
    assert stored["weights_sha256"] == recipe.weights_sha256, "write the golden vectors anew: make golden"
    return np.array(stored["vectors"], np.float32)


@pytest.fixture(scope="module")
def fp32(tmp_path_factory):
    """The default embedding model exported in fp32 by the same code."""
    recipe = read_recipe(ROOT / "model_repository/embedding/recipe.toml")
    checkpoint = read_checkpoint(fetch_source(recipe, ROOT / ".trireme/sources"), recipe.kind)
    path = tmp_path_factory.mktemp("fp32") / "model.onnx"
    export_onnx(load_graph(checkpoint), path)
    tokenizer = Tokenizer.load(ROOT / "model_repository/embedding/1/tokenizer.json", 256)
    spec = EncoderSpec(384, True, "", "", max_batch_tokens=1024, max_text_bytes=10_000)
    return TextEncoder(tokenizer, OnnxSession(path.parent, SessionOptions()), spec)


def embed(encoder, texts):
    return np.stack([row.vector for row in encoder.embed(texts, "passage")])


def mixed_texts(texts, count=60):
    rng = random.Random(3)
    words = " ".join(texts).split()
    return [" ".join(rng.choices(words, k=rng.choice([1, 4, 12, 60, 200]))) for _ in range(count)]


def test_the_fp32_export_equals_the_golden_vectors(fp32, texts, golden):
    assert ((embed(fp32, texts) * golden).sum(1) > 0.9999).all()


def test_in_fp32_a_text_has_the_same_vector_alone_and_in_any_batch(fp32, texts):
    mixed = mixed_texts(texts)
    together = embed(fp32, mixed)
    alone = np.concatenate([embed(fp32, [text]) for text in mixed])
    assert ((together * alone).sum(1) > 0.9999).all()


def test_the_served_model_is_near_the_golden_vectors(client, texts, golden):
    served = client.embed(texts, "passage")
    assert ((served * golden).sum(1) > INT8_TO_FP32).all()


def test_the_served_model_gives_a_text_nearly_the_same_vector_alone_and_in_a_batch(client, texts):
    mixed = mixed_texts(texts)
    together = client.embed(mixed, "passage", batch_size=64)
    alone = client.embed(mixed, "passage", batch_size=1)
    assert ((together * alone).sum(1) > INT8_ALONE_TO_BATCHED).all()


def test_neighbours_stay_neighbours_in_int8(client, texts, golden):
    served = client.embed(texts, "passage")
    original, found = golden @ golden.T, served @ served.T
    assert np.abs(original - found).max() < 0.08


def read_pairs(name):
    return json.loads(
        (GOLDEN / {"reranker": "pairs.json", "equivalence": "questions.json"}[name]).read_text()
    )


def read_scores(name):
    stored = json.loads((GOLDEN / f"{name}.json").read_text())
    found = hash_file(ROOT / "defaults" / name / "adapter.safetensors")
    assert stored["adapter_sha256"] == found, "write the golden scores anew: make golden"
    return stored["scores"]


@pytest.mark.parametrize("name", SCORERS)
def test_the_fp32_export_of_a_model_with_an_adapter_equals_the_golden_scores(tmp_path, name):
    pairs, golden_scores = read_pairs(name), read_scores(name)
    recipe = read_recipe(ROOT / f"model_repository/{name}/recipe.toml")
    folder = fetch_source(recipe, ROOT / ".trireme/sources")
    checkpoint = read_checkpoint(folder, recipe.kind, has_adapter=True)
    export_onnx(load_graph(checkpoint, ROOT / recipe.adapter), tmp_path / "model.onnx")
    tokenizer = Tokenizer.load(ROOT / f"model_repository/{name}/1/tokenizer.json", 256)
    spec = RankerSpec(max_batch_tokens=2048, max_text_bytes=10_000, max_passages=100, needs_prior=True)
    ranker = CrossEncoder(tokenizer, OnnxSession(tmp_path, SessionOptions()), spec)
    request = RankRequest(pairs["query"], pairs["passages"], np.array(pairs["prior"], np.float32))
    [answer] = ranker.rank([request]).result()
    ranker.close()
    assert answer.score.tolist() == pytest.approx(golden_scores, abs=1e-4)


@pytest.mark.parametrize("name", SCORERS)
def test_a_served_model_with_an_adapter_is_near_the_golden_scores_in_the_same_order(client, name):
    pairs, golden_scores = read_pairs(name), read_scores(name)
    inputs = {"query": [[pairs["query"]]], "passages": [pairs["passages"]], "prior": [pairs["prior"]]}
    scores = client.infer(name, inputs)["score"][0]
    assert scores.tolist() == pytest.approx(golden_scores, abs=SCORERS[name])
    assert np.argsort(-scores).tolist()[:2] == np.argsort(golden_scores)[::-1].tolist()[:2]
