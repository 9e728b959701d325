"""`trireme models`, `ready` and `env`: what is served, whether it answers, and how a shell finds the server."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from trireme.errors import UnavailableError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.fleet.control import FleetState, ReplicaState
    from trireme.triton.served_models import ServedModel


def add_models(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    command = commands.add_parser("models", help="show what is served, with precision, size and quality")
    command.set_defaults(run=_models)


def add_ready(commands: Any) -> None:
    """As `add_models`."""
    command = commands.add_parser("ready", help="exit 0 when every model, its files and the database answer")
    # Of an orchestrator's liveness probe: to start the server again helps a dead process, and no database.
    command.add_argument("--alive", action="store_true", help="ask only whether each model's processes live")
    command.set_defaults(run=_ready_or_alive)


def add_env(commands: Any) -> None:
    """As `add_models`."""
    command = commands.add_parser("env", help="print shell exports that make `tritonserver` a command")
    command.set_defaults(run=_env)


def _models(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.commands.tables import models_table

    repository = settings.model_repository
    try:
        served = _read_served(settings)
    except UnavailableError as error:
        if not repository.is_dir():
            raise UnavailableError(f"{error}, and {repository} is no folder with models") from None
        console.print(models_table(repository))
        console.print(f"No server answers; this is what {repository} holds. Start one with: make serve")
        return 0
    console.print(models_table(repository, served))
    for model in served:
        if model.reason:
            console.print(f"{model.name}: {model.reason}", highlight=False, markup=False)
    if not repository.is_dir():
        console.print(
            f"Precision, size and quality are in the served model repository, which is not {repository.resolve()}:"
            " name it with TRIREME_MODEL_REPOSITORY.",
            highlight=False,
        )
    return 0


def _read_served(settings: Settings) -> list[ServedModel]:
    """Of the one server, or of all that are set or that the fleet in the data directory has, merged."""
    from trireme.fleet.control import running_fleet
    from trireme.triton.many_servers import read_models_of_all
    from trireme.triton.served_models import read_served_models

    fleet = None if settings.server_hosts else running_fleet(settings)
    hosts = tuple(one.address for one in fleet.replicas) if fleet else settings.listed_server_hosts
    if hosts:
        return read_models_of_all(hosts, settings.http_port, settings.metrics_port)
    return read_served_models(settings.host, settings.http_port, settings.metrics_port)


def _ready(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.fleet.control import running_fleet

    fleet = running_fleet(settings)
    if fleet is not None:
        # Each line is printed, so that one replica that is away does not hide what the others say.
        answers = [_say_replica(one, console) for one in fleet.replicas]
        _say_links(settings, console)
        return 0 if all([*answers, _say_envoy(settings, fleet, console)]) else 1
    are_ready = [
        _say_server(host, settings, console) for host in settings.listed_server_hosts or (settings.host,)
    ]
    _say_links(settings, console)
    return 0 if all(are_ready) else 1


def _say_links(settings: Settings, console: Console) -> None:
    """Prints how the database's links to other regions stand. Searches go on without: readiness is not theirs."""
    from contextlib import closing, suppress

    from trireme.commands.replication import describe_link
    from trireme.commands.scope import database_url
    from trireme.errors import TriremeError
    from trireme.storage import open_replication

    with suppress(TriremeError), closing(open_replication(database_url(settings))) as replication:
        for link in replication.read():
            said = f"database: {describe_link(link)}"
            console.print(said, highlight=False, markup=False, soft_wrap=True)


def _say_server(host: str, settings: Settings, console: Console) -> bool:
    """Prints each model of a server, and whether all are ready. Raises UnavailableError."""
    served = _read_one(host, settings.http_port, settings.metrics_port)
    for model in served:
        said = f"{model.name}: {'ready' if model.is_ready else 'not ready'}"
        console.print(said, highlight=False, markup=False)
    return bool(served) and all(model.is_ready for model in served)


def _read_one(host: str, http_port: int, metrics_port: int) -> list[ServedModel]:
    from trireme.triton.metrics import read_metrics
    from trireme.triton.served_models import read_served_models

    # Without the metrics, models say nothing of their files and database: that is an error here.
    read_metrics(host, metrics_port)
    return read_served_models(host, http_port, metrics_port)


def _say_replica(replica: ReplicaState, console: Console) -> bool:
    """Prints one replica of a fleet, with the models that are not ready, and whether it serves."""
    name = f"replica {replica.name} ({replica.address})"
    try:
        served = _read_one(replica.address, replica.http_port, replica.metrics_port)
    except UnavailableError as error:
        console.print(f"{name}: {replica.state}, {error}", highlight=False, markup=False, soft_wrap=True)
        return False
    away = [model.name for model in served if not model.is_ready]
    said = f"not ready: {', '.join(away)}" if away else f"{len(served)} models ready"
    console.print(f"{name}: {replica.state}, {said}", highlight=False, markup=False, soft_wrap=True)
    return bool(served) and not away and replica.state == "serving"


def _say_envoy(settings: Settings, fleet: FleetState, console: Console) -> bool:
    """Prints whether Envoy takes calls, and whether it does."""
    import http.client
    from contextlib import closing

    try:
        with closing(http.client.HTTPConnection(fleet.envoy_metrics, timeout=5)) as connection:
            connection.request("GET", "/ready")
            is_ready = connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        is_ready = False
    console.print(f"Envoy ({settings.grpc_url}): {'ready' if is_ready else 'not ready'}", highlight=False)
    return is_ready


def _env(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.server import find_server, place_python_backend, shell_exports

    place_python_backend(find_server(), settings.backend_directory)
    # print, not the console: a shell reads this.
    print(shell_exports(os.environ))
    return 0


def _ready_or_alive(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.metrics import find_silent, read_metrics

    if not arguments.alive:
        return _ready(arguments, settings, console)
    silent = find_silent(read_metrics(settings.host, settings.metrics_port))
    for model in silent:
        console.print(f"{model}: a process of it is gone, or stands still", highlight=False, markup=False)
    return 1 if silent else 0
