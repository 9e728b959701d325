"""Documents in, embedded passages stored: a stream in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from trireme.errors import DocumentError, InvalidInputError
from trireme.ingest.chunk import chunk
from trireme.ingest.load import Skipped
from trireme.retrieve.store import VectorStore
from trireme.types import Document, Embedder, FloatArray, Passage

BATCH_SIZE = 64

Embed = Callable[[list[str]], FloatArray]


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one run did. `skipped` has a line for each file left out and one for each unknown suffix."""

    documents: int
    passages: int
    skipped: tuple[str, ...]
    seconds: float


def ingest(  # noqa: PLR0917 - the six things a run is made of
    documents: Iterable[Document],
    embed: Embed,
    store: VectorStore,
    embedder: Embedder,
    tenant: str,
    collection: str,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int], None] | None = None,
    skipped: Skipped | None = None,
    cut: Callable[[Document], Iterable[Passage]] = chunk,
) -> IngestReport:
    """Chunk, embed and store `documents` in batches of `batch_size` passages; holds one batch in memory.

    `embed` maps n texts to [n, dimensions]; `progress` is told the passages stored after each batch; `skipped`
    is what `load` filled while it was read here. Ids are stable, so that a run that was broken off is completed
    by running it again, and a changed file replaces its passages. Of a file that has become shorter or is gone
    the old last passages stay: drop the collection and ingest again. Raises what `embed` and `store` raise;
    what was stored before stays.
    """
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1, got {batch_size}")
    started = time.monotonic()
    seen = 0

    def passages() -> Iterator[Passage]:
        nonlocal seen
        for document in documents:
            seen += 1
            try:
                yield from cut(document)
            except DocumentError as error:
                if skipped is not None:
                    skipped.add(document.id, str(error))

    stored = 0
    for batch in _batches(passages(), batch_size):
        embeddings = embed([passage.text for passage in batch])
        stored += store.put(tenant, collection, embedder, batch, embeddings)
        if progress:
            progress(len(batch))
    lines = skipped.lines() if skipped else ()
    return IngestReport(seen, stored, lines, time.monotonic() - started)


def _batches(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    batch: list[Passage] = []
    for passage in passages:
        batch.append(passage)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
