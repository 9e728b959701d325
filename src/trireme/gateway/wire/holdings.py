"""Our own wire of what a tenant holds: pages of documents, passages and jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trireme.budget.periods import write_time
from trireme.errors import InvalidInputError
from trireme.gateway.paging import read_page
from trireme.gateway.wire.search import read_metadata
from trireme.ingest.catalog import (
    DocumentsPage,
    DocumentsQuery,
    JobsPage,
    JobsQuery,
    PassagesPage,
    PassagesQuery,
    StoredDocument,
)
from trireme.ingest.queue import STATES, JobInfo, JobState


def read_documents(query: Mapping[str, str], tenant: str, collection: str) -> DocumentsQuery:
    """The parameters of GET /v1/documents. Raises InvalidInputError."""
    page = read_page(query)
    return DocumentsQuery(tenant, collection, query.get("prefix", ""), page.after, page.limit)


def documents_body(page: DocumentsPage, query: DocumentsQuery) -> dict[str, Any]:
    """The answer to GET /v1/documents."""
    data = [{**_document(one), "passages": one.passages} for one in page.documents]
    totals = {"documents": page.count, "passages": page.passages}
    return {
        **list_body(data, has_more=page.has_more),
        "collection": query.collection,
        "totals": totals,
    }


def read_passages(query: Mapping[str, str], tenant: str, collection: str, document: str) -> PassagesQuery:
    """The parameters of GET /v1/documents/{id}. Raises InvalidInputError."""
    page = read_page(query)
    return PassagesQuery(tenant, collection, document, page.after, query.get("around", ""), page.limit)


def document_body(page: PassagesPage, query: PassagesQuery) -> dict[str, Any]:
    """The answer to GET /v1/documents/{id}."""
    passages = [
        {"id": one.id, "text": one.text, "metadata": read_metadata(one.metadata)} for one in page.passages
    ]
    return {
        **_document(page.document),
        "collection": query.collection,
        "passage_count": page.document.passages,
        "passages": passages,
        "has_earlier": page.has_earlier,
        "has_more": page.has_more,
        "last_id": passages[-1]["id"] if passages else None,
    }


def read_jobs(query: Mapping[str, str], tenant: str, collections: Sequence[str]) -> JobsQuery:
    """The parameters of GET /v1/jobs. collections: that the key may use; empty: all. Raises InvalidInputError."""
    page = read_page(query)
    return JobsQuery(
        tenant,
        state=_read_state(query["state"]) if "state" in query else "",
        collections=tuple(collections),
        batch=query.get("batch", ""),
        after=page.after,
        limit=page.limit,
    )


def jobs_body(page: JobsPage) -> dict[str, Any]:
    """The answer to GET /v1/jobs."""
    return {
        **list_body([job_body(job) for job in page.jobs], has_more=page.has_more),
        "counts": {state: page.count(state) for state in STATES},
        "workers": page.workers,
    }


def job_body(job: JobInfo) -> dict[str, Any]:
    """The answer to GET /v1/jobs/{id}, with the state that the queue has of it."""
    return {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "document_id": job.document,
        "collection": job.collection,
        "attempts": job.attempts,
        "error": job.error or None,
        "created_at": None if job.created_at is None else _time(job.created_at),
    }


def deleted_body(key: str, kind: str) -> dict[str, Any]:
    """The answer to a DELETE. kind: such as job."""
    return {"id": key, "object": f"{kind}.deleted", "deleted": True}


def list_body(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of rows that have an "id"."""
    last = data[-1]["id"] if data else None
    return {"object": "list", "data": list(data), "has_more": has_more, "last_id": last}


def _read_state(text: str) -> JobState:
    for state in STATES:
        if text == state:
            return state
    raise InvalidInputError(f"state must be one of {', '.join(STATES)}, got {text[:40]!r}", "state")


def _document(one: StoredDocument) -> dict[str, Any]:
    return {
        "id": one.id,
        "object": "document",
        "title": one.title,
        "source": one.source,
        "updated_at": _time(one.updated_at),
    }


def _time(seconds: float) -> str:
    return write_time(int(seconds) * 1000)
