"""`trireme`: ingest, worker, jobs, delete."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.errors import InvalidInputError, NotFoundError
from trireme.settings import Settings

# trireme.ingest.queue.STATES, without loading numpy for every command.
STATES = ("waiting", "running", "done", "dead", "cancelled")

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.index import IngestReport


def add_ingest(commands: Any) -> None:
    """Add the commands to argparse's subparsers; each sets `run`, as in cli.py."""
    ingest = commands.add_parser("ingest", help="index files, folders of them, or a BEIR folder")
    ingest.add_argument("path", type=Path)
    ingest.add_argument(
        "--delete-missing",
        action="store_true",
        help="delete the collection's documents that PATH does not have",
    )
    ingest.add_argument("--no-wait", action="store_true", help="publish only; workers do the rest meanwhile")
    ingest.set_defaults(run=_ingest)

    worker = commands.add_parser("worker", help="index what is published, until Ctrl-C")
    worker.add_argument("--drain", action="store_true", help="end when nothing is left to do")
    # Started by `trireme serve`: ends with it, however that ends.
    worker.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    worker.set_defaults(run=_worker)

    jobs = commands.add_parser("jobs", help="show how far published documents are, and retry dead ones")
    jobs.add_argument("--state", choices=STATES, help="list jobs of this state only")
    jobs.add_argument("--limit", type=int, default=50, help="jobs to list (default: 50)")
    jobs.add_argument(
        "--retry", metavar="ID", help="let a dead job, or all of them, be tried again: ID or all"
    )
    jobs.set_defaults(run=_jobs)

    delete = commands.add_parser("delete", help="delete documents with their passages")
    delete.add_argument("ids", nargs="+", metavar="ID")
    delete.set_defaults(run=_delete)

    for command in (ingest, jobs, delete):
        add_scope(command)


def add_scope(command: argparse.ArgumentParser, *, with_collection: bool = True) -> None:
    """The options that say whose passages, and which."""
    command.add_argument("--tenant", help="whose passages (TRIREME_TENANT)")
    if with_collection:
        command.add_argument("--collection", help="which collection (TRIREME_COLLECTION)")


def database_url(settings: Settings) -> str:
    """The database to talk to: the setting's, or that of the running embedded server. Raises NotFoundError."""
    from trireme.local.postgres import running_url

    url = settings.database_url or running_url(settings.data_dir)
    if not url:
        raise NotFoundError(
            f"no database runs in {settings.data_dir}; start it with: make serve, or set TRIREME_DATABASE_URL"
        )
    return url


def _ingest(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.index import publish_path

    report = publish_path(
        settings,
        arguments.path,
        database_url(settings),
        console,
        delete_missing=arguments.delete_missing,
        wait=not arguments.no_wait,
    )
    print_report(report, settings.collection, console)
    return 1 if report.dead else 0


def print_report(report: IngestReport, collection: str, console: Console) -> None:
    """What became of the documents: one line, and one for each that was left out or failed."""
    done = report.published - report.dead - report.waits
    parts = [f"Indexed {done} documents into {collection!r} in {report.seconds:.1f} s"]
    counts = {
        "unchanged": report.unchanged,
        "waiting": report.waits,
        "failed": report.dead,
        "deleted": report.missing,
    }
    parts += [f"{count} {what}" for what, count in counts.items() if count]
    line = ", ".join(parts)
    console.print(f"{line}; it holds {report.passages} passages.", highlight=False, markup=False)
    for text in report.skipped:
        console.print(f"skipped {text}", highlight=False, markup=False)
    for job in report.failed:
        console.print(f"failed {job.document}: {job.error}", highlight=False, markup=False)
    if report.dead:
        console.print("See them with: trireme jobs --state dead; try again with: trireme jobs --retry all")
    if report.missing_kept:
        console.print("Nothing was deleted: a document could not be read, and may be one that is stored.")
    if report.waits and not report.workers:
        console.print("No worker is running. Start one with: trireme worker")


def _worker(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.work import run_worker

    def notice(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    notice("Worker started; Ctrl-C ends it.")
    stats = run_worker(
        settings, database_url(settings), notice, drain=arguments.drain, parent=arguments.parent
    )
    share = stats.embed_seconds / stats.seconds if stats.seconds else 0.0
    notice(
        f"Indexed {stats.documents} documents, {stats.passages} passages in {stats.seconds:.1f} s"
        f" ({share:.0%} of it embedding, {stats.paused_seconds:.1f} s of it paused for others)"
        + (f"; {stats.failed} failures: trireme jobs" if stats.failed else "")
        + "."
    )
    return 0


def _jobs(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.ingest.queue import JobQuery, JobState
    from trireme.ingest.registry import open_queue
    from trireme.report import jobs_table

    collection = settings.collection if arguments.collection else ""
    with closing(open_queue(database_url(settings), settings.worker_timeout_seconds)) as queue:
        if arguments.retry:
            dead = JobQuery(state="dead", tenant=settings.tenant, collection=collection, limit=1_000_000)
            if arguments.retry != "all":
                dead = dataclasses.replace(dead, ids=(arguments.retry,))
            retried = queue.retry([job.id for job in queue.find(dead).jobs])
            if not retried and arguments.retry != "all":
                raise NotFoundError(
                    f"no dead job {arguments.retry!r}; trireme jobs --state dead lists those there are"
                )
            console.print(f"{len(retried)} jobs will be tried again.", highlight=False)
            return 0
        if arguments.limit < 1:
            raise InvalidInputError(f"--limit must be at least 1, got {arguments.limit}")
        every = JobQuery(tenant=settings.tenant, collection=collection, limit=arguments.limit)
        states: tuple[JobState, ...] = ("dead", "running", "waiting")
        if arguments.state:
            states = (arguments.state,)
        found = queue.find(dataclasses.replace(every, limit=0))
        shown = [job for state in states for job in queue.find(dataclasses.replace(every, state=state)).jobs]
    console.print(
        f"{found.waiting} waiting, {found.running} running, {found.done} done, {found.dead} dead;"
        f" {found.workers} workers.",
        highlight=False,
    )
    if shown:
        console.print(jobs_table(shown[: arguments.limit]))
    return 0


def _delete(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.ingest.registry import open_documents

    with closing(open_documents(database_url(settings))) as documents:
        deleted = documents.delete(settings.tenant, settings.collection, arguments.ids)
    console.print(f"Deleted {len(deleted)} documents of {settings.collection!r}.", highlight=False)
    missing = [one for one in arguments.ids if one not in deleted]
    if missing:
        raise NotFoundError(f"no document {', '.join(map(repr, missing))} in {settings.collection!r}")
    return 0
