"""`trireme agent` and `trireme drain`: the process beside one tritonserver, and the way out of its balancer."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, fields, replace
from typing import TYPE_CHECKING, Any

from trireme.commands.machines import noted_up
from trireme.errors import SettingError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

# Field of AgentOptions -> help. Flags of seconds end with -seconds.
_HELP = {
    "server": "host:port of Triton's gRPC (that of the settings)",
    "metrics_url": "Triton's Prometheus page (that of the settings)",
    "port": "TCP port of gRPC: health checks and load reports",
    "http_port": "TCP port of HTTP: /ready, /drain, /metrics; 0: --port and 1",
    "host": "address to bind both to",
    "models": "models that should be there, with commas between them; all that the server has",
    "poll": "between two looks at the server",
    "answer": "that the server may take for one look",
    "misses": "looks without an answer in a row after which the server counts as gone",
    "health_interval": "between two health checks of the balancer",
    "health_failures": "failed health checks after which the balancer leaves a replica out",
    "drain": "the longest that a drain waits",
    "settle": "without any request before a server counts as idle",
    "canary": "between two questions to each model",
    "hung": "a model may owe an answer so long",
    "target": "of waiting work at which a replica is full",
    "release": "name of what runs, as metrics tell it (that of the settings)",
}


def add_agent(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    from trireme.agent.options import AgentOptions, flag_of

    agent = commands.add_parser("agent", help="run the agent beside one tritonserver, until Ctrl-C")
    for option in fields(AgentOptions):
        default = option.default
        kind = str if default is MISSING or isinstance(default, str | tuple) else type(default)
        metavar = "SECONDS" if kind is float else None
        agent.add_argument(
            flag_of(option.name), dest=option.name, type=kind, metavar=metavar, help=_HELP[option.name]
        )
    # Started by `trireme serve`: ends with it, however that ends.
    agent.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    agent.set_defaults(run=_agent)


def add_drain(commands: Any) -> None:
    """As `add_agent`."""
    command = commands.add_parser(
        "drain", help="take a replica out of its balancer and wait until it is idle; exit 0 when it is"
    )
    command.add_argument("--agent", required=True, metavar="HOST:PORT", help="the HTTP of its agent")
    command.add_argument("--seconds", type=float, default=120.0, help="the longest to wait (120)")
    command.set_defaults(run=_drain)


def _agent(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    import asyncio

    from trireme.agent.options import AgentOptions
    from trireme.agent.server import run_agent
    from trireme.triton.wire import own_address

    given: dict[str, Any] = {
        "server": own_address(settings.host, settings.grpc_port),
        "metrics_url": f"http://{own_address(settings.host, settings.metrics_port)}/metrics",
        "release": settings.release,
    }
    for option in fields(AgentOptions):
        if (value := getattr(arguments, option.name)) is not None:
            given[option.name] = tuple(value.split(",")) if option.name == "models" else value
    options = AgentOptions(**given)

    def notice(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    # Its hours are of the release that its metrics tell.
    with noted_up(replace(settings, release=options.release)):
        asyncio.run(run_agent(options, notice, arguments.parent))
    return 0


def _drain(arguments: argparse.Namespace, _: Settings, console: Console) -> int:
    from trireme.agent.client import drain
    from trireme.agent.options import MOST_SECONDS, read_address

    read_address(arguments.agent, "--agent")
    if not 0 <= arguments.seconds <= MOST_SECONDS:
        raise SettingError(f"--seconds must be from 0 to {MOST_SECONDS:.0f}, got {arguments.seconds}")
    report = drain(arguments.agent, arguments.seconds)
    if report.is_empty:
        console.print(f"Drained in {report.waited:.1f} s: nothing is left.", highlight=False)
        return 0
    console.print(
        f"Not drained within {report.waited:.1f} s: {report.pending} pending, {report.waiting} waiting,"
        f" {report.running} running.",
        highlight=False,
    )
    return 1
