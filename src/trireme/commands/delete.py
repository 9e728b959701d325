"""`trireme delete`: documents with their passages."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope, database_url
from trireme.errors import NotFoundError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_delete(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    delete = commands.add_parser("delete", help="delete documents with their passages")
    delete.add_argument("ids", nargs="+", metavar="ID")
    delete.set_defaults(run=_delete)
    add_scope(delete)


def _delete(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.storage import open_documents

    with closing(open_documents(database_url(settings))) as documents:
        deleted = documents.delete(settings.tenant, settings.collection, arguments.ids)
    console.print(f"Deleted {len(deleted)} documents of {settings.collection!r}.", highlight=False)
    missing = [one for one in arguments.ids if one not in deleted]
    if missing:
        raise NotFoundError(f"no document {', '.join(map(repr, missing))} in {settings.collection!r}")
    return 0
