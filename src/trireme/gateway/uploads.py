"""Documents of requests: published, looked up and deleted, without holding up the event loop."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trireme.errors import (
    DocumentError,
    InvalidInputError,
    ResourceExhaustedError,
    TriremeError,
    UnavailableError,
)
from trireme.gateway.fair_threads import FairThreads
from trireme.gateway.holdings import Holdings
from trireme.gateway.reader_process import BATCH, ReaderOptions, serve
from trireme.gateway.readers import Readers
from trireme.gateway.upload_folders import UploadFolders
from trireme.ingest.catalog import Catalog
from trireme.ingest.documents import DocumentStore, find_storable
from trireme.ingest.queue import JobQuery, JobQueue, Published, check_scope
from trireme.ingest.submitted import text_document
from trireme.retrieve.store import VectorStore
from trireme.types import CollectionInfo

# Tenant and collection.
Scope = tuple[str, str]
# stored: searches find it. waiting: for a worker, or with one. dead: it failed. absent: nobody knows it.
DocumentState = Literal["stored", "waiting", "dead", "absent"]

RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """readers: processes that read files, each replaced after `reader_files`. reader: of one file.

    uploads, tenant_uploads: files that are received, wait or are read at once, of all and of one tenant. folder:
    where they lie meanwhile; None is the system's. threads: calls of the database at once.
    """

    readers: int = 2
    reader_files: int = 200
    threads: int = 8
    uploads: int = 32
    tenant_uploads: int = 8
    reader: ReaderOptions = field(default_factory=ReaderOptions)
    folder: Path | None = None


DEFAULT_OPTIONS = UploadOptions()


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received: it lies at `path` and is called `name` by its sender. key: the document's id.

    path's suffix says how it is read. title: "" is the file's own. batch: a label to find its job by.
    """

    path: Path
    name: str
    key: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    batch: str = BATCH


@dataclass(frozen=True, slots=True)
class SubmittedText:
    """A document that is a text of the request. key: its id."""

    key: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DocumentStores:
    """The ports of one database that documents of requests go through."""

    queue: JobQueue
    documents: DocumentStore
    store: VectorStore
    catalog: Catalog


class Documents:
    """The documents of all tenants. Belongs to one event loop; its ports are used in threads, in turns by tenant.

    holdings: what is stored and waits, in pages.

    A request that is cancelled leaves nothing half: each publish and each delete is one transaction, done or not.
    What was published before the cancel stays published.
    """

    def __init__(
        self,
        stores: DocumentStores,
        open_queue: Callable[[], JobQueue],
        options: UploadOptions = DEFAULT_OPTIONS,
    ) -> None:
        """open_queue: opens the same queue in a child process, so it must be picklable, as a functools.partial of a
        module's function is. Whoever opened the ports closes them."""
        self._queue = stores.queue
        self._documents = stores.documents
        self._store = stores.store
        self._options = options
        self._folders = UploadFolders(options.folder)
        reader = options.reader
        self._readers = Readers(
            serve, (open_queue, reader), options.readers, reader.seconds, options.reader_files
        )
        self._threads = FairThreads(options.threads, "documents")
        self.holdings = Holdings(stores.catalog, stores.queue)
        self._uploads: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[Path]:
        """A folder for one upload, from its first byte until it is published; then nothing of it is left.

        Raises ResourceExhaustedError where the tenant has too many at once, UnavailableError where all have.
        """
        if self._uploads[tenant] >= self._options.tenant_uploads:
            most = self._options.tenant_uploads
            raise ResourceExhaustedError(
                f"{most} uploads of this tenant are in hand, its most; send one after another", RETRY_SECONDS
            )
        if self._uploads.total() >= self._options.uploads:
            raise UnavailableError(
                f"{self._options.uploads} uploads are in hand, the most at once; try again"
            )
        self._uploads[tenant] += 1
        try:
            with self._folders.open() as folder:
                yield folder
        finally:
            self._uploads[tenant] -= 1
            self._uploads += Counter()  # drops zeros

    async def publish_file(self, upload: Upload, scope: Scope) -> Published:
        """Read a file and publish it, in a process of its own and in one transaction.

        Raises InvalidInputError for a document that cannot be read or kept, DeadlineError for one that takes too
        long, UnavailableError where the queue or that process went away.
        """
        tenant, collection = scope
        task = {
            "path": str(upload.path),
            "name": upload.name,
            "key": upload.key,
            "title": upload.title,
            "metadata": dict(upload.metadata),
            "tenant": tenant,
            "collection": collection,
            "batch": upload.batch,
        }
        answer = json.loads(await self._readers.run(json.dumps(task).encode(), tenant))
        if "job" in answer:
            return Published(upload.key, answer["job"])
        if "unavailable" in answer:
            raise UnavailableError(answer["unavailable"])
        if "failed" in answer:
            _log.error("a document could not be read: %s", answer["failed"])
            raise TriremeError("the gateway failed on this document; its log says where")
        if "refused" in answer:
            raise InvalidInputError(f"{upload.name}: {answer['refused']}", "file")
        raise InvalidInputError(answer["invalid"])

    async def publish_texts(self, texts: Sequence[SubmittedText], scope: Scope) -> list[Published]:
        """Publish texts in one transaction; one answer for each, in order, with its job or why it was refused.

        Raises UnavailableError, and InvalidInputError for bad names of tenant or collection.
        """
        return await self._threads.run(scope[0], self._publish, texts, scope)

    async def find_state(self, document: str, scope: Scope) -> tuple[DocumentState, str]:
        """Whether searches find a document, and if not, why; with the error of its job, if that is dead.

        A dead job is known by its batch, which must be the document's id. Raises UnavailableError.
        """
        return await self._threads.run(scope[0], self._find_state, document, scope)

    async def delete(self, ids: Sequence[str], tenant: str, collection: str) -> list[str]:
        """Delete documents, and what waits of them; returns those that were there. Raises UnavailableError."""
        return await self._threads.run(tenant, self._documents.delete, tenant, collection, ids)

    async def collections(self, tenant: str) -> list[CollectionInfo]:
        """The tenant's collections by name. Raises UnavailableError."""
        return await self._threads.run(tenant, self._store.collections, tenant)

    async def close(self) -> None:
        """End the processes and threads. What is being published is done or not, never half. Idempotent."""
        await self._readers.close()
        await self._threads.close()
        await self.holdings.close()
        self._folders.close()

    def _find_state(self, document: str, scope: Scope) -> tuple[DocumentState, str]:
        if not find_storable([document]):
            return "absent", ""
        if self._documents.digests(*scope, [document]):
            return "stored", ""
        if self._documents.digests(*scope, [document], waiting=True):
            return "waiting", ""
        dead = JobQuery(state="dead", tenant=scope[0], collection=scope[1], batch=document, limit=1)
        found = self._queue.find(dead).jobs
        return ("dead", found[0].error) if found else ("absent", "")

    def _publish(self, texts: Sequence[SubmittedText], scope: Scope) -> list[Published]:
        answers: dict[int, Published] = {}
        kept = {}
        for n, one in enumerate(texts):
            try:
                kept[n] = text_document(one.key, one.text, one.title, one.metadata)
            except DocumentError as error:
                answers[n] = Published(one.key, error=str(error))
        check_scope(*scope)
        answers.update(zip(kept, self._queue.publish(*scope, list(kept.values()), BATCH), strict=True))
        return [answers[n] for n in range(len(texts))]
