"""The encoders of a running server as ingestion uses them, and a worker over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic

import numpy as np

from trireme.artifacts.manifest import TOKENIZER_FILE, check_searchable, read_manifest
from trireme.artifacts.recipe import RECIPE_FILE, Recipe, read_recipe
from trireme.artifacts.repository import default_embedder, find_retriever, is_built, list_recipes, version_dir
from trireme.documents.chunk import CHUNKER_VERSION, chunk
from trireme.documents.detect import detect_language
from trireme.encode.tokenizer import Tokenizer
from trireme.errors import EmbedderMismatchError, UnavailableError
from trireme.ingest.encoder import Encoder, Vectors
from trireme.ingest.throttle import Throttle
from trireme.ingest.worker import Worker
from trireme.languages import AUTO, ENGLISH
from trireme.observe.spans import SpanSink
from trireme.retrieve.languages import CollectionLanguages
from trireme.retrieve.store import VectorStore
from trireme.settings import Settings
from trireme.storage import (
    DEFAULT_EXACT_BELOW,
    open_documents,
    open_index_builder,
    open_languages,
    open_queue,
    open_store,
)
from trireme.triton.call_route import CallRoute
from trireme.triton.calls import store_outputs
from trireme.triton.client import TritonClient
from trireme.triton.many_servers import count_interactive_of_all
from trireme.triton.metrics import count_interactive, read_metrics

# A worker does not know what tenants forbid, and what it waits for loses nothing by waiting.
_STAYS = CallRoute(priority="batch", stays_near=True)
# How long a collection's embedder is taken for granted.
REMEMBER_SECONDS = 2.0


class ServedEncoders:
    """Encoders of a model repository, on the server that serves it. Thread-safe."""

    def __init__(
        self,
        settings: Settings,
        store: VectorStore,
        default: str = "",
        languages: CollectionLanguages | None = None,
    ) -> None:
        """default: the model folder for new collections; "" means the retriever's. languages: of the collections;
        without them no language is told. Raises SettingError."""
        self._settings = settings
        self._store = store
        self._languages = languages
        self._lock = threading.Lock()
        self._opened: dict[str, Encoder] = {}
        self._chosen: dict[tuple[str, str], tuple[float, Encoder]] = {}
        self.default = default or default_embedder(settings.model_repository)
        self._server = BulkClients(settings.grpc_url)

    def choose(self, tenant: str, collection: str) -> Encoder:
        """See Encoders.choose."""
        with self._lock:
            found = self._chosen.get((tenant, collection))
            if found is not None and monotonic() - found[0] < REMEMBER_SECONDS:
                return found[1]
            infos = [info for info in self._store.collections(tenant) if info.collection == collection]
            encoder = (
                self._by_digest(collection, infos[0].embedder.digest) if infos else self._new(self.default)
            )
            encoder = self._speak(encoder, tenant, collection)
            self._chosen[tenant, collection] = (monotonic(), encoder)
            return encoder

    def _speak(self, encoder: Encoder, tenant: str, collection: str) -> Encoder:
        """The encoder that cuts documents by the language of the collection, or each by its own."""
        if self._languages is None:
            return encoder
        held = self._languages.find(tenant, collection)
        language = self._settings.language if held is None else held.language
        if not language:
            return encoder
        tell = partial(detect_language, fallback=held.main if held else ENGLISH)
        tell_language = tell if language == AUTO else partial(_always, language)
        return replace(
            encoder,
            cut=partial(encoder.cut, tell_language=tell_language),  # type: ignore[call-arg]
            fingerprint=f"{encoder.fingerprint} {language}",
        )

    def forget(self) -> None:
        """See Encoders.forget."""
        with self._lock:
            self._chosen.clear()

    def close(self) -> None:
        """Close the connection to the server."""
        self._server.close()

    def _by_digest(self, collection: str, digest: str) -> Encoder:
        for recipe in list_recipes(self._settings.model_repository):
            if recipe.traits.makes_vectors and is_built(self._settings.model_repository, recipe):
                version = version_dir(self._settings.model_repository, recipe.model)
                if read_manifest(version).embedder.digest == digest:
                    return self._load(recipe.model)
        raise EmbedderMismatchError(
            f"collection {collection!r} holds vectors of embedder {digest[:12]}, which is not served here:"
            " serve it, run trireme reindex, or make the collection anew"
        )

    def open(self, model: str) -> Encoder:
        """The encoder of one model folder, for vectors that are to be made.

        Raises ArtifactError where it is not built, SettingError where search would not rank its vectors as meant.
        """
        with self._lock:
            return self._new(model)

    def find(self, collection: str, digest: str) -> Encoder:
        """The encoder that made a version's vectors. Raises EmbedderMismatchError where it is not here."""
        with self._lock:
            return self._by_digest(collection, digest)

    def _new(self, model: str) -> Encoder:
        """See open. What made vectors that are there already goes on."""
        check_searchable(read_manifest(version_dir(self._settings.model_repository, model)))
        return self._load(model)

    def _load(self, model: str) -> Encoder:
        built = version_dir(self._settings.model_repository, model)
        manifest = read_manifest(built)
        known = self._opened.get(model)
        if known is None or known.embedder != manifest.embedder:
            tokenizer = Tokenizer.load(built / TOKENIZER_FILE, manifest.max_length)
            outputs = store_outputs(manifest.outputs)
            cut = partial(chunk, max_tokens=manifest.max_length, count_tokens=tokenizer.count_all)
            known = Encoder(
                model=model,
                embedder=manifest.embedder,
                cut=cut,
                count=tokenizer.count_all,
                embed=partial(self._server.embed, model, outputs),
                is_ready=partial(self._server.is_ready, model),
                fingerprint=f"{CHUNKER_VERSION} {manifest.max_length}",
                max_rows=read_recipe(self._settings.model_repository / model / RECIPE_FILE).max_batch_size,
                outputs=outputs,
            )
            self._opened[model] = known
        return known


