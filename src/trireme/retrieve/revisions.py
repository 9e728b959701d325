"""The port of what a collection holds now, as one word: caches compare it, and read nothing into it."""

from __future__ import annotations

from typing import Protocol


class CollectionRevisions(Protocol):
    """Safe to use from several threads."""

    def read(self, tenant: str, collection: str) -> str:
        """The collection's revision, "" where there is none. It changes with each commit that changes what searches
        find, and no two states of a collection ever share one. Blocks. Raises UnavailableError.
        """
        ...

    def close(self) -> None:
        """Close the connections. Idempotent."""
        ...
