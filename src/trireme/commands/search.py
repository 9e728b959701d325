"""`trireme search`: the best passages for a question."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from trireme.commands.scope import add_scope
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_search(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    search = commands.add_parser("search", help="print the best passages for a question")
    search.add_argument("query")
    search.add_argument("--top-k", type=int, help="passages to print (server default: 10)")
    search.add_argument("--filter", help='JSON that their metadata must contain, such as {"source": "a.md"}')
    modes = ("dense", "text", "sparse", "hybrid")
    search.add_argument("--mode", choices=modes, help="by vectors, words, weights of terms or several")
    search.add_argument("--url", help="gRPC host:port of the server")
    search.set_defaults(run=_search)
    add_scope(search)


def _search(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.commands.tables import print_hits
    from trireme.triton.call_route import STAYS
    from trireme.triton.client import TritonClient

    with TritonClient(arguments.url or settings.grpc_url, route=STAYS) as client:
        hits = client.search(
            arguments.query,
            arguments.top_k,
            settings.tenant,
            settings.collection,
            filter=arguments.filter,
            search_mode=arguments.mode,
        )
    print_hits(console, hits, console.width)
    return 0
