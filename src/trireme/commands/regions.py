"""`trireme regions`: the process beside one Envoy that says in which order it asks other regions."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

# Field of RegionOptions -> help. Flags of seconds end with -seconds.
_HELP = {
    "values": "the values.yaml that Envoy was configured from",
    "endpoints": "the folder of the files that Envoy watches; those of far endpoints are written there",
    "host": "address to bind to",
    "port": "TCP port of HTTP: /ready, /metrics",
    "probe": "between two probes of a region",
    "answer": "that one probe may take",
    "window": "probes of which the median counts",
    "misses": "unanswered probes in a row after which a region counts as silent",
    "nearer_percent": "that a region must be nearer than another to go before it",
    "nearer": "that it must be nearer as well",
    "hold": "that it must have been so",
    "resolve": "between two look-ups of the balancers' names",
}


def add_regions(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    from trireme.regions.options import RegionOptions, flag_of

    command = commands.add_parser(
        "regions", help="order the other regions by round trip for one Envoy, until Ctrl-C"
    )
    for option in fields(RegionOptions):
        is_needed = option.default is MISSING
        kind: Any = Path if is_needed else type(option.default)
        metavar = "SECONDS" if kind is float else {"values": "FILE", "endpoints": "FOLDER"}.get(option.name)
        command.add_argument(
            flag_of(option.name),
            dest=option.name,
            type=kind,
            metavar=metavar,
            required=is_needed,
            help=_HELP[option.name] if is_needed else f"{_HELP[option.name]} ({option.default})",
        )
    # Started by `trireme serve`: ends with it, however that ends.
    command.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    command.set_defaults(run=_regions)


def _regions(arguments: argparse.Namespace, _: Settings, console: Console) -> int:
    from trireme.regions.controller import run_controller
    from trireme.regions.options import RegionOptions

    names = [option.name for option in fields(RegionOptions)]
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}

    def notice(text: str) -> None:
        # Whoever listens may be gone, or the disk of the log full: the order is kept all the same.
        with suppress(OSError):
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    run_controller(RegionOptions(**given), notice, arguments.parent)
    return 0
