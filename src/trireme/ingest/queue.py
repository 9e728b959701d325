"""The job queue port: publish, take, settle, find, retry. One job is one submitted document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trireme.errors import DocumentError, InvalidInputError
from trireme.metadata import check_size, find_fault
from trireme.retrieve.store import check_names
from trireme.types import MAX_ID_BYTES, Document

# cancelled: its document was deleted before the job was done.
JobState = Literal["waiting", "running", "done", "dead", "cancelled"]
Outcome = Literal["failed", "dead", "released"]

STATES: tuple[JobState, ...] = ("waiting", "running", "done", "dead", "cancelled")
# After so many failures a job is dead.
MAX_FAILURES = 5
# A job whose worker died this often is taken alone, so that it can take no other down with it; and then dies.
SUSPECT_AFTER = 3
MAX_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class BackOff:
    """How long a failed job waits before it is tried again: 2, 8, 32 and 128 s."""

    seconds: float = 2.0
    factor: float = 4.0

    def after(self, failures: int) -> float:
        """Seconds to wait after so many failures, 1 or more."""
        return self.seconds * self.factor ** (failures - 1)


DEFAULT_BACK_OFF = BackOff()


@dataclass(frozen=True, slots=True)
class Published:
    """What became of one submitted document: its job, or the reason why it was refused."""

    document: str
    job: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A job in a worker's hands. `claim` names who took it: whoever finishes it must show it.

    attempts: how often it was taken and did not end well. staged, staged_with: how many of its chunks are
    stored already, and the digest of the embedder whose vectors they have.
    """

    id: str
    claim: str
    tenant: str
    collection: str
    document: Document
    attempts: int = 0
    staged: int = 0
    staged_with: str = ""

    @property
    def is_suspect(self) -> bool:
        """Whether it must be worked on alone."""
        return self.attempts >= SUSPECT_AFTER


@dataclass(frozen=True, slots=True)
class JobInfo:
    """What is known of a job. `error` is the last failure's, also while it waits for its next attempt.

    created_at: when it was published, in Unix seconds; None where nobody noted it.
    """

    id: str
    tenant: str
    collection: str
    document: str
    state: JobState
    attempts: int = 0
    error: str = ""
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Which jobs: all that agree with every field that is not empty. `limit` bounds those that are listed."""

    ids: tuple[str, ...] = ()
    state: JobState | Literal[""] = ""
    tenant: str = ""
    collection: str = ""
    batch: str = ""
    limit: int = 100


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """The first jobs by id, the number of all by state, and how many workers are alive.

    newest: the highest number that a job of anybody has; it grows by one with each document that is published, and
    may fall when finished jobs are forgotten.
    """

    jobs: tuple[JobInfo, ...]
    waiting: int = 0
    running: int = 0
    done: int = 0
    dead: int = 0
    workers: int = 0
    newest: int = 0

    @property
    def unfinished(self) -> int:
        """Jobs that a worker has yet to end."""
        return self.waiting + self.running


class JobQueue(Protocol):
    """Documents that wait for a worker; what is published survives the loss of any process.

    Two jobs of one document (tenant, collection, id) are worked on in the order of their publication and
    never at once. Safe to use from several threads. Every verb raises UnavailableError when the queue does
    not answer, and works again on the same object once it does.
    """

    def publish(
        self, tenant: str, collection: str, documents: Sequence[Document], batch: str = ""
    ) -> list[Published]:
        """Store `documents` and a job for each, all in one transaction; one answer for each, in order.

        A document that cannot be kept (NUL, an id given before in this call, parts that raise DocumentError)
        is refused with its reason, and the others go on. Parts are read once and never all held at once.
        `batch` is a label to find the jobs by. Raises InvalidInputError for bad names of tenant or collection.
        """
        ...

    def take(self, limit: int) -> list[Job]:
        """At most `limit` jobs that nobody else holds, oldest first; a suspect one comes alone. Never blocks.

        The taker lives for as long as this object and is known to be alive by its heartbeats; jobs of one
        that died come back when these have been missing for a while.
        """
        ...

    def settle(self, jobs: Sequence[Job], outcome: Outcome, error: str = "") -> None:
        """End jobs that were not done. A job that is no longer this taker's is left alone.

        failed: try again later, or dead after MAX_FAILURES times, with `error`. dead: at once. released: as if
        it had not been taken. A job that is done is finished by DocumentStore.replace, in its transaction.
        """
        ...

    def find(self, query: JobQuery) -> FoundJobs:
        """Jobs and their numbers. An id that nobody has given out is not among them."""
        ...

    def retry(self, ids: Sequence[str]) -> list[str]:
        """Let dead jobs be taken again, with all their attempts; returns the ids of those that were dead."""
        ...

    def close(self) -> None:
        """Give back what this taker holds and free the connections."""
        ...


def check_query(query: JobQuery) -> None:
    """Raises InvalidInputError for names that no job can have."""
    check_names(query.tenant or "any", query.collection or "any")


def check_scope(tenant: str, collection: str) -> None:
    """Raises InvalidInputError unless both names can be stored."""
    check_names(tenant, collection)


def check_document(document: Document, seen: set[str]) -> None:
    """Raises DocumentError for an id that is empty, too long, or in `seen`, which it is added to, and for metadata
    that cannot be stored. Texts are checked apart."""
    size = len(document.id.encode("utf-8", "replace"))
    # Room for the number that a chunk's id ends with.
    if not document.id or size > MAX_ID_BYTES - 16:
        raise DocumentError(f"its id must have 1 to {MAX_ID_BYTES - 16} bytes, got {size}")
    for what, text in (("id", document.id), ("title", document.title), ("source", document.source)):
        check_text(text, what)
    if document.extra and (fault := find_fault(dict(document.extra)) or check_size(dict(document.extra))):
        raise DocumentError(f"its metadata {fault}")
    if document.id in seen:
        raise DocumentError(f"its id {document.id[:80]!r} is given twice; only the first is kept")
    seen.add(document.id)


def check_text(text: str, what: str = "text") -> str:
    """`text` itself. Raises DocumentError for NUL and lone surrogates, which no database stores."""
    if "\x00" in text:
        raise DocumentError(f"its {what} holds a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DocumentError(f"its {what} holds a lone surrogate; it must be valid Unicode") from None
    return text


def check_limit(limit: int) -> None:
    """Raises InvalidInputError unless at least one job is asked for."""
    if limit < 1:
        raise InvalidInputError(f"limit must be at least 1, got {limit}")
