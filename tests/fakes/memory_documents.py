"""A document store in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fakes.memory_queue import MemoryJobs
from trireme.errors import InvalidInputError
from trireme.ingest.catalog import StoredDocument
from trireme.ingest.documents import Indexed, check_indexed
from trireme.ingest.queue import Job, check_scope
from trireme.retrieve.store import check_embedder, check_put
from trireme.types import Embedder, FloatArray, Passage, SparseVector

Scope = tuple[str, str]
Row = tuple[Passage, FloatArray]


@dataclass(slots=True)
class Stored:
    """One document as it is stored."""

    digest: str
    rows: dict[str, Row]
    title: str = ""
    source: str = ""
    updated_at: float = 0.0

    def info(self, key: str) -> StoredDocument:
        """What a catalog says of it."""
        return StoredDocument(key, self.title, self.source, len(self.rows), self.updated_at)


class MemoryDocuments:
    """A DocumentStore for the jobs of MemoryQueues over the same `jobs`. `stored` is what it has."""

    def __init__(self, jobs: MemoryJobs) -> None:
        self._jobs = jobs
        self._staged: dict[str, tuple[str, list[Row]]] = {}
        self.embedders: dict[Scope, Embedder] = {}
        self.models: dict[Scope, str] = {}
        self.stored: dict[Scope, dict[str, Stored]] = {}

    def digests(
        self, tenant: str, collection: str, ids: Sequence[str], *, waiting: bool = False
    ) -> dict[str, str]:
        """See DocumentStore.digests."""
        check_scope(tenant, collection)
        with self._jobs.lock:
            have = self.stored.get((tenant, collection), {})
            found = {one: have[one].digest for one in ids if one in have}
            for entry in self._jobs.entries.values() if waiting else ():
                job = entry.job
                is_asked = (job.tenant, job.collection) == (tenant, collection) and job.document.id in ids
                if is_asked and entry.state in ("waiting", "running"):
                    found[job.document.id] = job.document.digest
            return found

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
        """See DocumentStore.stage. Keeps no sparse weights."""
        check_put(job.tenant, job.collection, embedder, passages, embeddings, sparse=sparse)
        with self._jobs.lock:
            if not self._jobs.is_held(job):
                return
            digest, rows = self._staged.get(job.id, (embedder.digest, []))
            rows = rows[:position] if digest == embedder.digest else []
            rows = [*rows, *zip(passages, np.array(embeddings, np.float32), strict=True)]
            self._staged[job.id] = (embedder.digest, rows)
            self._jobs.note_staged(job, position + len(passages), embedder.digest)

    def replace(self, indexed: Sequence[Indexed], embedder: Embedder, model: str) -> list[str]:
        """See DocumentStore.replace."""
        if not indexed:
            return []
        check_indexed(indexed, embedder)
        scope = (indexed[0].job.tenant, indexed[0].job.collection)
        with self._jobs.lock:
            held = [one for one in indexed if self._jobs.is_held(one.job)]
            new = [one for one in held if not one.is_known]
            if new:
                check_embedder(scope[1], self.embedders.get(scope, embedder), embedder)
                written = {one.job.document.id: self._document(one) for one in new}
                self._check_owners(scope, written)
                self.embedders.setdefault(scope, embedder)
                self.models.setdefault(scope, model)
                self.stored.setdefault(scope, {}).update(written)
            return self._jobs.finish([one.job for one in held])

    def delete(self, tenant: str, collection: str, ids: Sequence[str]) -> list[str]:
        """See DocumentStore.delete."""
        check_scope(tenant, collection)
        with self._jobs.lock:
            have = self.stored.get((tenant, collection), {})
            withdrawn = self._jobs.withdraw(tenant, collection, ids)
            return [one for one in dict.fromkeys(ids) if have.pop(one, None) or one in withdrawn]

    def ids(self, tenant: str, collection: str, after: str = "", limit: int = 1000) -> list[str]:
        """See DocumentStore.ids."""
        check_scope(tenant, collection)
        with self._jobs.lock:
            have = sorted(self.stored.get((tenant, collection), {}))
        return [one for one in have if one > after][:limit]

    def close(self) -> None:
        """Nothing to free."""

    def _document(self, one: Indexed) -> Stored:
        rows: list[Row] = []
        if one.staged:
            rows = list(self._staged.pop(one.job.id, ("", []))[1])
            if len(rows) != one.staged:
                raise InvalidInputError(f"{len(rows)} passages are staged, not {one.staged}")
        if one.embeddings is not None:
            rows += zip(one.passages, np.array(one.embeddings, np.float32), strict=True)
        document = one.job.document
        kept = {passage.id: (passage, vector) for passage, vector in rows}
        return Stored(document.digest, kept, document.title, document.source, time.time())

    def _check_owners(self, scope: Scope, written: dict[str, Stored]) -> None:
        owners: dict[str, str] = {}
        for document, stored in (self.stored.get(scope, {}) | written).items():
            for key in stored.rows:
                if owners.setdefault(key, document) != document:
                    raise InvalidInputError(
                        f"passage id {key!r} belongs to document {owners[key]!r}; give one of the two another id"
                    )
