"""The `ingester` backend: documents in, job ids out; job ids in, their states out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trireme.artifacts.config_writer import PARAMETERS
from trireme.errors import DocumentError, InvalidInputError, NotFoundError, SettingError, TriremeError
from trireme.ingest.queue import NO_ORIGIN, JobQuery, Origin, check_scope
from trireme.ingest.submitted import read_metadata, text_document
from trireme.settings import read_settings
from trireme.storage import open_queue
from trireme.triton.backends.config import ModelConfig
from trireme.triton.backends.model import BackendModel
from trireme.triton.backends.tensors import read_scalar, read_strings, read_tensor, string_tensor
from trireme.triton.backends.traced import read_asked
from trireme.types import Document

# What the batch of jobs is called that a client published.
BATCH = "server"


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """Documents to publish, or jobs to look up: one row for each in the answer.

    refused: row -> why that document is not published.
    """

    tenant: str
    collection: str
    documents: tuple[Document, ...] = ()
    refused: tuple[tuple[int, str], ...] = ()
    jobs: tuple[str, ...] = ()
    origin: Origin = NO_ORIGIN


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of the answer. state: waiting, running, done, dead or cancelled; refused and unknown have no job."""

    job: str
    state: str
    error: str = ""


class IngesterModel(BackendModel):
    """Publishes into the queue of TRIREME_DATABASE_URL; workers do the rest."""

    known_parameters = frozenset(PARAMETERS["ingester"])

    def load(self, config: ModelConfig) -> None:
        settings = read_settings()
        if not settings.database_url:
            raise SettingError("TRIREME_DATABASE_URL is not set; the queue is in that PostgreSQL")
        self._tenant, self._collection = settings.tenant, settings.collection
        self._max_documents = config.read_int("max_documents")
        self._max_text_bytes = config.read_int("max_text_bytes")
        self._queue = open_queue(settings.database_url, settings.worker_timeout_seconds)

    def is_ready(self) -> bool:
        try:
            # No job has this number.
            self._queue.find(JobQuery(ids=("0",), limit=0))
        except TriremeError:
            return False
        return True

    def close(self) -> None:
        self._queue.close()

    def work_source(self) -> None:
        """None: "ingest" in the signals is the queue behind it, which workers tell of."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request."""
        return self.replies.answer_all(requests, self._read, self._compute, self._write)

    def _read(self, request: Any) -> IngestRequest:
        tenant = self._name(request, "tenant", self._tenant)
        collection = self._name(request, "collection", self._collection)
        check_scope(tenant, collection)
        given = {
            name: self._column(request, name)
            for name in ("document_id", "text", "title", "metadata", "job_id")
        }
        jobs = given.pop("job_id")
        if jobs is not None:
            if any(column is not None for column in given.values()):
                raise InvalidInputError("send document_id and text to publish, or job_id to ask, not both")
            # An empty name would mean the jobs of everybody.
            check_scope(tenant, collection)
            return IngestRequest(tenant, collection, jobs=tuple(self._bounded("job_id", jobs)))
        if given["document_id"] is None or given["text"] is None:
            raise InvalidInputError("send document_id and text, one for each document, or job_id to ask")
        ids = self._bounded("document_id", given["document_id"])
        for name, column in given.items():
            if column is not None and len(column) != len(ids):
                raise InvalidInputError(
                    f"{name} has {len(column)} values for {len(ids)} ids; send one for each"
                )
        documents, refused = [], []
        titles, metadata = given["title"] or [""] * len(ids), given["metadata"] or ["{}"] * len(ids)
        for row, values in enumerate(zip(ids, given["text"], titles, metadata, strict=True)):
            try:
                documents.append(self._document(*values))
            except DocumentError as error:
                refused.append((row, str(error)))
        asked = read_asked(request)
        origin = Origin(asked.request, asked.parent)
        return IngestRequest(tenant, collection, tuple(documents), tuple(refused), origin=origin)

    def _document(self, key: str, text: str, title: str, metadata: str) -> Document:
        return text_document(key, text, title, read_metadata(metadata), self._max_text_bytes)

    def _compute(self, requests: list[IngestRequest]) -> list[list[JobRow] | TriremeError]:
        answers: list[list[JobRow] | TriremeError] = []
        for request in requests:
            try:
                rows = self._look_up(request) if request.jobs else self._publish(request)
                answers.append(_whole(rows))
            except TriremeError as error:
                answers.append(error)
        return answers

    def _publish(self, request: IngestRequest) -> list[JobRow]:
        published = self._queue.publish(
            request.tenant, request.collection, request.documents, BATCH, request.origin
        )
        rows = iter([JobRow(one.job, "waiting" if one.job else "refused", one.error) for one in published])
        refused = dict(request.refused)
        count = len(request.documents) + len(refused)
        return [JobRow("", "refused", refused[n]) if n in refused else next(rows) for n in range(count)]

    def _look_up(self, request: IngestRequest) -> list[JobRow]:
        query = JobQuery(ids=request.jobs, tenant=request.tenant, limit=len(request.jobs))
        found = {job.id: job for job in self._queue.find(query).jobs}
        return [
            JobRow(key, found[key].state, found[key].error)
            if key in found
            else JobRow("", "unknown", f"no job {key[:40]!r}; a finished one is forgotten after a day")
            for key in request.jobs
        ]

    def _write(self, rows: list[JobRow]) -> list[Any]:
        columns = {
            "job_id": [row.job for row in rows],
            "state": [row.state for row in rows],
            "error": [row.error for row in rows],
        }
        return [string_tensor(self.pb, name, [column]) for name, column in columns.items()]

    def _name(self, request: Any, key: str, default: str) -> str:
        value = read_scalar(self.pb, request, key)
        return default if value is None else str(value)

    def _column(self, request: Any, name: str) -> list[str] | None:
        if read_tensor(self.pb, request, name) is None:
            return None
        return read_strings(self.pb, request, name)[0]

    def _bounded(self, name: str, values: Sequence[str]) -> Sequence[str]:
        if not 1 <= len(values) <= self._max_documents:
            raise InvalidInputError(
                f"{name} must have 1 to {self._max_documents} values, got {len(values)}; send several requests"
            )
        return values


def _whole(rows: list[JobRow]) -> list[JobRow]:
    """`rows`, unless nothing came of any: then the first one's reason is the request's error."""
    if any(row.job for row in rows):
        return rows
    first = rows[0]
    text = first.error if len(rows) == 1 else f"row 0: {first.error}"
    raise (NotFoundError if first.state == "unknown" else InvalidInputError)(text)
