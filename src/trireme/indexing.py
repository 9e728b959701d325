"""Indexing a path: its documents are published, and a worker, here or elsewhere, puts them into the collection."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trireme.documents.load import Limits, Skipped, load
from trireme.errors import InvalidInputError, UnavailableError
from trireme.ingest.publish import PublishCounts, Publisher
from trireme.ingest.queue import FoundJobs, JobInfo, JobQuery, JobQueue
from trireme.languages import ENGLISH
from trireme.retrieve.languages import CollectionLanguages
from trireme.retry import Pauses, retry
from trireme.served_encoders import ServedEncoders, open_worker
from trireme.settings import Settings
from trireme.storage import open_documents, open_languages, open_queue, open_store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

POLL_SECONDS = 0.3
# A worker that is started again after a crash is away for a moment.
NO_WORKER_SECONDS = 5.0
# A database may be away for two minutes while jobs are waited for.
PAUSES = Pauses(POLL_SECONDS, POLL_SECONDS, patience=120.0)
NAMED_DEAD = 20


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one call did: documents seen, unchanged, published, deleted as missing, and those that failed.

    passages: what the collection holds now. skipped has a line for each document that was left out. failed has
    the first dead jobs. waits: jobs that were not done when the call ended. missing_kept: nothing was deleted,
    since not every document that is there could be told.
    """

    seen: int
    unchanged: int
    published: int
    missing: int
    passages: int
    dead: int
    failed: tuple[JobInfo, ...]
    skipped: tuple[str, ...]
    waits: int
    workers: int
    missing_kept: bool
    seconds: float


def ingest_path(
    settings: Settings, path: Path, database_url: str, console: Console, model: str = ""
) -> IngestReport:
    """Indexes a file or folder into the settings' tenant and collection, with a worker of its own.

    Embeds on the running server; `model` is the text encoder of a new collection ("" means the retriever's).
    Blocks until all is stored; raises TriremeError. What was published before an error stays, and the same
    call again completes it.
    """

    def work(queue: JobQueue, batch: str) -> None:
        # What failed waits a little before its next attempt; what another worker holds, until that one is done.
        while queue.find(JobQuery(batch=batch, limit=0)).unfinished:
            with open_worker(settings, database_url, partial(console.print, markup=False), model) as worker:
                worker.run(drain=True)
            time.sleep(POLL_SECONDS)

    return _ingest(settings, path, database_url, console, work, model=model)


def publish_path(
    settings: Settings,
    path: Path,
    database_url: str,
    console: Console,
    *,
    delete_missing: bool = False,
    wait: bool = True,
    meanwhile: Callable[[], None] | None = None,
    language: str = "",
) -> IngestReport:
    """Publishes a file or folder for the workers; with `wait` blocks until they have done it, with a progress bar.

    delete_missing: documents of the collection that `path` does not have are deleted. meanwhile: is called
    now and then while it waits. language: of a new collection, "" means the settings'; of one that is there it must
    be the same. Raises TriremeError.
    """

    def watch(queue: JobQueue, batch: str) -> None:
        if wait:
            wait_for(queue, batch, console, meanwhile)

    return _ingest(
        settings, path, database_url, console, watch, delete_missing=delete_missing, language=language
    )


def _ingest(
    settings: Settings,
    path: Path,
    database_url: str,
    console: Console,
    work: Callable[[JobQueue, str], None],
    *,
    delete_missing: bool = False,
    model: str = "",
    language: str = "",
) -> IngestReport:
    started = time.monotonic()
    skipped = Skipped()
    batch = uuid.uuid4().hex
    scope = (settings.tenant, settings.collection)
    limits = Limits(settings.max_document_bytes, settings.max_parsed_bytes)
    with (
        closing(open_queue(database_url, settings.worker_timeout_seconds)) as queue,
        closing(open_documents(database_url)) as documents,
        closing(open_store(database_url)) as store,
        closing(open_languages(database_url)) as languages,
        closing(ServedEncoders(settings, store, model, languages)) as encoders,
    ):
        _agree_on_language(languages, settings, language)
        fingerprint = encoders.choose(*scope).fingerprint
        publisher = Publisher(queue, documents, scope, batch, skipped)
        with _progress(console) as progress:
            task = progress.add_task(f"Reading {path}", total=None)
            publisher.publish(
                load(path, skipped, limits, fingerprint), partial(_show_tally, progress, task, path)
            )
        missing_kept = delete_missing and not publisher.delete_missing()
        if publisher.tally.published:
            work(queue, batch)
        found = queue.find(JobQuery(batch=batch, limit=0))
        dead = queue.find(JobQuery(batch=batch, state="dead", limit=NAMED_DEAD)).jobs if found.dead else ()
        passages = sum(
            info.passages for info in store.collections(settings.tenant) if info.collection == scope[1]
        )
    tally = publisher.tally
    return IngestReport(
        tally.seen,
        tally.unchanged,
        tally.published,
        tally.missing,
        passages,
        found.dead,
        dead,
        skipped.lines(),
        found.unfinished,
        found.workers,
        missing_kept,
        time.monotonic() - started,
    )


def _agree_on_language(languages: CollectionLanguages, settings: Settings, language: str) -> None:
    """Raises InvalidInputError for another language than the collection has."""
    if not language:
        return
    held = languages.find(settings.tenant, settings.collection)
    if held is None:
        languages.set(settings.tenant, settings.collection, language)
    elif (held.language or ENGLISH) != language:
        raise InvalidInputError(
            f"collection {settings.collection!r} has the language {held.language or ENGLISH}, not {language}:"
            f" change it with trireme set-language {settings.collection} {language}, or name another collection",
            "language",
        )


def wait_for(
    queue: JobQueue, batch: str, console: Console, meanwhile: Callable[[], None] | None = None
) -> None:
    """Blocks until every job of `batch` is done or dead, with a progress bar. Raises UnavailableError.

    Says once that no worker is alive, and waits on: one may be started.
    """
    first = _find(queue, batch)
    last_worker = time.monotonic()
    told = False
    with _progress(console) as progress:
        task = progress.add_task("Indexing documents", total=first.unfinished)
        while found := _find(queue, batch):
            progress.update(task, completed=first.unfinished - found.unfinished)
            if not found.unfinished:
                return
            if found.workers:
                last_worker = time.monotonic()
            elif not told and time.monotonic() - last_worker > NO_WORKER_SECONDS:
                told = True
                console.print(
                    f"No worker is running: {found.unfinished} documents wait. Start one with: trireme worker",
                    highlight=False,
                )
            if meanwhile is not None:
                meanwhile()
            time.sleep(POLL_SECONDS)


def _find(queue: JobQueue, batch: str) -> FoundJobs:
    """The numbers of a batch, from a database that may be away for a while."""
    return retry(lambda: queue.find(JobQuery(batch=batch, limit=0)), UnavailableError, PAUSES, time.sleep)


def _show_tally(progress: Progress, task: object, path: Path, tally: PublishCounts) -> None:
    progress.update(task, description=f"Reading {path}", completed=tally.seen)  # type: ignore[arg-type]


def _progress(console: Console) -> Progress:
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
