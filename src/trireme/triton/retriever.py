"""The `retriever` backend: an embedding in, the nearest passages out."""

from __future__ import annotations

from typing import Any

import numpy as np

from trireme.artifacts.config_writer import PARAMETERS
from trireme.artifacts.manifest import read_manifest
from trireme.artifacts.repository import version_dir
from trireme.errors import InvalidInputError, SettingError, TriremeError, UnavailableError
from trireme.retrieve.registry import open_store
from trireme.settings import read_settings
from trireme.triton.model import BackendModel, ModelConfig
from trireme.triton.tensors import hit_tensors, read_scalar, read_tensor, read_top_k
from trireme.types import Hit, StoreQuery


class RetrieverModel(BackendModel):
    """Nearest passages of one tenant's collection, by the vectors of the embedder that is served."""

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
        self._embedder = read_manifest(version_dir(config.repository, config.read_text("embedder"))).embedder
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
        return self.answer_all(requests, self._read, self._search, self._write)

    def _read(self, request: Any) -> StoreQuery:
        vectors = read_tensor(self.pb, request, "embedding")
        vector = np.asarray(vectors, np.float32).reshape(-1)
        if vector.size != self._embedder.dimensions:
            raise InvalidInputError(
                f"embedding has {vector.size} dimensions, the served embedder makes {self._embedder.dimensions}"
            )
        top_k = read_top_k(read_scalar(self.pb, request, "top_k"), self._default_top_k, self._max_top_k)
        return StoreQuery(
            embedding=vector,
            embedder=self._embedder,
            top_k=max(top_k, self._candidates),
            tenant=self._name(request, "tenant", self._tenant),
            collection=self._name(request, "collection", self._collection),
        )

    def _name(self, request: Any, key: str, default: str) -> str:
        value = read_scalar(self.pb, request, key)
        return default if value is None else str(value)

    def _search(self, queries: list[StoreQuery]) -> list[list[Hit] | TriremeError]:
        answers: list[list[Hit] | TriremeError] = []
        for query in queries:
            try:
                answers.append(self._store.search(query))
            except TriremeError as error:
                answers.append(error)
        return answers

    def _write(self, hits: list[Hit]) -> list[Any]:
        return hit_tensors(self.pb, hits)
