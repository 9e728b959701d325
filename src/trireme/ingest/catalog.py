"""The catalog port: documents, passages, jobs, forget, drop. What a tenant holds, in pages, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trireme.errors import InvalidInputError
from trireme.ingest.queue import JobInfo, JobState, check_scope
from trireme.metadata import find_fault
from trireme.types import Passage

MOST_ROWS = 200
# A job's number in a database has 64 bits.
_DIGITS = 18


@dataclass(frozen=True, slots=True)
class DocumentsQuery:
    """Documents of a collection whose ids begin with `prefix`, from the first id greater than `after` on."""

    tenant: str
    collection: str
    prefix: str = ""
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document as it is stored, with the number of its passages. updated_at: Unix seconds."""

    id: str
    title: str
    source: str
    passages: int
    updated_at: float


@dataclass(frozen=True, slots=True)
class DocumentsPage:
    """Documents in the order of their ids' UTF-8 bytes. count, passages: of the whole collection."""

    documents: tuple[StoredDocument, ...]
    has_more: bool
    count: int
    passages: int


@dataclass(frozen=True, slots=True)
class PassagesQuery:
    """Passages of one document, from the one behind `after` on, or those about `around`; both are passage ids."""

    tenant: str
    collection: str
    document: str
    after: str = ""
    around: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class PassagesPage:
    """Passages in the order in which they stand in their document. has_earlier: some stand before them."""

    document: StoredDocument
    passages: tuple[Passage, ...]
    has_earlier: bool
    has_more: bool


@dataclass(frozen=True, slots=True)
class JobsQuery:
    """A tenant's jobs that agree with every field that is not empty, from the first one older than `after` on.

    collections: of any of them.
    """

    tenant: str
    ids: tuple[str, ...] = ()
    state: JobState | Literal[""] = ""
    collections: tuple[str, ...] = ()
    batch: str = ""
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class JobNumbers:
    """How many jobs of a collection are in each state."""

    collection: str
    waiting: int = 0
    running: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class JobsPage:
    """Jobs, the newest first. numbers: of all that agree but for `state`, `ids` and `after`, by collection."""

    jobs: tuple[JobInfo, ...]
    has_more: bool = False
    numbers: tuple[JobNumbers, ...] = ()
    workers: int = 0

    def count(self, state: JobState) -> int:
        """Jobs in a state, of all collections."""
        return sum(getattr(one, state) for one in self.numbers)


class Catalog(Protocol):
    """What one tenant at a time holds. Safe to use from several threads.

    Each verb sees one moment of the database. Every verb raises UnavailableError when the database does not answer,
    and InvalidInputError for names that nothing can have.
    """

    def documents(self, query: DocumentsQuery) -> DocumentsPage | None:
        """A page of a collection's documents; None where there is no such collection."""
        ...

    def passages(self, query: PassagesQuery) -> PassagesPage | None:
        """A page of a document's passages; None where there is no such document, or it has no passage `around`."""
        ...

    def jobs(self, query: JobsQuery) -> JobsPage:
        """A page of jobs. With `ids` nothing is counted. An id that nobody has given out is not among them."""
        ...

    def forget(self, tenant: str, job: str) -> bool:
        """Forget a dead job, with what it waited with; False for one that is not dead, or not the tenant's."""
        ...

    def drop(self, tenant: str, collection: str) -> bool:
        """Delete a collection with all it holds, and withdraw the jobs that wait or run for it, in one transaction.

        Dead jobs are forgotten. False where there was neither a collection nor a job. Blocks as long as it takes.
        """
        ...

    def close(self) -> None:
        """Free the connections. A drop that runs raises UnavailableError soon, and has deleted nothing.

        Idempotent; a later verb opens new ones.
        """
        ...


def check_documents(query: DocumentsQuery) -> None:
    """Raises InvalidInputError for names, a prefix or a limit that cannot be."""
    check_scope(query.tenant, query.collection)
    _check_texts(prefix=query.prefix, after=query.after)
    check_rows(query.limit)


def check_passages(query: PassagesQuery) -> None:
    """Raises InvalidInputError for names or a limit that cannot be, and for `after` beside `around`."""
    check_scope(query.tenant, query.collection)
    _check_texts(after=query.after, around=query.around)
    if query.after and query.around:
        raise InvalidInputError("after and around exclude each other; send one of them", "around")
    check_rows(query.limit)


def check_jobs(query: JobsQuery) -> None:
    """Raises InvalidInputError for names, a limit or an `after` that cannot be."""
    check_scope(query.tenant, "any")
    for name in query.collections:
        check_scope(query.tenant, name)
    _check_texts(batch=query.batch)
    if query.after and not is_job_id(query.after):
        raise InvalidInputError(f"after must be the id of a job, got {query.after[:40]!r}", "after")
    check_rows(query.limit)


def check_rows(limit: int) -> None:
    """Raises InvalidInputError unless a page of so many rows can be asked for."""
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidInputError(f"limit must be 1 to {MOST_ROWS}, got {limit}", "limit")


def is_job_id(text: str) -> bool:
    """Whether a job may have this id."""
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS


def job_numbers(ids: Sequence[str]) -> list[int]:
    """The numbers of those ids that a job may have."""
    return [int(one) for one in ids if is_job_id(one)]


def end_of_prefix(prefix: str) -> str:
    """The least text that is greater than all that begin with `prefix`; "" where there is none.

    Texts are compared by code points, which is the order of their UTF-8 bytes.
    """
    left = prefix
    while left:
        last = ord(left[-1]) + 1
        left = left[:-1]
        if last <= 0x10FFFF:
            # No text holds a surrogate.
            return left + chr(0xE000 if last == 0xD800 else last)
    return ""


def passage_order(passage: str) -> tuple[int, str]:
    """What puts the passages of one document in order: their ids end with their numbers, without leading zeros."""
    return len(passage), passage


def _check_texts(**texts: str) -> None:
    for name, text in texts.items():
        if fault := find_fault(text):
            raise InvalidInputError(f"{name} {fault}", name)
