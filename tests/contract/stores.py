"""What the suites of the vector store share."""

from typing import Any

import numpy as np

from trireme.storage import VectorStore
from trireme.types import Embedder, FloatArray, Hit, Passage, StoreQuery

DIMENSIONS = 8
EMBEDDER = Embedder("a" * 64, DIMENSIONS)


def vectors(count: int, seed: int = 0) -> FloatArray:
    random = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def passages(count: int, prefix: str = "p") -> list[Passage]:
    return [Passage(f"{prefix}{n:03d}", f"text {n} of {prefix}") for n in range(count)]


def search(
    store: VectorStore,
    embedding: FloatArray,
    top_k: int = 10,
    *,
    tenant: str = "t",
    collection: str = "c",
    embedder: Embedder = EMBEDDER,
) -> list[Hit]:
    return store.search(StoreQuery(embedding, embedder, top_k, tenant, collection))


def ask(store: VectorStore, embedding: FloatArray, top_k: int = 10, **options: Any) -> list[Hit]:
    return store.search(StoreQuery(embedding, EMBEDDER, top_k, "t", "c", **options))


def counts(store: VectorStore, tenant: str | None = None) -> dict[tuple[str, str], int]:
    return {(info.tenant, info.collection): info.passages for info in store.collections(tenant)}
