"""Sources in, jobs out: what is new or changed is published, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from trireme.documents.source import Skipped, Source
from trireme.errors import DocumentError
from trireme.ingest.documents import DocumentStore
from trireme.ingest.queue import JobQueue
from trireme.types import Document


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Of one transaction: what it holds back from others, and does again after a crash."""

    sources: int = 500
    bytes: int = 8_000_000


DEFAULT_LIMITS = BatchLimits()


@dataclass
class PublishCounts:
    """What became of the sources so far. `missing` counts documents that were deleted as such."""

    seen: int = 0
    unchanged: int = 0
    published: int = 0
    missing: int = 0


class Publisher:
    """Publishes into one collection. `skipped` gets a line for each document that is left out.

    Memory: 16 bytes and their keeping, about 90 in all, for each id; texts pass through in parts.
    """

    def __init__(
        self,
        queue: JobQueue,
        documents: DocumentStore,
        scope: tuple[str, str],
        batch: str,
        skipped: Skipped,
        *,
        limits: BatchLimits = DEFAULT_LIMITS,
    ) -> None:
        """scope: tenant and collection."""
        self._queue = queue
        self._documents = documents
        self._scope = scope
        self._batch = batch
        self._skipped = skipped
        self._limits = limits
        self._ids: set[bytes] = set()
        self._is_sure = True
        self.tally = PublishCounts()

    def publish(self, sources: Iterable[Source], progress: Callable[[PublishCounts], None]) -> None:
        """Publish what is not stored as it is, nor waits as it is. Raises UnavailableError; then the same again
        goes on where it ended."""
        batch: list[Source] = []
        size = 0
        for source in sources:
            self.tally.seen += 1
            if self._is_new(source):
                batch.append(source)
                size += source.size
            if len(batch) >= self._limits.sources or size >= self._limits.bytes:
                self._publish(batch)
                batch, size = [], 0
                progress(self.tally)
        self._publish(batch)
        progress(self.tally)

    def delete_missing(self) -> bool:
        """Delete the collection's documents that were not among the sources; False where that is not sure.

        It is not where a source had no id of its own, such as a corpus line that could not be read.
        """
        if not self._is_sure:
            return False
        after = ""
        while page := self._documents.ids(*self._scope, after):
            after = page[-1]
            gone = [one for one in page if _key(one) not in self._ids]
            self.tally.missing += len(self._documents.delete(*self._scope, gone))
        return True

    def _is_new(self, source: Source) -> bool:
        key = _key(source.id)
        if key in self._ids:
            self._skipped.add(source.id, "its id is given twice; only the first is kept")
            return False
        self._ids.add(key)
        return True

    def _publish(self, batch: list[Source]) -> None:
        if not batch:
            return
        stored = self._documents.digests(*self._scope, [source.id for source in batch], waiting=True)
        opened: list[Document] = []
        for source in batch:
            if source.digest and stored.get(source.id) == source.digest:
                self.tally.unchanged += 1
                continue
            try:
                opened.append(source.open())
            except DocumentError as error:
                self._skipped.add(source.id, str(error))
                # A line that is no document has the number of the line for its id.
                self._is_sure = self._is_sure and ".jsonl:" not in source.id
        for published in self._queue.publish(*self._scope, opened, self._batch):
            if published.job:
                self.tally.published += 1
            else:
                self._skipped.add(published.document, published.error)


def _key(identity: str) -> bytes:
    return blake2b(identity.encode("utf-8", "replace"), digest_size=16).digest()
