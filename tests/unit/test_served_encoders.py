from contextlib import closing
from dataclasses import replace

import pytest

from fakes.encoders import word_tokenizer
from fakes.grpc_server import response_of, serving
from fakes.memory_store import MemoryStore
from fakes.repositories import make_repository
from trireme.artifacts.manifest import read_manifest, write_manifest
from trireme.errors import SettingError
from trireme.served_encoders import BulkClients, ServedEncoders
from trireme.settings import Settings
from trireme.stack import check_models_are_built
from trireme.types import CollectionInfo


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
    check_models_are_built(tmp_path)


def test_a_workers_passages_are_batch_work_that_stays_in_its_region():
    heard = []

    def infer(request, context):
        heard.append(dict(context.invocation_metadata()))
        return response_of({"embedding": [[1.0]]})

    with serving() as (server, url), closing(BulkClients(url)) as clients:
        server.infer = infer
        assert clients.embed("embedding", ["a"]).tolist() == [[1.0]]
    (metadata,) = heard
    assert metadata["trireme-model"] == "embedding"
    assert metadata["trireme-priority"] == "batch"
    assert metadata["trireme-residency"] == "near"
