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
    help = "where the files of the replicas are; without it Envoy asks DNS"
    command.add_argument("--endpoints", type=Path, metavar="FOLDER", help=help)
    help = "where the files of other regions are, if elsewhere; empty ones are made where there are none"
    command.add_argument("--far-endpoints", type=Path, metavar="FOLDER", help=help)
    command.add_argument("--out", type=Path, metavar="FILE", help="write there, to a name that ends in .json")
    command.set_defaults(run=_envoy)


def _envoy(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.scale.endpoints import make_far
    from trireme.scale.envoy import bootstrap
    from trireme.scale.region_tls import write_secrets
    from trireme.scale.spill import make_shares
    from trireme.scale.values import read_values

    out: Path | None = arguments.out
    if out is not None and out.suffix != ".json":
        raise SettingError(f"--out {out}: the name must end in .json, for Envoy reads the format off it")
    values = read_values(arguments.values)
    configuration = bootstrap(
        values,
        endpoints=arguments.endpoints,
        far_endpoints=arguments.far_endpoints,
        secrets=out.parent if out is not None else None,
    )
    if arguments.far_endpoints is not None and values.has_failover:
        # Envoy does not start without them, and who writes them starts with it.
        for entry in values.models:
            make_far(arguments.far_endpoints, entry.name)
    far = arguments.far_endpoints or arguments.endpoints
    if far is not None and values.has_failover and values.envoy.spill:
        make_shares(far)
    text = json.dumps(configuration, indent=2)
    if out is None:
        print(text)
        return 0
    if values.envoy.region_tls is not None:
        write_secrets(out.parent, values.envoy.region_tls, values.other_regions)
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise SettingError(f"--out {out}: {error.strerror}") from None
    return 0
