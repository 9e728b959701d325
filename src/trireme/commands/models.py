"""`trireme models`, `ready` and `env`: what is served, whether it answers, and how a shell finds the server."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from trireme.errors import UnavailableError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


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
    from trireme.triton.served_models import read_served_models

    repository = settings.model_repository
    try:
        served = read_served_models(settings.host, settings.http_port, settings.metrics_port)
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


def _ready(_: argparse.Namespace, settings: Settings, console: Console) -> int:
    from trireme.triton.metrics import read_metrics
    from trireme.triton.served_models import read_served_models

    # Without the metrics, models say nothing of their files and database: that is an error here.
    read_metrics(settings.host, settings.metrics_port)
    served = read_served_models(settings.host, settings.http_port, settings.metrics_port)
    for model in served:
        console.print(
            f"{model.name}: {'ready' if model.is_ready else 'not ready'}", highlight=False, markup=False
        )
    return 0 if served and all(model.is_ready for model in served) else 1


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
