"""`trireme serve`: the whole stack on one machine, and the sample corpus on the first run."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trireme.errors import SettingError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.commands.first_keys import FirstKeys
    from trireme.fleet.fleet import Fleet
    from trireme.indexing import IngestReport
    from trireme.stack import Stack


def add_serve(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    command = commands.add_parser(
        "serve", help="start PostgreSQL, tritonserver, the worker and the gateway in the foreground"
    )
    help = "index these files and folders on the first run"
    command.add_argument("--corpus", type=Path, nargs="+", default=[], metavar="PATH", help=help)
    help = "so many tritonservers, with Envoy in front; trireme restart restarts them one by one"
    command.add_argument("--replicas", type=int, default=1, metavar="N", help=help)
    help = "put Envoy in front of one tritonserver too"
    command.add_argument("--behind-envoy", action="store_true", help=help)
    command.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    # One server without Envoy is no fleet.
    replicas = arguments.replicas if arguments.behind_envoy or arguments.replicas != 1 else 0
    if arguments.replicas < 1:
        raise SettingError(f"--replicas must be 1 or more, got {arguments.replicas}")
    if settings.regions_file and not replicas:
        raise SettingError("TRIREME_REGIONS_FILE needs Envoy: serve with --behind-envoy or --replicas N")
    try:
        serve(settings, arguments.corpus, console, replicas)
    except KeyboardInterrupt:
        console.print("Stopped.")
    return 0


def serve(settings: Settings, corpus: Sequence[Path], console: Console, replicas: int = 0) -> None:
    """Runs the stack in the foreground until Ctrl-C. `corpus` is indexed where there is no collection yet.

    replicas: see Stack.

    Raises TriremeError when a part cannot start or ends, KeyboardInterrupt on a signal; nothing is left running.
    """
    from trireme.commands.first_keys import is_kept, make_first_keys
    from trireme.commands.gateway import check_regions
    from trireme.gateway.file import read_gateway_file
    from trireme.otlp.opening import check_extra
    from trireme.stack import Stack, interruptible

    # A fault in it is told before anything starts.
    file = read_gateway_file(settings.gateway_file)
    check_regions(settings, file)
    check_extra(settings.collector["url"])
    with interruptible(), ExitStack() as resources:
        servers = f"{replicas} tritonservers and Envoy" if replicas else "tritonserver"
        with console.status(f"Starting PostgreSQL and {servers}"):
            stack = resources.enter_context(Stack(settings, has_gateway=True, replicas=replicas))
        stack.start_worker()
        with console.status("Starting the gateway"):
            stack.start_gateway()
        if corpus and not _has_collection(settings, stack.database_url):
            reports = [_index(stack, path, console) for path in corpus]
            named = ", ".join(map(str, corpus))
            documents = sum(report.published for report in reports)
            console.print(f"Indexed {named}: {reports[-1].passages} passages of {documents} documents.")
        keys = make_first_keys(settings, stack.database_url, has_admin=not is_kept(console.file))
        _announce(settings, keys, console, stack.fleet, has_console=file.console.on)
        stack.wait(console.print)


def _index(stack: Stack, corpus: Path, console: Console) -> IngestReport:
    from trireme.indexing import publish_path

    def look_after() -> None:
        stack.look_after(console.print)

    return publish_path(stack.settings, corpus, stack.database_url, console, meanwhile=look_after)


def _has_collection(settings: Settings, database_url: str) -> bool:
    from trireme.storage import open_store

    with closing(open_store(database_url)) as store:
        found = store.collections(settings.tenant)
    return any(info.collection == settings.collection for info in found)


def _announce(
    settings: Settings, keys: FirstKeys, console: Console, fleet: Fleet | None, *, has_console: bool
) -> None:
    from trireme.commands.first_keys import announce_app_key, announce_console
    from trireme.commands.gateway import base_url
    from trireme.commands.tables import models_table

    host, http = settings.host if fleet is None else fleet.hosts[0], settings.http_port
    metrics = f"{host}:{settings.metrics_port}"
    console.print(models_table(settings.model_repository))
    if fleet is None:
        ready = f"HTTP {host}:{http}, gRPC {settings.grpc_url}, metrics {metrics}"
    else:
        servers = "1 tritonserver" if len(fleet.hosts) == 1 else f"{len(fleet.hosts)} tritonservers"
        ready = f"gRPC {settings.grpc_url}, through Envoy to {servers}"
    console.print(
        f"Ready: {ready}. Ctrl-C stops everything.\nGateway: {base_url(settings)}",
        highlight=False,
        soft_wrap=True,
    )
    if fleet is not None:
        _announce_replicas(fleet, console)
    if keys.app:
        announce_app_key(settings, keys.app, console)
    announce_console(settings, keys.admin, console, is_on=has_console)
    restart = [".venv/bin/trireme restart"] if fleet is not None and len(fleet.hosts) > 1 else []
    console.print("\nTry in another terminal:", highlight=False)
    body = '{"query": "what does the dynamic batcher wait for?", "top_k": 3}'
    for command in (
        *name_repository(settings),
        '.venv/bin/trireme ask "how do I change the port?"',
        '.venv/bin/trireme search "what does the dynamic batcher wait for?"',
        ".venv/bin/trireme ingest PATH --collection NAME",
        *restart,
        f"curl -s {host}:{http}/v2/models/search/generate -d '{body}'",
    ):
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)


def name_repository(settings: Settings) -> list[str]:
    """What tells other commands the models that are served, whose recipes they read; nothing for the default."""
    repository = settings.model_repository
    if repository == Settings().model_repository:
        return []
    return [f"export TRIREME_MODEL_REPOSITORY={shlex.quote(str(repository))}"]


def _announce_replicas(fleet: Fleet, console: Console) -> None:
    for replica in fleet.replicas:
        place = replica.place
        console.print(
            f"Replica {place.name}: {place.address}, HTTP {place.http_port}, gRPC {place.grpc_port},"
            f" metrics {place.metrics_port}, its agent's {place.agent_http_port}.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"Envoy's metrics: http://{fleet.envoy_metrics}/stats/prometheus", highlight=False)
    if (values := fleet.values).regions:
        others = ", ".join(f"{one.name} at {one.balancer}" for one in values.other_regions) or "none"
        listen = values.envoy.region_listen
        reached = f"{listen.address}:{listen.port}" if listen is not None else "nothing"
        console.print(
            f"Region {values.own_region}: others reach {reached}. Other regions: {others}.",
            highlight=False,
            soft_wrap=True,
        )
    if fleet.regions_metrics:
        console.print(f"Metrics of their order: http://{fleet.regions_metrics}/metrics", highlight=False)
