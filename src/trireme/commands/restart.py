"""`trireme restart`: every replica of a running `trireme serve --replicas N`, one after the other."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trireme.errors import SettingError, UnavailableError
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.fleet.control import RollState

LOOK_SECONDS = 0.2
# Until the stack takes a request; it looks four times a second.
TAKEN_SECONDS = 30.0
DRAIN_SECONDS = 120.0


def add_restart(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    command = commands.add_parser(
        "restart", help="restart the replicas of trireme serve --replicas N one by one, without a failed call"
    )
    command.add_argument(
        "--drain-seconds",
        type=float,
        default=DRAIN_SECONDS,
        metavar="SECONDS",
        help=f"that the calls of one replica may take to end ({DRAIN_SECONDS:.0f})",
    )
    command.set_defaults(run=_restart)


def _restart(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    seconds = arguments.drain_seconds
    if not (math.isfinite(seconds) and seconds > 0):
        raise SettingError(f"--drain-seconds must be a number of seconds above 0, got {seconds}")

    def notice(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    restarted = restart(settings, seconds, notice)
    notice(f"Restarted {len(restarted)} replicas.")
    return 0


def restart(settings: Settings, drain_seconds: float, notice: Callable[[str], None]) -> tuple[str, ...]:
    """Asks the stack in the data directory of `settings`; blocks until it has restarted all replicas; their names.

    Raises UnavailableError where none runs there, where it has no replicas, and with its reason where a replica was
    not restarted or did not come back: then the ones after it were left alone, and the others serve.
    """
    from trireme.fleet.control import ControlFolder
    from trireme.kept_server import is_claimed

    folder = settings.data_dir
    control = ControlFolder(folder)
    if not is_claimed(folder):
        raise UnavailableError(f"no stack runs with the data in {folder}; see TRIREME_DATA_DIR")
    if control.read() is None:
        raise UnavailableError(
            f"the stack with the data in {folder} has no replicas, or is starting: serve with --replicas 2"
        )
    asked, told, started = control.ask_restart(drain_seconds), 0, time.monotonic()
    while True:
        state = control.read()
        roll = state.rolls.get(asked) if state is not None else None
        if roll is not None:
            told = _tell(roll, told, notice)
            if roll.outcome == "failed":
                raise UnavailableError(roll.error)
            if roll.outcome == "done":
                return roll.restarted
        if not is_claimed(folder):
            raise UnavailableError("the stack ended")
        if roll is None and time.monotonic() - started > TAKEN_SECONDS:
            raise UnavailableError(f"the stack did not take the request within {TAKEN_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)


def _tell(roll: RollState, told: int, notice: Callable[[str], None]) -> int:
    """Tells of each replica once; how many were told."""
    for name in roll.restarted[told:]:
        notice(f"Replica {name} was restarted.")
    return len(roll.restarted)
