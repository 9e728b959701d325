"""`trireme collections`, `set-language` and `drop`: what is indexed; in which language; one of them less."""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope, database_url
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_collections(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    command = commands.add_parser("collections", help="list what is indexed")
    command.set_defaults(run=_collections)
    add_scope(command, with_collection=False)


def add_set_language(commands: Any) -> None:
    """As `add_collections`."""
    command = commands.add_parser("set-language", help="read the words of a collection by another language")
    command.add_argument("name")
    command.add_argument("language", help="auto, by document, or a code or English name")
    command.set_defaults(run=_set_language)
    add_scope(command, with_collection=False)


def add_drop(commands: Any) -> None:
    """As `add_collections`."""
    command = commands.add_parser("drop", help="delete a collection")
    command.add_argument("name")
    command.set_defaults(run=_drop)
    add_scope(command, with_collection=False)


def _collections(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.commands.tables import collections_table
    from trireme.storage import open_store

    with closing(open_store(database_url(settings))) as store:
        console.print(collections_table(store.collections(settings.tenant)))
    return 0


def _set_language(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    """Sets it, and reads the passages that are there anew, some at a time; the same call again completes it."""
    from trireme.documents.detect import detect_language
    from trireme.languages import read_language
    from trireme.retrieve.store import raise_unknown
    from trireme.storage import open_languages

    language, scope = read_language(arguments.language), (settings.tenant, arguments.name)
    with closing(open_languages(database_url(settings))) as languages:
        held = languages.find(*scope)
        if held is None:
            raise_unknown(arguments.name)
        languages.set(*scope, language)
        tell = partial(detect_language, fallback=held.main)
        seen = written = after = 0
        while (step := languages.reread(*scope, tell, after)).passages:
            seen, written, after = seen + step.passages, written + step.written, step.last
    console.print(
        f"Collection {arguments.name!r} has the language {language}: {written} of {seen} passages were read anew.",
        highlight=False,
        markup=False,
    )
    return 0


def _drop(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_store

    with closing(open_store(database_url(settings))) as store:
        passages = store.drop(settings.tenant, arguments.name)
    console.print(f"Dropped {arguments.name!r}: {passages} passages.", highlight=False)
    return 0
