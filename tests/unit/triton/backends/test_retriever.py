import dataclasses
import json

import numpy as np
import pytest

import trireme.triton.backends.retriever as module
from fakes import fake_pb
from fakes.fake_pb import Answer, arguments, strings
from fakes.memory_store import MemoryStore
from trireme.artifacts.manifest import Manifest, read_manifest, write_manifest
from trireme.artifacts.recipe import Recipe, write_recipe
from trireme.retrieve.store import LACKING_WORDS
from trireme.triton.backends.retriever import RetrieverModel
from trireme.types import Passage, SparseVector

TEXTS = {"oars": "three banks of oars", "fish": "fish at the market", "harbour": "a ship in the harbour"}
PARAMETERS = {
    "embedder": "first",
    "default_top_k": 2,
    "max_top_k": 5,
    "candidates": 0,
    "pool_size": 1,
    "exact_below": 10,
    "ef_search": 10,
    "search_mode": "dense",
    "text_weight": 0.7,
    "dense_candidates": 10,
    "text_candidates": 10,
}


def make_model(repository, name, dimensions, outputs=()):
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    files = dict.fromkeys(("model.onnx", "tokenizer.json"), name * 8)
    sizes = dict.fromkeys(files, 1)
    write_manifest(
        folder,
        Manifest(
            name, "text_encoder", "x", "", "fp32", dimensions, 64, files=files, sizes=sizes, outputs=outputs
        ),
    )
    write_recipe(repository / name / "recipe.toml", Recipe(name, "text_encoder", source="x"))
    return read_manifest(folder).embedder


def embed(texts, embedder):
    """Vectors along the axis of the text, in another order for each embedder."""
    vectors = np.zeros((len(texts), embedder.dimensions), np.float32)
    for row, text in enumerate(texts):
        axis = list(TEXTS.values()).index(text)
        vectors[row, axis if embedder.dimensions == 4 else embedder.dimensions - 1 - axis] = 1.0
    return vectors


def weigh(text):
    """Weight 2 of the term that is the text's place."""
    return SparseVector(np.array([list(TEXTS.values()).index(text)], np.int32), np.array([2.0], np.float32))


class Stack:
    """A retriever over a store in memory and its embedders, of which the other models may be loaded."""

    def __init__(self, repository):
        self.store = MemoryStore()
        self.embedders = {
            name: make_model(repository, name, size, outputs)
            for name, size, outputs in (("first", 4, ()), ("new", 6, ()), ("splade", 0, ("sparse",)))
        }
        (repository / "retriever").mkdir()
        self.model = RetrieverModel()
        self.asked = []
        rows = [Passage(id_, text, json.dumps({"kind": id_})) for id_, text in TEXTS.items()]
        first = self.embedders["first"]
        self.store.put("default", "default", first, rows, embed(list(TEXTS.values()), first))

    def load_model(self, name):
        def answer(inputs):
            text = inputs["text"][0, 0].decode()
            assert inputs["input_type"][0, 0] == b"query"
            self.asked.append((name, text))
            if name == "splade":
                # Filled up, as beside a longer row.
                weights = weigh(text)
                return Answer(
                    {
                        "sparse_indices": np.array([[*weights.indices, -1]], np.int32),
                        "sparse_weights": np.array([[*weights.weights, 0]], np.float32),
                    }
                )
            return Answer({"embedding": embed([text], self.embedders[name])})

        fake_pb.InferenceRequest.models[name] = answer

    def reindex(self, name, model_name=None):
        embedder = self.embedders[name]
        version = self.store.versions.begin(
            "default", "default", embedder, name if model_name is None else model_name
        )
        while left := self.store.versions.missing(version.number, 10):
            texts = [one.text for one in left]
            sparse = [weigh(text) for text in texts] if name == "splade" else None
            vectors = embed(texts, embedder) if embedder.dimensions else np.zeros((len(texts), 0), np.float32)
            self.store.versions.fill(version.number, [one.key for one in left], vectors, sparse)
        self.store.versions.switch(version.number)

    def ask(self, text="three banks of oars", **inputs):
        tensors = {"embedding": embed([text], self.embedders["first"]), "query": strings([text])}
        tensors |= {
            name: strings([value]) if isinstance(value, str) else value for name, value in inputs.items()
        }
        (answer,) = self.model.execute([tensors])
        return answer


