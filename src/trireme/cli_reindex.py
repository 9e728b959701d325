"""`trireme reindex`: its arguments."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.cli_ingest import add_scope
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

# trireme.ingest.held.DEFAULT_TOLERANCE, without loading numpy for every command.
TOLERANCE = 0.02


def add_reindex(commands: Any) -> None:
    """Adds the command to `commands`, the subparsers of the command line."""
    reindex = commands.add_parser(
        "reindex", help="give a collection another embedder while searches go on; --rollback goes back"
    )
    what = reindex.add_mutually_exclusive_group(required=True)
    what.add_argument("--embedding", metavar="MODEL", help="the served text encoder to change to")
    what.add_argument("--status", action="store_true", help="list the index versions")
    what.add_argument("--rollback", action="store_true", help="search the former version again")
    what.add_argument("--drop", action="store_true", help="remove a version that is not searched")
    reindex.add_argument("--version", type=int, metavar="N", help="which version to drop, of several")
    reindex.add_argument(
        "--storage",
        choices=("float32", "float16", "binary"),
        default="",
        help="of the vectors (as they are now)",
    )
    reindex.add_argument("--queries", type=Path, metavar="DIR", help="compare on this BEIR folder's queries")
    reindex.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="X",
        help=f"by how much nDCG@10, MRR@10 and recall@100 may fall ({TOLERANCE:g})",
    )
    reindex.add_argument("--force", action="store_true", help="switch without comparing")
    reindex.set_defaults(run=_reindex)
    add_scope(reindex)


def _reindex(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.reindex import run_reindex

    return run_reindex(arguments, settings, console)
