"""`trireme ingest`: publishes a file or folder for the workers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope, database_url
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.indexing import IngestReport


def add_ingest(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    ingest = commands.add_parser("ingest", help="index files, folders of them, or a BEIR folder")
    ingest.add_argument("path", type=Path)
    ingest.add_argument(
        "--delete-missing",
        action="store_true",
        help="delete the collection's documents that PATH does not have",
    )
    ingest.add_argument(
        "--language",
        help="of a new collection: auto, by document, or a code or English name (TRIREME_LANGUAGE)",
    )
    ingest.add_argument("--no-wait", action="store_true", help="publish only; workers do the rest meanwhile")
    ingest.set_defaults(run=_ingest)
    add_scope(ingest)


def _ingest(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.indexing import publish_path
    from trireme.languages import read_language

    report = publish_path(
        settings,
        arguments.path,
        database_url(settings),
        console,
        delete_missing=arguments.delete_missing,
        wait=not arguments.no_wait,
        language="" if arguments.language is None else read_language(arguments.language),
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
