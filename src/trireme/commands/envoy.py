"""`trireme envoy`: the configuration of the Envoy that balances the servers of a values.yaml."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.errors import SettingError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def add_envoy(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    command = commands.add_parser("envoy", help="write the configuration of Envoy for a values.yaml")
    command.add_argument("--values", type=Path, required=True, metavar="FILE", help="the values of the chart")
    help = "where the files of the replicas are, one machine or several regions; without it Envoy asks DNS"
    command.add_argument("--endpoints", type=Path, metavar="FOLDER", help=help)
    command.add_argument("--out", type=Path, metavar="FILE", help="write there, to a name that ends in .json")
    command.set_defaults(run=_envoy)


def _envoy(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.scale.envoy import bootstrap
    from trireme.scale.values import read_values

    out: Path | None = arguments.out
    if out is not None and out.suffix != ".json":
        raise SettingError(f"--out {out}: the name must end in .json, for Envoy reads the format off it")
    configuration = bootstrap(read_values(arguments.values), endpoints=arguments.endpoints)
    text = json.dumps(configuration, indent=2)
    if out is None:
        print(text)
        return 0
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--out {out}: {error.strerror}") from None
    return 0
