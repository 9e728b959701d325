"""The backends of encoders over tiny files: what a request asks for is what it gets."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from fakes.encoders import NamedSession, word_tokenizer
from fakes.fake_pb import Request, arguments, strings
from trireme.artifacts.encoder_engines import ENGINES
from trireme.artifacts.manifest import Manifest, hash_file, write_manifest
from trireme.triton.backends import cross_encoder
from trireme.triton.backends import text_encoder as backend
from trireme.triton.backends.cross_encoder import CrossEncoderModel
from trireme.triton.backends.tensors import pad_vectors, pad_weights
from trireme.triton.backends.text_encoder import TextEncoderModel
from trireme.types import SparseVector, TokenRules

PARAMETERS = {
    "max_batch_tokens": 64,
    "max_text_bytes": 100,
    "threads": 0,
    "default_input_type": "query",
    "over_length": "truncate",
}
OUTPUTS = (
    "embedding",
    "token_count",
    "truncated_tokens",
    "sparse_indices",
    "sparse_weights",
    "token_vectors",
)


class Asking(Request):
    """A request that wants some outputs."""

    def __init__(self, names, **inputs):
        super().__init__(**inputs)
        self.names = names

    def requested_output_names(self):
        return self.names


@pytest.fixture
def model_dir(tmp_path, monkeypatch):
    """A folder whose files are read and whose session is made up."""
    version = tmp_path / "tiny" / "1"
    version.mkdir(parents=True)
    tokenizer = word_tokenizer()._tokenizer
    tokenizer.save(str(version / "tokenizer.json"))
    (version / "model.onnx").write_bytes(b"graph")
    names = ("model.onnx", "tokenizer.json")
    files = {name: hash_file(version / name) for name in names}
    manifest = Manifest("tiny", "text_encoder", "s", "r", "fp32", 4, 8, files, dict.fromkeys(names, 1))
    rules = TokenRules(vector_size=2, unweighted=(1, 2), skips_first=True)
    outputs = ("dense", "sparse", "multi")
    write_manifest(version, replace(manifest, normalize=True, outputs=outputs, token_rules=rules))
    monkeypatch.setattr(backend, "open_session", lambda *_: NamedSession())
    return tmp_path / "tiny"


@pytest.fixture
def load(pb, model_dir):
    loaded = []

    def make(kind=TextEncoderModel, outputs=OUTPUTS, **parameters):
        model = kind()
        model.initialize(arguments(model_dir, outputs=outputs, **PARAMETERS, **parameters))
        loaded.append(model)
        return model

    yield make
    for model in loaded:
        model.finalize()


def ask(model, names, *texts, **inputs):
    request = Asking(names, text=strings(*[[text] for text in texts]), **inputs)
    model.execute([request])
    for _ in range(500):
        if request.sent:
            break
        time.sleep(0.01)
    return request.response


def test_a_request_gets_the_outputs_that_it_asks_for_and_the_counts(load):
    model = load()
    dense = ask(model, ["embedding"], "c", "a b")
    assert set(dense.outputs) == {"embedding", "token_count", "truncated_tokens"}
    sparse = ask(model, ["sparse_indices", "sparse_weights"], "c", "d c")
    assert sparse.outputs["sparse_indices"].tolist() == [[6, -1], [6, 7]]
    assert sparse.outputs["sparse_weights"].tolist() == [[1, 0], [1, 2]]
    assert "embedding" not in sparse.outputs
    multi = ask(model, ["token_vectors"], "c", "d c")
    assert multi.outputs["token_vectors"].shape == (2, 3, 2)
    assert multi.outputs["vector_count"].tolist() == [[2], [3]]
    assert not multi.outputs["token_vectors"][0, 2].any()


def test_an_output_that_the_configuration_leaves_out_is_never_made(load):
    answer = ask(load(outputs=("embedding", "token_count", "truncated_tokens")), ["embedding"], "c")
    assert set(answer.outputs) == {"embedding", "token_count", "truncated_tokens"}


def test_a_configuration_with_an_output_that_the_files_do_not_make_is_no_model(load, model_dir, pb):
    path = model_dir / "1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outputs": ["dense", "sparse"]}))
    with pytest.raises(
        pb.TritonModelException, match="has token_vectors, its files make none; build it again"
    ):
        load()


def test_a_late_interaction_ranks_by_the_vectors_of_tokens(load, model_dir):
    path = model_dir / "1" / "manifest.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "kind": "late_interaction", "outputs": ["multi"]})
    )
    limits = {"max_passages": 5, "rerank_depth": 0, "passage_cache_bytes": 1000}
    parameters = {key: value for key, value in PARAMETERS.items() if key != "default_input_type"}
    model = CrossEncoderModel()
    model.initialize(arguments(model_dir, ("query", "passages"), **parameters, **limits))
    try:
        request = Request(query=strings(["a"]), passages=strings(["b", "a"]))
        model.execute([request])
        while not request.sent:
            time.sleep(0.01)
        assert np.argmax(request.response.outputs["score"]) == 1
    finally:
        model.finalize()


def test_rows_without_a_weight_or_a_vector_are_all_padding():
    none = SparseVector(np.zeros(0, np.int32), np.zeros(0, np.float32))
    padded = pad_weights([none, SparseVector(np.array([3], np.int32), np.array([2], np.float32))])
    assert padded["sparse_indices"].tolist() == [[-1], [3]]
    assert pad_weights([none])["sparse_weights"].shape == (1, 0)
    assert pad_vectors([np.zeros((0, 2), np.float32)])["vector_count"].tolist() == [[0]]


def test_a_rerankers_embedder_of_engine_vllm_is_refused(model_dir, monkeypatch, pb):
    monkeypatch.setattr(cross_encoder, "open_encoder_session", lambda *_, **__: NamedSession())
    path = model_dir / "1" / "manifest.json"
    kept = json.loads(path.read_text())
    changes = {"kind": "cross_encoder", "outputs": [], "needs_prior": True}
    path.write_text(
        json.dumps({name: value for name, value in {**kept, **changes}.items() if name != "token_rules"})
    )
    other = model_dir.parent / "other" / "1"
    other.mkdir(parents=True)
    files = dict.fromkeys((*ENGINES["vllm"].files, "tokenizer.json"), "0")
    write_manifest(
        other,
        Manifest(
            "other", "text_encoder", "s", "r", "bf16", 4, 8, files, dict.fromkeys(files, 1), engine="vllm"
        ),
    )
    limits = {"max_passages": 5, "rerank_depth": 0, "embedder": "other"}
    parameters = {key: value for key, value in PARAMETERS.items() if key != "default_input_type"}
    with pytest.raises(pb.TritonModelException, match="embedder other is of engine vllm"):
        CrossEncoderModel().initialize(arguments(model_dir, ("query", "passages"), **parameters, **limits))


def test_an_unloaded_model_ends_what_its_session_has_outside_of_the_process(load, monkeypatch):
    closed = []
    session = NamedSession()
    session.close = lambda: closed.append(True)
    monkeypatch.setattr(backend, "open_session", lambda *_: session)
    model = load()
    assert not closed
    model.close()
    assert closed


@pytest.mark.parametrize(("told", "share"), [({}, 0.9), ({"gpu_memory_utilization": 0.3}, 0.3)], ids=str)
def test_a_session_may_take_the_share_of_the_card_that_the_recipe_says(told, share, load, monkeypatch):
    opened = []

    def open_session(engine, folder, options):
        opened.append(options)
        return NamedSession()

    monkeypatch.setattr(backend, "open_session", open_session)
    load(**told)
    assert opened[0].gpu_memory_utilization == share
