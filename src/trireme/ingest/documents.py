"""The document store port: digests, stage, replace, delete, ids. What a worker writes, and who may be removed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trireme.errors import InvalidInputError
from trireme.ingest.queue import Job
from trireme.metadata import find_fault
from trireme.retrieve.store import check_put
from trireme.types import Embedder, FloatArray, Passage, SparseVector


@dataclass(frozen=True, slots=True)
class Indexed:
    """A document that is cut and embedded: `passages` with `embeddings` [n, dimensions], and `sparse` weights.

    staged: how many passages before these were staged; they come first. is_known: the store has the document
    as it is (its digest), so nothing is written and the job is done.
    """

    job: Job
    passages: tuple[Passage, ...] = ()
    embeddings: FloatArray | None = None
    staged: int = 0
    is_known: bool = False
    sparse: tuple[SparseVector, ...] | None = None


class DocumentStore(Protocol):
    """Documents with their passages and vectors. Safe to use from several threads.

    Every verb raises UnavailableError when the database does not answer, cannot write or gave way to another
    request: nothing was written then (or all, where it went away at the commit), and it may be done again.
    """

    def digests(
        self, tenant: str, collection: str, ids: Sequence[str], *, waiting: bool = False
    ) -> dict[str, str]:
        """The digests of those documents that are stored, by id.

        waiting: as they will be once all is done that waits for a worker.
        """
        ...

    def stage(
        self,
        job: Job,
        position: int,
        passages: Sequence[Passage],
        embeddings: FloatArray,
        embedder: Embedder,
        *,
        sparse: Sequence[SparseVector] | None = None,
    ) -> None:
        """Keep passages `position`, `position + 1`... of a long document until it is replaced.

        Passages at or after `position`, and all of another embedder, are forgotten first. A job that is no
        longer its claimant's is left alone. Raises InvalidInputError for what cannot be stored.
        """
        ...

    def replace(self, indexed: Sequence[Indexed], embedder: Embedder, model: str) -> list[str]:
        """Store documents of one collection instead of what it has of them, and finish their jobs, in ONE
        transaction. Returns the ids of the jobs that are done now; a job that is no longer its claimant's is
        left out, with its document.

        Old passages of the documents are gone with it. Creates the collection, with `model` as the name of
        its embedder. Dead jobs of the same documents that are older are forgotten. Raises
        EmbedderMismatchError when the collection has become another embedder's, InvalidInputError for what
        cannot be stored, such as a passage id that another document has: then nothing is written.
        """
        ...

    def delete(self, tenant: str, collection: str, ids: Sequence[str]) -> list[str]:
        """Remove documents with their passages, and what waits or is worked on of them; returns those found."""
        ...

    def ids(self, tenant: str, collection: str, after: str = "", limit: int = 1000) -> list[str]:
        """Ids of stored documents in order, from the first one greater than `after`."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def find_storable(ids: Iterable[str]) -> list[str]:
    """Those ids that a document may have: a database takes no other ones, not even to look for them."""
    return [one for one in ids if not find_fault(one)]


def check_indexed(indexed: Sequence[Indexed], embedder: Embedder) -> None:
    """Raises InvalidInputError unless all are of one collection and could be stored."""
    for one in indexed:
        scope = (one.job.tenant, one.job.collection)
        if scope != (indexed[0].job.tenant, indexed[0].job.collection):
            raise InvalidInputError("documents of several collections cannot be replaced in one call")
        vectors = one.embeddings
        if vectors is None:
            vectors = np.zeros((len(one.passages), embedder.dimensions), np.float32)
        rows = check_put(*scope, embedder, one.passages, vectors, sparse=one.sparse)
        if len(rows) != len(one.passages):
            raise InvalidInputError(f"document {one.job.document.id!r} has a passage id twice")
