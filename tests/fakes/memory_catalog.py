"""A catalog in memory, for tests: over the jobs and documents of the other fakes."""

from __future__ import annotations

from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.ingest.catalog import (
    DocumentsPage,
    DocumentsQuery,
    JobNumbers,
    JobsPage,
    JobsQuery,
    PassagesPage,
    PassagesQuery,
    StoredDocument,
    check_documents,
    check_jobs,
    check_passages,
    passage_order,
)
from trireme.ingest.queue import JobQuery, check_scope


class MemoryCatalog:
    """A Catalog of what `documents` has and of `jobs`."""

    def __init__(self, jobs: MemoryJobs, documents: MemoryDocuments) -> None:
        self._jobs = jobs
        self._documents = documents

    def documents(self, query: DocumentsQuery) -> DocumentsPage | None:
        """See Catalog.documents."""
        check_documents(query)
        with self._jobs.lock:
            if (query.tenant, query.collection) not in self._documents.stored:
                return None
            have = self._documents.stored[query.tenant, query.collection]
            # As UTF-8: Python orders code points, which is the same order.
            left = sorted(key for key in have if key > query.after and key.startswith(query.prefix))
            page = tuple(have[key].info(key) for key in left[: query.limit])
            passages = sum(len(one.rows) for one in have.values())
        return DocumentsPage(page, len(left) > query.limit, len(have), passages)

    def passages(self, query: PassagesQuery) -> PassagesPage | None:
        """See Catalog.passages."""
        check_passages(query)
        with self._jobs.lock:
            stored = self._documents.stored.get((query.tenant, query.collection), {}).get(query.document)
            if stored is None:
                return None
            rows = sorted((row[0] for row in stored.rows.values()), key=lambda one: passage_order(one.id))
        start = sum(1 for one in rows if passage_order(one.id) <= passage_order(query.after))
        if query.around:
            ids = [one.id for one in rows]
            if query.around not in ids:
                return None
            start = max(0, ids.index(query.around) - query.limit // 2)
        end = start + query.limit
        info: StoredDocument = stored.info(query.document)
        return PassagesPage(info, tuple(rows[start:end]), start > 0, len(rows) > end)

    def jobs(self, query: JobsQuery) -> JobsPage:
        """See Catalog.jobs."""
        check_jobs(query)
        with self._jobs.lock:
            found = MemoryQueue(self._jobs).find(
                JobQuery(tenant=query.tenant, batch=query.batch, limit=10**9)
            )
        agree = [job for job in found.jobs if not query.collections or job.collection in query.collections]
        if query.ids:
            agree = [job for job in agree if job.id in query.ids]
        states = ("waiting", "running", "done", "dead", "cancelled")
        numbers = tuple(
            JobNumbers(
                name,
                **{
                    state: sum(1 for job in agree if (job.collection, job.state) == (name, state))
                    for state in states
                },
            )
            for name in sorted({job.collection for job in agree})
        )
        left = [job for job in agree if query.state in ("", job.state)]
        left = [job for job in left if not query.after or int(job.id) < int(query.after)]
        left.sort(key=lambda job: -int(job.id))
        page, has_more = tuple(left[: query.limit]), len(left) > query.limit
        return JobsPage(page, has_more) if query.ids else JobsPage(page, has_more, numbers, found.workers)

    def forget(self, tenant: str, job: str) -> bool:
        """See Catalog.forget."""
        check_scope(tenant, "any")
        with self._jobs.lock:
            entry = self._jobs.entries.get(job)
            if entry is None or entry.job.tenant != tenant or entry.state != "dead":
                return False
            del self._jobs.entries[job]
            return True

    def drop(self, tenant: str, collection: str) -> bool:
        """See Catalog.drop."""
        check_scope(tenant, collection)
        scope = (tenant, collection)
        with self._jobs.lock:
            mine = [e for e in self._jobs.entries.values() if (e.job.tenant, e.job.collection) == scope]
            withdrawn = self._jobs.withdraw(*scope, [entry.job.document.id for entry in mine])
            self._documents.embedders.pop(scope, None)
            self._documents.models.pop(scope, None)
            return self._documents.stored.pop(scope, None) is not None or bool(withdrawn)

    def close(self) -> None:
        """Nothing to free."""