def _always(language: str, _: str) -> str:
    return language


class BulkClients:
    """One client for each thread, made anew once it has failed: gRPC waits ever longer before it connects again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._mine = threading.local()

    def embed(self, model: str, outputs: Sequence[str], texts: Sequence[str]) -> Vectors:
        """Vectors of passages, of the tensors in `outputs`. Raises TriremeError."""
        try:
            found = self._client().embed_all(texts, "passage", model, outputs, bulk=True)
        except UnavailableError:
            self.close()
            raise
        sparse = [one.sparse for one in found if one.sparse is not None]
        return Vectors(np.stack([one.vector for one in found]), tuple(sparse) or None)

    def is_ready(self, model: str) -> bool:
        """Whether the model answers. Never raises."""
        ready = self._client().is_ready(model)
        if not ready:
            self.close()
        return ready

    def close(self) -> None:
        """Close the connection of this thread."""
        client: TritonClient | None = getattr(self._mine, "client", None)
        if client is not None:
            client.close()
        self._mine.client = None

    def _client(self) -> TritonClient:
        if getattr(self._mine, "client", None) is None:
            self._mine.client = TritonClient(self._url, route=_STAYS)
        client: TritonClient = self._mine.client
        return client


@contextmanager
def open_worker(
    settings: Settings,
    database_url: str,
    notice: Callable[[str], None],
    default: str = "",
    spans: SpanSink | None = None,
) -> Iterator[Worker]:
    """A worker with all that it needs. default: see ServedEncoders. Raises SettingError."""
    retriever = find_retriever(list_recipes(settings.model_repository))
    exact_below = retriever.exact_below if retriever else DEFAULT_EXACT_BELOW
    with (
        closing(open_queue(database_url, settings.worker_timeout_seconds)) as jobs,
        closing(open_documents(database_url, _storage(retriever), settings.language)) as documents,
        closing(open_index_builder(database_url, exact_below)) as indexes,
        closing(open_store(database_url)) as store,
        closing(open_languages(database_url)) as languages,
        closing(ServedEncoders(settings, store, default, languages)) as encoders,
    ):
        throttle = Throttle(partial(read_load, settings, watched_models(settings)))
        yield Worker(jobs, documents, encoders, indexes, throttle=throttle, notice=notice, spans=spans)


def watched_models(settings: Settings) -> list[str]:
    """Models whose every request is interactive. Encoders report their interactive requests themselves."""
    recipes = list_recipes(settings.model_repository)
    return [recipe.model for recipe in recipes if recipe.traits.is_interactive]


def read_load(settings: Settings, models: Collection[str]) -> tuple[int, bool] | None:
    """How many requests people have sent to the server, for Throttle; None where it does not say."""
    try:
        if settings.server_hosts:
            return count_interactive_of_all(settings.listed_server_hosts, settings.metrics_port, models)
        return count_interactive(read_metrics(settings.host, settings.metrics_port), models)
    except UnavailableError:
        return None


def _storage(retriever: Recipe | None) -> str:
    return str(getattr(retriever, "vectors", "float32"))
