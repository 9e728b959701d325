"""The index versions port: begin, missing, fill, switch, drop. Vectors of a collection by several embedders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from trireme.errors import InvalidInputError, NotFoundError, UnavailableError
from trireme.types import Embedder, FloatArray, IndexVersion, SparseVector

STORAGES = ("float32", "float16", "binary")


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A passage without a vector in an index version. `key` stands for its text for good."""

    key: int
    text: str


class IndexVersions(Protocol):
    """A collection's vectors by several embedders, of which one is active: searches use it alone.

    Passages come and go meanwhile, with vectors of the active version only; `missing` finds those later, so a
    version is complete when `missing` is empty. VectorStore.collections lists versions. Safe to use from
    several threads and processes; every verb raises UnavailableError when the database does not answer.
    """

    def begin(
        self, tenant: str, collection: str, embedder: Embedder, model: str, storage: str = ""
    ) -> IndexVersion:
        """The version of `embedder` that is being built: a new one, or the one begun or kept before.

        `model` is the folder that makes its vectors; `storage` is float32, float16 or binary, "" as the active
        version's. Raises NotFoundError for an unknown collection, and InvalidInputError when the active version
        has that embedder, or another version is being built.
        """
        ...

    def missing(self, number: int, limit: int) -> list[Unembedded]:
        """At most `limit` passages without a vector in a version, by key, from where `fill` came to.

        Empty only when no passage at all is without. Raises NotFoundError for an unknown version.
        """
        ...

    def fill(
        self,
        number: int,
        keys: Sequence[int],
        embeddings: FloatArray,
        sparse: Sequence[SparseVector] | None = None,
    ) -> int:
        """Store the vectors [n, dimensions] of passages, all or none; returns how many were stored.

        `sparse`: as of VectorStore.put.

        Passages that are gone, or whose text has changed since `missing`, are left out. Raises NotFoundError,
        and InvalidInputError for wrong shapes or vectors without a direction.
        """
        ...

    def switch(self, number: int) -> None:
        """Make a complete version the active one, in one transaction; the active one is kept.

        Searches before it see the old version, those after it the new one, none sees both. Blocks while the
        version's index is built; nobody else waits. Rollback is the switch to a kept version. A version that
        was kept before is dropped. Raises UnavailableError while passages are missing (fill them, then switch
        again), and NotFoundError. Does nothing to the active version.
        """
        ...

    def drop(self, number: int) -> None:
        """Forget a version that is not active. Raises NotFoundError, InvalidInputError for the active one."""
        ...


def check_storage(storage: str) -> None:
    """Raises InvalidInputError unless vectors can be stored so."""
    if storage not in STORAGES:
        raise InvalidInputError(f"vectors must be one of {', '.join(STORAGES)}, got {storage!r}")


def check_begin(collection: str, embedder: Embedder, known: Sequence[IndexVersion]) -> None:
    """Raises InvalidInputError when `embedder` is the active one, or another one's version is being built."""
    for version in known:
        if version.state == "active" and version.embedder == embedder:
            raise InvalidInputError(f"collection {collection!r} has vectors of this embedder already")
        if version.state == "building" and version.embedder != embedder:
            raise InvalidInputError(
                f"collection {collection!r} has a version by model {version.model!r} that is being built: "
                "finish or drop that one first"
            )


def raise_no_version(number: int) -> NoReturn:
    """Raises the NotFoundError of an unknown version."""
    raise NotFoundError(f"there is no index version {number}; it may have been dropped")


def raise_incomplete(count: int) -> NoReturn:
    """Raises the UnavailableError of a version with passages that have no vector."""
    raise UnavailableError(
        f"{count} passages have no vector in this version yet; embed them, then switch again"
    )
