"""What a tenant holds: documents, jobs and collections, looked at and thrown away off the event loop."""

from __future__ import annotations

from dataclasses import replace

from trireme.errors import ConflictError, NotFoundError
from trireme.gateway.fair_threads import FairThreads
from trireme.ingest.catalog import (
    Catalog,
    DocumentsPage,
    DocumentsQuery,
    JobsPage,
    JobsQuery,
    PassagesPage,
    PassagesQuery,
)
from trireme.ingest.queue import JobInfo, JobQueue

# Calls at once. As many as the catalog's connections, less those of DROPS.
READS = 3
# Of collections, which take minutes where they are large. Turns are fair from two on.
DROPS = 2


class Holdings:
    """Belongs to one event loop; its ports are used in threads, in turns by tenant.

    Every verb raises UnavailableError.
    """

    def __init__(self, catalog: Catalog, queue: JobQueue) -> None:
        """Whoever opened the ports closes them."""
        self._catalog = catalog
        self._queue = queue
        self._reads, self._drops = FairThreads(READS, "holdings"), FairThreads(DROPS, "drops")

    async def documents(self, query: DocumentsQuery) -> DocumentsPage:
        """A page of a collection's documents. Raises NotFoundError where nothing is stored in it."""
        page = await self._reads.run(query.tenant, self._catalog.documents, query)
        if page is None:
            raise NotFoundError(
                f"nothing is stored in collection {query.collection[:80]!r};"
                " GET /v1/vector_stores lists those there are"
            )
        return page

    async def passages(self, query: PassagesQuery) -> PassagesPage:
        """A page of a document's passages. Raises NotFoundError for one that is not there."""
        page = await self._reads.run(query.tenant, self._catalog.passages, query)
        if page is None:
            place = f"document {query.document[:200]!r} in collection {query.collection[:80]!r}"
            if query.around:
                raise NotFoundError(f"no {place} with a passage {query.around[:200]!r}")
            raise NotFoundError(f"no {place}")
        return page

    async def jobs(self, query: JobsQuery) -> JobsPage:
        """A page of jobs."""
        return await self._reads.run(query.tenant, self._catalog.jobs, query)

    async def job(self, query: JobsQuery) -> JobInfo:
        """The job of the query's one id. Raises NotFoundError."""
        for job in (await self.jobs(replace(query, limit=1))).jobs:
            # An index by id knows nothing of collections that a key is limited to.
            if not query.collections or job.collection in query.collections:
                return job
        raise NotFoundError(f"no job {query.ids[0][:40]!r}; a finished one is forgotten after a day")

    async def retry(self, query: JobsQuery) -> JobInfo:
        """Let a dead job be taken again; the job as it is then. Raises NotFoundError, ConflictError."""
        job = await self.job(query)
        if not await self._reads.run(query.tenant, self._queue.retry, [job.id]):
            raise _not_dead(await self.job(query), "retried")
        return await self.job(query)

    async def forget(self, query: JobsQuery) -> None:
        """Forget a dead job. Raises NotFoundError, ConflictError."""
        job = await self.job(query)
        if not await self._reads.run(query.tenant, self._catalog.forget, query.tenant, job.id):
            raise _not_dead(await self.job(query), "forgotten")

    async def drop(self, tenant: str, collection: str) -> None:
        """Delete a collection with all it holds and what waits for it. Raises NotFoundError.

        A request that is cancelled meanwhile has deleted all or nothing.
        """
        if not await self._drops.run(tenant, self._catalog.drop, tenant, collection):
            raise NotFoundError(
                f"no vector store {collection[:80]!r}; GET /v1/vector_stores lists those there are"
            )

    async def close(self) -> None:
        """End the threads. Not waited for is a drop, which may take minutes: whoever closes the catalog ends it.

        Idempotent.
        """
        await self._reads.close()
        await self._drops.close(waits=False)


def _not_dead(job: JobInfo, done: str) -> ConflictError:
    hint = "; DELETE /v1/documents/{id} withdraws it" if job.state in ("waiting", "running") else ""
    return ConflictError(f"job {job.id} is {job.state}, and only a dead one can be {done}{hint}")
