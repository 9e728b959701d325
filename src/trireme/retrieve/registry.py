"""Which store serves which URL scheme: one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trireme.errors import SettingError
from trireme.retrieve.store import VectorStore
from trireme.retrieve.versions import IndexVersions

# Measured, 384 dimensions, one busy core: exact takes 1.5, 3, 9, 17 ms for 1,000, 2,000, 5,000, 10,000 passages,
# HNSW with 100 candidates 2, 2.5, 4, 5 ms with recall@10 of 0.998 or more on clustered vectors. They meet here.
DEFAULT_EXACT_BELOW = 2_000
DEFAULT_EF_SEARCH = 100
DEFAULT_POOL_SIZE = 4


class ClosableStore(VectorStore, Protocol):
    """A VectorStore with connections to free, and the index versions of its collections."""

    @property
    def versions(self) -> IndexVersions:
        """The index versions of the same collections, over the same connections."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def open_store(
    url: str,
    pool_size: int = DEFAULT_POOL_SIZE,
    exact_below: int = DEFAULT_EXACT_BELOW,
    ef_search: int = DEFAULT_EF_SEARCH,
    storage: str = "float32",
) -> ClosableStore:
    """The store of `url`, by its scheme. Connects at first use, so the database may start later.

    `pool_size` bounds the connections; collections under `exact_below` passages are searched exactly, larger
    ones by HNSW with `ef_search` candidates. `storage` is how collections made here keep their vectors: float32,
    float16 or binary. Raises SettingError for a URL of no known store.
    """
    scheme = url.partition("://")[0]
    if scheme not in _STORES:
        known = ", ".join(f"{name}://" for name in sorted(_STORES))
        raise SettingError(f"TRIREME_DATABASE_URL must start with one of {known}")
    return _STORES[scheme](url, pool_size, exact_below, ef_search, storage)


def _open_postgres(url: str, pool_size: int, exact_below: int, ef_search: int, storage: str) -> ClosableStore:
    from trireme.retrieve.postgres import PostgresStore

    return PostgresStore(url, pool_size, exact_below, ef_search, storage)


def _open_memory(url: str, pool_size: int, exact_below: int, ef_search: int, storage: str) -> ClosableStore:
    from trireme.retrieve.memory import MemoryStore

    return MemoryStore()


_STORES: dict[str, Callable[[str, int, int, int, str], ClosableStore]] = {
    "memory": _open_memory,
    "postgres": _open_postgres,
    "postgresql": _open_postgres,
}