@pytest.fixture
def stack(pb, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIREME_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    monkeypatch.setattr(fake_pb.InferenceRequest, "models", {})
    made = Stack(tmp_path)
    monkeypatch.setattr(module, "open_store", lambda *_, **__: made.store)
    made.model.initialize(arguments(tmp_path / "retriever", **PARAMETERS))
    yield made
    made.model.finalize()


def ids(answer):
    assert answer.error is None, answer.error.message
    return [value.decode() for value in answer.outputs["id"][0]]


def test_the_nearest_passages_come_back_with_score_and_rank_score(stack):
    answer = stack.ask()
    assert ids(answer) == ["oars", "fish"]
    assert answer.outputs["score"][0].tolist() == [1.0, 0.0]
    assert answer.outputs["rank_score"][0].tolist() == [1.0, 0.0]


def test_the_prior_is_the_cosine_less_what_a_passage_lacks_of_the_words(stack):
    answer = stack.ask(search_mode="hybrid")
    assert answer.outputs["score"][0].tolist() == [1.0, 0.0]
    first, second = answer.outputs["prior"][0]
    assert first == 1.0 and -LACKING_WORDS <= second < 0
    # The cosines are 1, 0 and 0.
    coverage = -second / LACKING_WORDS
    assert answer.outputs["rank_score"][0] == pytest.approx([1 + 0.7 * coverage * np.std([1, 0, 0]), 0.0])


def test_without_words_the_prior_is_the_cosine(stack):
    assert stack.ask().outputs["prior"][0].tolist() == [1.0, 0.0]


def test_filter_and_search_mode_reach_the_store(stack):
    assert ids(stack.ask(filter='{"kind": "fish"}')) == ["fish"]
    assert ids(stack.ask("fish at the market", search_mode="text")) == ["fish"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"filter": "{"}, "filter is not JSON"),
        ({"filter": "[1]"}, "JSON object"),
        ({"search_mode": "nearest"}, "dense, text, sparse, hybrid"),
        ({"embedding": np.ones((1, 5), np.float32)}, "5 dimensions"),
    ],
)
def test_what_is_wrong_is_named(stack, inputs, words):
    answer = stack.ask(**inputs)
    assert answer.error.code == "INVALID_ARG"
    assert words in answer.error.message


def test_after_a_switch_the_query_is_embedded_by_the_new_model(stack):
    stack.load_model("new")
    stack.reindex("new")
    for _ in range(2):
        assert ids(stack.ask("a ship in the harbour"))[0] == "harbour"
    assert stack.asked == [("new", "a ship in the harbour")] * 2


def test_after_a_rollback_the_requests_own_vector_is_used_again(stack):
    stack.load_model("new")
    old = stack.store.collections("default")[0].versions[0].number
    stack.reindex("new")
    stack.ask()
    stack.store.versions.switch(old)
    stack.asked.clear()
    for _ in range(3):
        assert ids(stack.ask())[0] == "oars"
    # Once more at most, to notice it.
    assert len(stack.asked) <= 1


def test_a_rollback_works_though_the_new_model_was_unloaded(stack):
    stack.load_model("new")
    old = stack.store.collections("default")[0].versions[0].number
    stack.reindex("new")
    stack.ask()
    stack.store.versions.switch(old)
    fake_pb.InferenceRequest.models.clear()
    assert ids(stack.ask())[0] == "oars"


@pytest.mark.parametrize("named", ["", "renamed"])
def test_a_model_is_found_by_its_digest_where_its_name_is_not_known(stack, named):
    stack.load_model("new")
    stack.reindex("new", named)
    assert ids(stack.ask())[0] == "oars"


def test_a_model_that_is_not_loaded_is_named(stack):
    stack.reindex("new")
    answer = stack.ask()
    assert answer.error.code == "UNAVAILABLE"
    assert "model new is not loaded" in answer.error.message


def test_a_model_that_the_repository_does_not_hold_is_named(stack):
    gone = dataclasses.replace(stack.embedders["new"], digest="f" * 64)
    stack.embedders["new"] = gone
    stack.reindex("new", "gone-model")
    answer = stack.ask()
    assert answer.error.code == "UNAVAILABLE"
    assert "gone-model" in answer.error.message
    assert "f" * 12 in answer.error.message


def test_a_collection_of_an_embedder_of_weights_alone_is_searched_by_the_weights_of_its_model(stack):
    stack.load_model("splade")
    stack.reindex("splade")
    for mode in ("sparse", "hybrid"):
        answer = stack.ask("fish at the market", search_mode=mode)
        assert ids(answer)[0] == "fish"
        assert answer.outputs["score"][0][0] == 1.0
    assert "choose sparse, text or hybrid" in stack.ask(search_mode="dense").error.message


def test_weights_that_come_with_the_request_find_passages(stack):
    first = stack.embedders["first"]
    rows = [Passage(id_, text) for id_, text in TEXTS.items()]
    texts = list(TEXTS.values())
    sparse = [weigh(text) for text in texts]
    stack.store.put("default", "weighed", first, rows, embed(texts, first), sparse=sparse)
    sent = {
        "sparse_indices": np.array([[1, -1]], np.int32),
        "sparse_weights": np.array([[0.5, 0]], np.float32),
    }
    answer = stack.ask(collection="weighed", search_mode="sparse", **sent)
    assert ids(answer) == ["fish"]
    assert answer.outputs["rank_score"][0].tolist() == [1.0]
    del sent["sparse_weights"]
    assert "sent together" in stack.ask(collection="weighed", search_mode="sparse", **sent).error.message


def test_a_query_without_text_asks_no_encoder_for_weights(stack, monkeypatch):
    monkeypatch.setattr(stack.model, "_makes_weights", True)
    stack.load_model("first")
    assert ids(stack.ask(query=" ", search_mode="hybrid")) == ["oars", "fish"]
    assert stack.asked == []
    assert ids(stack.ask(search_mode="hybrid")) == ["oars", "fish"]
    assert stack.asked == [("first", "three banks of oars")]


def test_a_collection_without_weights_says_so(stack):
    sent = {"sparse_indices": np.array([[1]], np.int32), "sparse_weights": np.array([[0.5]], np.float32)}
    assert "has no sparse weights" in stack.ask(search_mode="sparse", **sent).error.message
    assert ids(stack.ask(search_mode="hybrid", **sent)) == ["oars", "fish"]
