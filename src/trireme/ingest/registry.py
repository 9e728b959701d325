"""Which queue, document store and index builder serve which URL scheme: one line each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from trireme.errors import SettingError
from trireme.ingest.documents import DocumentStore
from trireme.ingest.index_builder import IndexBuilder
from trireme.ingest.queue import JobQueue

Opener = TypeVar("Opener")


class ClosableQueue(JobQueue, Protocol):
    """A JobQueue with connections to free."""

    def close(self) -> None:
        """Give back what this taker holds and free the connections."""
        ...


class ClosableDocuments(DocumentStore, Protocol):
    """A DocumentStore with connections to free."""

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def open_queue(url: str, timeout: float) -> ClosableQueue:
    """The queue of `url`, by its scheme; a worker without heartbeats for `timeout` seconds counts as dead.

    Connects at first use. Raises SettingError for a URL of no known queue.
    """
    return _find(_QUEUES, url)(url, timeout)


def open_documents(url: str, storage: str = "float32") -> ClosableDocuments:
    """The documents of `url`, by its scheme. Connects at first use. Raises SettingError.

    storage: of a new collection's vectors.
    """
    return _find(_DOCUMENTS, url)(url, storage)


def open_index_builder(url: str, exact_below: int) -> IndexBuilder:
    """The index builder of `url`, by its scheme. Connects at first use. Raises SettingError.

    exact_below: passages from which on a collection gets a vector index.
    """
    return _find(_INDEX_BUILDERS, url)(url, exact_below)


def _find(known: dict[str, Opener], url: str) -> Opener:
    scheme = url.partition("://")[0]
    if scheme not in known:
        names = ", ".join(f"{name}://" for name in sorted(known))
        raise SettingError(f"ingestion needs a TRIREME_DATABASE_URL that starts with one of {names}")
    return known[scheme]


def _postgres_queue(url: str, timeout: float) -> ClosableQueue:
    from trireme.ingest.procrastinate_queue import ProcrastinateQueue

    return ProcrastinateQueue(url, timeout)


def _postgres_documents(url: str, storage: str) -> ClosableDocuments:
    from trireme.ingest.postgres_documents import PostgresDocuments

    return PostgresDocuments(url, storage)


def _postgres_index_builder(url: str, exact_below: int) -> IndexBuilder:
    from trireme.ingest.postgres_index_builder import PostgresIndexBuilder

    return PostgresIndexBuilder(url, exact_below)


_QUEUES: dict[str, Callable[[str, float], ClosableQueue]] = {
    "postgres": _postgres_queue,
    "postgresql": _postgres_queue,
}
_DOCUMENTS: dict[str, Callable[[str, str], ClosableDocuments]] = {
    "postgres": _postgres_documents,
    "postgresql": _postgres_documents,
}
_INDEX_BUILDERS: dict[str, Callable[[str, int], IndexBuilder]] = {
    "postgres": _postgres_index_builder,
    "postgresql": _postgres_index_builder,
}
