"""A causal embedder in int8 and a language model that reranks, from a build to a server's answers."""

import numpy as np
import pytest
from stacks import ROOT, start_server

from models import libraries
from models.cases import TEMPLATE
from trireme.artifacts.build import BuildOptions
from trireme.artifacts.recipe import RECIPE_FILE, write_recipe
from trireme.export.new_recipe import make_recipe
from trireme.export.pair_prompt import write_chat_template
from trireme.export.pipeline import build_model
from trireme.triton.client import TritonClient

pytestmark = pytest.mark.e2e
PROMPT = "Instruct: find passages\nQuery: "


@pytest.fixture(scope="module")
def sources(make_checkpoint, tmp_path_factory):
    """An embedder and a reranker, as people have them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    folder = tmp_path_factory.mktemp("sources")
    plain = make_checkpoint(folder / "plain", "qwen3")
    modules = [Transformer(str(plain)), Pooling(32, "lasttoken"), Normalize()]
    prompts = {"query": PROMPT, "document": ""}
    SentenceTransformer(modules=modules, prompts=prompts).save_pretrained(str(folder / "embedder"))
    make_checkpoint(folder / "reranker", "qwen3", head="ForCausalLM")
    return folder


@pytest.fixture(scope="module")
def client(sources, tmp_path_factory):
    # The cache of sources is no model.
    repository = tmp_path_factory.mktemp("served") / "models"
    loose = {"min_cosine": 0.9, "mean_cosine": 0.95}
    options = BuildOptions(repository, repository.parent / "cache", ROOT)
    for name, kind, keys in (
        ("embedder", "text_encoder", {"engine": "onnx", "precision": "int8", **loose}),
        ("reranker", "cross_encoder", {"engine": "openvino", "template": TEMPLATE}),
    ):
        recipe = make_recipe(name, {"kind": kind, "source": str(sources / name), **keys}, options.cache)
        build_model(recipe, options)
        write_recipe(repository / name / RECIPE_FILE, recipe)
    with start_server(repository, tmp_path_factory.mktemp("server")) as server:
        server.wait_until_ready()
        with TritonClient(f"{server.config.host}:{server.config.grpc_port}") as opened:
            yield opened


def test_a_causal_embedder_in_int8_gives_nearly_the_librarys_vectors(client, sources):
    expected = libraries.embed(sources / "embedder")[: len(libraries.TEXTS)]
    texts = [[text] for text in libraries.TEXTS]
    answer = client.infer("embedder", {"text": texts, "input_type": [["query"]] * len(texts)})
    cosines = (answer["embedding"] * expected).sum(1)
    assert cosines.min() > 0.9


def test_a_language_model_that_answers_yes_or_no_ranks_as_its_library_does(client, sources):
    expected = libraries.score(sources / "reranker", write_chat_template(TEMPLATE))
    for query, scores in zip(libraries.QUERIES, expected, strict=True):
        answer = client.infer("reranker", {"query": [[query]], "passages": [list(libraries.TEXTS)]})
        spread = float(np.ptp(expected))
        assert answer["score"][0].tolist() == pytest.approx(scores.tolist(), abs=1e-3 * spread)
