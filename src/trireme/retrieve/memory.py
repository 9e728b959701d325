"""An exact store in memory, for tests and for trying things out: nothing outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trireme.retrieve.store import check_embedder, check_names, check_put, check_query, raise_unknown
from trireme.types import CollectionInfo, Embedder, FloatArray, Hit, Passage, StoreQuery


@dataclass(slots=True)
class _Collection:
    embedder: Embedder
    rows: dict[str, tuple[Passage, FloatArray]] = field(default_factory=dict)


class MemoryStore:
    """A VectorStore that compares the query with every passage."""

    def __init__(self) -> None:
        self._collections: dict[tuple[str, str], _Collection] = {}
        self._lock = threading.Lock()

    def put(
        self,
        tenant: str,
        collection: str,
        embedder: Embedder,
        passages: Sequence[Passage],
        embeddings: FloatArray,
    ) -> int:
        """See VectorStore.put. Copies the embeddings."""
        row_of = check_put(tenant, collection, embedder, passages, embeddings)
        with self._lock:
            found = self._collections.setdefault((tenant, collection), _Collection(embedder))
            check_embedder(collection, found.embedder, embedder)
            for key, row in row_of.items():
                found.rows[key] = (passages[row], np.array(embeddings[row], dtype=np.float32))
        return len(row_of)

    def search(self, query: StoreQuery) -> list[Hit]:
        """See VectorStore.search."""
        check_query(query)
        with self._lock:
            found = self._collections.get((query.tenant, query.collection))
            if found is None:
                raise_unknown(query.collection)
            check_embedder(query.collection, found.embedder, query.embedder)
            rows = list(found.rows.values())
        hits = [
            Hit(passage.id, passage.text, passage.metadata, _cosine(vector, query.embedding))
            for passage, vector in rows
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))[: query.top_k]

    def collections(self, tenant: str | None) -> list[CollectionInfo]:
        """See VectorStore.collections."""
        with self._lock:
            return [
                CollectionInfo(owner, name, found.embedder, len(found.rows))
                for (owner, name), found in sorted(self._collections.items())
                if tenant in (None, owner)
            ]

    def drop(self, tenant: str, collection: str) -> int:
        """See VectorStore.drop."""
        check_names(tenant, collection)
        with self._lock:
            found = self._collections.pop((tenant, collection), None)
        if found is None:
            raise_unknown(collection)
        return len(found.rows)

    def is_ready(self) -> bool:
        """Always true."""
        return True

    def close(self) -> None:
        """Nothing to free."""


def _cosine(a: FloatArray, b: FloatArray) -> float:
    return float(np.float32(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))))
