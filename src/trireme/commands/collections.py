"""`trireme collections` and `drop`: what is indexed; one of them less."""

from __future__ import annotations

import argparse
from contextlib import closing
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


def _drop(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_store

    with closing(open_store(database_url(settings))) as store:
        passages = store.drop(settings.tenant, arguments.name)
    console.print(f"Dropped {arguments.name!r}: {passages} passages.", highlight=False)
    return 0
