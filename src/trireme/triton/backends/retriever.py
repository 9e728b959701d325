"""The `retriever` backend: an embedding and its text in, the best passages out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.contracts import ENCODER_OUTPUTS, SPARSE
from trireme.artifacts.manifest import Manifest, read_manifest
from trireme.artifacts.repository import list_recipes, version_dir
from trireme.errors import (
    ArtifactError,
    EmbedderMismatchError,
    InvalidInputError,
    SettingError,
    TriremeError,
    UnavailableError,
)
from trireme.retrieve.store import check_mode, compute_priors
from trireme.settings import read_settings
from trireme.storage import open_store
from trireme.triton.backends.bls import call_model
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.tensors import hit_tensors, read_scalar, read_tensor, read_top_k, string_tensor
from trireme.triton.calls import read_embeddings, read_weights, store_outputs
from trireme.types import Hit, SparseVector, StoreQuery

# An index version may be switched, and switched back, between two looks.
ATTEMPTS = 3
# Modes in which sparse weights find passages.
_BY_WEIGHTS = ("sparse", "hybrid")


class RetrieverModel(BackendModel):
    """The best passages of one tenant's collection.

    The request's vector is of the recipe's embedder. A collection whose active index version is by another
    embedder is searched with that one: the query's text is embedded again, on the server, by its model. So it is
    where the recipe's embedder makes sparse weights, and the request brings none.
    """

    known_parameters = frozenset(PARAMETERS["retriever"])

    def load(self, config: ModelConfig) -> None:
        settings = read_settings()
        if not settings.database_url:
            raise SettingError(
                "TRIREME_DATABASE_URL is not set; the retriever needs a PostgreSQL with pgvector"
            )
        self._tenant, self._collection = settings.tenant, settings.collection
        self._default_top_k = config.read_int("default_top_k")
        self._max_top_k = config.read_int("max_top_k")
        self._candidates = config.read_int("candidates")
        self._search_mode = check_mode(config.read_text("search_mode"))
        self._text_weight = config.read_number("text_weight")
        self._dense_candidates = config.read_int("dense_candidates")
        self._text_candidates = config.read_int("text_candidates")
        self._model = config.read_text("embedder")
        manifest = read_manifest(version_dir(config.repository, self._model))
        # Raises where no collection can be of this model.
        store_outputs(manifest.outputs)
        self._embedder, self._makes_weights = manifest.embedder, SPARSE in manifest.outputs
        # Of collections by another embedder, the model that the last search needed.
        self._models: dict[tuple[str, str], tuple[str, str]] = {}
        self._store = open_store(
            settings.database_url,
            pool_size=config.read_int("pool_size"),
            exact_below=config.read_int("exact_below"),
            ef_search=config.read_int("ef_search"),
        )
        try:
            self._store.collections(self._tenant)
        except UnavailableError as error:
            raise UnavailableError(f"{error}; then load this model again") from None

    def is_ready(self) -> bool:
        return self._store.is_ready()

    def close(self) -> None:
        self._store.close()

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return self.answer_measured(requests, self._read, self._search, self._write)

    def _read(self, request: Any) -> StoreQuery:
        vectors = read_tensor(self.pb, request, "embedding")
        vector = np.asarray([] if vectors is None else vectors, np.float32).reshape(-1)
        if vector.size != self._embedder.dimensions:
            raise InvalidInputError(
                f"embedding has {vector.size} dimensions, the served embedder makes {self._embedder.dimensions}"
            )
        top_k = read_top_k(read_scalar(self.pb, request, "top_k"), self._default_top_k, self._max_top_k)
        return StoreQuery(
            embedding=vector,
            embedder=self._embedder,
            top_k=max(top_k, self._candidates),
            tenant=self._text(request, "tenant", self._tenant),
            collection=self._text(request, "collection", self._collection),
            text=self._text(request, "query", ""),
            filter=self._text(request, "filter", ""),
            mode=check_mode(self._text(request, "search_mode", self._search_mode)),
            text_weight=self._text_weight,
            dense_candidates=self._dense_candidates,
            text_candidates=self._text_candidates,
            sparse=self._read_weights(request),
        )

    def _read_weights(self, request: Any) -> SparseVector | None:
        names = [tensor.name for tensor in ENCODER_OUTPUTS[SPARSE]]
        sent = {name: read_tensor(self.pb, request, name) for name in names}
        given = {name: values for name, values in sent.items() if values is not None}
        if len({values.size for values in given.values()}) > 1 or len(given) == 1:
            raise InvalidInputError("sparse_indices and sparse_weights must be sent together, of one length")
        weights = read_weights(given, 1)
        return weights[0] if weights else None

    def _text(self, request: Any, key: str, default: str) -> str:
        value = read_scalar(self.pb, request, key)
        return default if value is None else str(value)

    def _search(self, queries: list[StoreQuery]) -> list[list[Hit] | TriremeError]:
        answers: list[list[Hit] | TriremeError] = []
        for query in queries:
            try:
                answers.append(self._search_active(query))
            except TriremeError as error:
                answers.append(error)
        return answers

    def _search_active(self, query: StoreQuery) -> list[Hit]:
        """Search with the vector of whichever embedder the active index version is by."""
        place = (query.tenant, query.collection)
        asked = query
        needs_weights = self._makes_weights and query.sparse is None and query.mode in _BY_WEIGHTS
        # Of no text no encoder makes any.
        if needs_weights and query.text.strip() and place not in self._models:
            asked = query = self._embed_again(query, self._embedder.digest, self._model)
        if place in self._models:
            try:
                asked = self._embed_again(query, *self._models[place])
            except UnavailableError:
                # It may be needed no more.
                del self._models[place]
        for _ in range(ATTEMPTS):
            try:
                return self._store.search(asked)
            except EmbedderMismatchError as error:
                if error.digest == self._embedder.digest and asked is not query:
                    # Switched back to the recipe's own.
                    self._models.pop(place, None)
                    asked = query
                    continue
                self._models[place] = (error.digest, error.model)
                asked = self._embed_again(query, error.digest, error.model)
        raise UnavailableError("the collection's embedder keeps changing; try again")

    def _embed_again(self, query: StoreQuery, digest: str, model: str) -> StoreQuery:
        """The query with a vector of the embedder with `digest`, by its model on this server."""
        name, manifest = self._find_model(query, digest, model)
        outputs = store_outputs(manifest.outputs)
        inputs = [
            string_tensor(self.pb, "text", [[query.text]]),
            string_tensor(self.pb, "input_type", [["query"]]),
        ]
        (found,) = read_embeddings(name, call_model(self.pb, name, inputs, outputs), outputs, 1)
        return replace(query, embedding=found.vector, embedder=manifest.embedder, sparse=found.sparse)

    def _find_model(self, query: StoreQuery, digest: str, model: str) -> tuple[str, Manifest]:
        """The folder of the model whose manifest has `digest`: the one that is named, or any other."""
        for name in self._model_names(model):
            try:
                manifest = read_manifest(version_dir(self.config.repository, name))
            except ArtifactError:
                continue
            if manifest.embedder.digest == digest:
                return name, manifest
        named = f"model {model}" if model else "a model that is not named"
        raise UnavailableError(
            f"collection {query.collection!r} has vectors by {named} (digest {digest[:12]}), which the model "
            "repository does not hold: build and load it, or run trireme reindex"
        )

    def _model_names(self, first: str) -> Iterator[str]:
        # Nearly always it is the first, so the others' recipes are not read for each search.
        if first and Path(first).name == first:
            yield first
        for recipe in list_recipes(self.config.repository):
            if recipe.kind == "text_encoder" and recipe.model != first:
                yield recipe.model

    def _write(self, hits: list[Hit]) -> list[Any]:
        ranked = {
            "rank_score": [hit.rank_score for hit in hits],
            "prior": compute_priors(hits),
        }
        return hit_tensors(self.pb, hits, **ranked)
