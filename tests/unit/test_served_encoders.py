import json
from contextlib import closing
from functools import partial

import pytest

from fakes.grpc_server import response_of, serving
from trireme.documents.chunk import chunk
from trireme.ingest.encoder import Encoder
from trireme.retrieve.languages import CollectionLanguage
from trireme.served_encoders import BulkClients, ServedEncoders
from trireme.settings import Settings
from trireme.types import Document, Embedder


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
