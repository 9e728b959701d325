"""Documents and their jobs put into PostgreSQL."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import blake2b

from trireme.errors import DocumentError
from trireme.ingest.queue import NO_ORIGIN, Origin, Published, check_document, check_text
from trireme.postgres.pool import DeadlineConnection
from trireme.postgres.queue_sql import PUBLISH, QUEUE, TASK
from trireme.types import Document

# A text up to this many characters waits beside its job; a longer one in parts, read one by one.
SHORT_TEXT = 32_768


def lock_of(tenant: str, collection: str, document: str) -> str:
    """What jobs of one document share, so that they are worked on one after the other."""
    return blake2b(json.dumps([tenant, collection, document]).encode(), digest_size=16).hexdigest()


def publish_documents(
    connection: DeadlineConnection,
    scope: tuple[str, str, str],
    documents: Sequence[Document],
    origin: Origin = NO_ORIGIN,
) -> list[Published]:
    """Submissions and jobs of `documents` in the open transaction; scope: tenant, collection, batch."""
    answers: dict[int, Published] = {}
    kept: list[tuple[int, Document, str | None, Iterator[str]]] = []
    seen: set[str] = set()
    for n, document in enumerate(documents):
        try:
            check_document(document, seen)
            kept.append((n, document, *_open_parts(document)))
        except DocumentError as error:
            answers[n] = Published(document.id, error=str(error))
    jobs = _defer(connection, scope, [document for _, document, _, _ in kept], origin)
    _insert(connection, scope, [(jobs[document.id], document, text) for _, document, text, _ in kept])
    for n, document, text, parts in kept:
        job = jobs[document.id]
        answers[n] = Published(document.id, str(job))
        if text is None:
            try:
                with connection.transaction():
                    _insert_parts(connection, job, scope[0], parts)
            except DocumentError as error:
                connection.execute("DELETE FROM procrastinate_jobs WHERE id = %s", (job,))
                answers[n] = Published(document.id, error=str(error))
    return [answers[n] for n in range(len(documents))]


def _open_parts(document: Document) -> tuple[str | None, Iterator[str]]:
    """A short text, or None and the parts of a long one."""
    parts = iter(document.parts)
    head: list[str] = []
    for part in parts:
        head.append(check_text(part))
        if sum(map(len, head)) > SHORT_TEXT:
            return None, itertools.chain(head, parts)
    return "".join(head), iter(())


def _defer(
    connection: DeadlineConnection,
    scope: tuple[str, str, str],
    documents: Sequence[Document],
    origin: Origin,
) -> dict[str, int]:
    """A job for each document, by its id (unique among them)."""
    tenant, collection, batch = scope
    more = {name: value for name, value in asdict(origin).items() if value}
    args = [
        {"tenant": tenant, "collection": collection, "document": document.id, "batch": batch, **more}
        for document in documents
    ]
    locks = [lock_of(tenant, collection, document.id) for document in documents]
    made = connection.execute(PUBLISH, (QUEUE, TASK, locks, [json.dumps(one) for one in args])).fetchall()
    rows = connection.execute(
        "SELECT args ->> 'document', id FROM procrastinate_jobs WHERE id = ANY(%s)",
        ([one for (one,) in made],),
    )
    return dict(rows.fetchall())


def _insert(
    connection: DeadlineConnection,
    scope: tuple[str, str, str],
    rows: Sequence[tuple[int, Document, str | None]],
) -> None:
    columns = "job, tenant, collection, document_id, digest, title, source, whole, extra, text"
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY submissions ({columns}) FROM STDIN".encode()) as copy,
    ):
        for job, document, text in rows:
            extra = json.dumps(dict(document.extra), ensure_ascii=False)
            fields = (document.id, document.digest, document.title, document.source, document.whole)
            copy.write_row((job, *scope[:2], *fields, extra, text))


def _insert_parts(connection: DeadlineConnection, job: int, tenant: str, parts: Iterator[str]) -> None:
    for n, part in enumerate(parts):
        connection.execute(
            "INSERT INTO submission_parts (job, n, tenant, text) VALUES (%s, %s, %s, %s)",
            (job, n, tenant, check_text(part)),
        )
