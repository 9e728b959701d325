import json
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest

from fakes.encoders import word_tokenizer
from fakes.grpc_server import response_of, serving
from fakes.memory_store import MemoryStore
from fakes.repositories import make_repository
from trireme.artifacts.manifest import read_manifest, write_manifest
from trireme.documents.chunk import chunk
from trireme.errors import SettingError, TriremeError, UnsupportedError
from trireme.ingest.encoder import Encoder
from trireme.retrieve.languages import CollectionLanguage
from trireme.served_encoders import BulkClients, ServedEncoders
from trireme.settings import Settings
from trireme.stack import check_models_are_built
from trireme.triton.calls import read_vectors, store_outputs
from trireme.types import CollectionInfo, Document, Embedder


class Store(MemoryStore):
    """Knows one collection by its embedder."""

    def __init__(self, embedder):
        super().__init__()
        self._embedder = embedder

    def collections(self, tenant):
        return [CollectionInfo(tenant, "old", self._embedder, 1)]


def test_a_model_that_the_cosine_ranks_otherwise_makes_no_collection_and_goes_on_with_those_it_made(tmp_path):
    version = make_repository(tmp_path) / "embedding" / "1"
    word_tokenizer()._tokenizer.save(str(version / "tokenizer.json"))
    check_models_are_built(tmp_path)
    manifest = replace(read_manifest(version), similarity="dot")
    write_manifest(version, manifest)
    with closing(ServedEncoders(Settings(model_repository=tmp_path), Store(manifest.embedder))) as encoders:
        for act in (
            lambda: encoders.choose("acme", "new"),
            lambda: encoders.open("embedding"),
            lambda: check_models_are_built(tmp_path),
        ):
            with pytest.raises(SettingError, match="'embedding' is meant to be compared by the dot product"):
                act()
        assert encoders.choose("acme", "old").model == "embedding"
        write_manifest(version, replace(manifest, normalize=True))
        assert encoders.choose("acme", "new").model == "embedding"
        # Weights are compared by the dot product.
        write_manifest(version, replace(manifest, outputs=("sparse",), dimensions=0))
        assert encoders.open("embedding").outputs == ("sparse_indices", "sparse_weights")
        write_manifest(version, replace(manifest, outputs=("multi",), dimensions=0))
        with pytest.raises(UnsupportedError, match="reranker"):
            encoders.open("embedding")
    check_models_are_built(tmp_path)


def test_a_workers_passages_are_batch_work_that_stays_in_its_region():
    heard = []

    def infer(request, context):
        heard.append(dict(context.invocation_metadata()))
        return response_of({"embedding": [[1.0]]})

    with serving() as (server, url), closing(BulkClients(url)) as clients:
        server.infer = infer
        assert clients.embed("embedding", ["embedding"], ["a"]).dense.tolist() == [[1.0]]
    (metadata,) = heard
    assert metadata["trireme-model"] == "embedding"
    assert metadata["trireme-priority"] == "batch"
    assert metadata["trireme-residency"] == "near"


@pytest.mark.parametrize("outputs", [("dense", "sparse"), ("sparse",)])
def test_a_model_is_asked_for_its_vectors_and_weights_alone_and_filling_is_taken_off(outputs):
    asked = []
    answers = {
        "embedding": [[1.0, 0.0], [0.0, 1.0]],
        "sparse_indices": [[3, 8], [5, -1]],
        "sparse_weights": [[0.5, 1.5], [2.0, 0.0]],
    }

    def infer(request, context):
        asked.append([output.name for output in request.outputs])
        return response_of({name: answers[name] for name in asked[-1]})

    wanted = store_outputs(outputs)
    with serving() as (server, url), closing(BulkClients(url)) as clients:
        server.infer = infer
        found = clients.embed("m3", wanted, ["a", "b"])
    assert asked == [list(wanted)]
    assert found.dense.shape == (2, 2 if "dense" in outputs else 0)
    assert [one.indices.tolist() for one in found.sparse] == [[3, 8], [5]]
    assert [one.weights.tolist() for one in found.sparse] == [[0.5, 1.5], [2.0]]


def test_an_answer_without_the_weights_that_were_asked_for_names_the_response_cache():
    with serving() as (server, url), closing(BulkClients(url)) as clients:
        server.infer = lambda request, context: response_of({"embedding": [[1.0]]})
        with pytest.raises(TriremeError, match=r"did not answer sparse_indices .* response_cache = false"):
            clients.embed("m3", store_outputs(("dense", "sparse")), ["a"])


def test_a_model_of_token_vectors_alone_makes_no_collection():
    with pytest.raises(UnsupportedError, match="reranker"):
        store_outputs(("multi",))


@pytest.mark.parametrize(
    ("language", "told"),
    [
        (None, "fr"),
        (CollectionLanguage("", "en"), None),
        (CollectionLanguage("de", "en"), "de"),
        (CollectionLanguage("auto", "de"), "fr"),
    ],
)
def test_documents_are_cut_in_the_language_of_their_collection_or_each_in_its_own(language, told):
    found = ServedEncoders(Settings(), None, "embedding", Languages(language))._speak(encoder(), "t", "c")
    (passage,) = found.cut(
        Document("a", "", ("Le port ferme la nuit et rouvre à six heures du matin.",), "a")
    )
    assert json.loads(passage.metadata).get("language") == told
    # A document that is cut otherwise is ingested again.
    assert found.fingerprint == "4 256" + (f" {language.language if language else 'auto'}" if told else "")


def test_a_text_that_does_not_tell_is_in_the_language_of_most_of_its_collection():
    languages = Languages(CollectionLanguage("auto", "de"))
    found = ServedEncoders(Settings(), None, "embedding", languages)._speak(encoder(), "t", "c")
    (passage,) = found.cut(Document("a", "", ("Ruder",), "a"))
    assert json.loads(passage.metadata)["language"] == "de"


class Languages:
    def __init__(self, found: CollectionLanguage | None) -> None:
        self.found = found

    def find(self, tenant: str, collection: str) -> CollectionLanguage | None:
        return self.found


def encoder() -> Encoder:
    return Encoder("embedding", Embedder("a" * 64, 4), partial(chunk), len, None, None, "4 256")


def test_a_model_of_weights_alone_that_is_asked_for_vectors_is_refused_by_name():
    with pytest.raises(UnsupportedError, match="'splade' makes no vector of a text, only sparse_indices"):
        read_vectors("splade", {"sparse_indices": None, "sparse_weights": None})
