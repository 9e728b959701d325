"""`trireme jobs`: how far published documents are; dead ones again."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope, database_url
from trireme.errors import InvalidInputError, NotFoundError
from trireme.settings import Settings

# trireme.ingest.queue.STATES, without loading numpy for every command.
STATES = ("waiting", "running", "done", "dead", "cancelled")

if TYPE_CHECKING:
    from rich.console import Console


def add_jobs(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    jobs = commands.add_parser("jobs", help="show how far published documents are, and retry dead ones")
    jobs.add_argument("--state", choices=STATES, help="list jobs of this state only")
    jobs.add_argument("--limit", type=int, default=50, help="jobs to list (default: 50)")
    jobs.add_argument(
        "--retry", metavar="ID", help="let a dead job, or all of them, be tried again: ID or all"
    )
    jobs.set_defaults(run=_jobs)
    add_scope(jobs)


def _jobs(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.commands.tables import jobs_table
    from trireme.ingest.queue import JobQuery, JobState
    from trireme.storage import open_queue

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
