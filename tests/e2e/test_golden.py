"""Encoders against golden vectors of the published checkpoint, and every batch against its single texts."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from trireme.artifacts.recipe import read_recipe
from trireme.encode.session import OnnxSession
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.encode.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
# int8 activations are quantized per run, with one scale for all texts in it. Measured over 400 SQuAD questions and
# paragraphs on a CPU without VNNI: alone against batches of 64, cosine 0.981 at worst and 0.993 on average; against
# fp32, 0.984 at worst and 0.994 on average. The bounds leave room for odd texts and other CPUs.
INT8_TO_FP32 = 0.95
INT8_ALONE_TO_BATCHED = 0.96


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
    from trireme.export.checkpoint import read_checkpoint
    from trireme.export.graph import export_onnx, load_graph
    from trireme.export.source import fetch_source

    recipe = read_recipe(ROOT / "model_repository/embedding/recipe.toml")
    checkpoint = read_checkpoint(fetch_source(recipe, ROOT / ".trireme/sources"), recipe.kind)
    path = tmp_path_factory.mktemp("fp32") / "model.onnx"
    export_onnx(load_graph(checkpoint), path)
    tokenizer = Tokenizer.load(ROOT / "model_repository/embedding/1/tokenizer.json", 256)
    spec = EncoderSpec(384, True, "", "", max_batch_tokens=1024, max_text_bytes=10_000)
    return TextEncoder(tokenizer, OnnxSession(path, threads=0), spec)


def embed(encoder, texts):
    (answer,), _ = encoder.embed([EmbedRequest(texts, "passage")])
    return np.stack([row.vector for row in answer])


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
