"""`trireme worker`: indexes what is published, until a signal ends it."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from time import sleep
from types import FrameType
from typing import TYPE_CHECKING, Any

from trireme.commands.machines import noted_up
from trireme.commands.scope import database_url
from trireme.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from trireme.ingest.jobs_in_hand import WorkerStats

PARENT_SECONDS = 1.0


def add_worker(commands: Any) -> None:
    """Add the command to argparse's subparsers; it sets `run`, as in cli.py."""
    worker = commands.add_parser("worker", help="index what is published, until Ctrl-C")
    worker.add_argument("--drain", action="store_true", help="end when nothing is left to do")
    # Started by `trireme serve`: ends with it, however that ends.
    worker.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)
    worker.set_defaults(run=_worker)


def _worker(arguments: argparse.Namespace, settings: Settings, console: Console) -> int:
    def notice(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    notice("Worker started; Ctrl-C ends it.")
    stats = run_worker(
        settings, database_url(settings), notice, drain=arguments.drain, parent=arguments.parent
    )
    share = stats.embed_seconds / stats.seconds if stats.seconds else 0.0
    notice(
        f"Indexed {stats.documents} documents, {stats.passages} passages in {stats.seconds:.1f} s"
        f" ({share:.0%} of it embedding, {stats.paused_seconds:.1f} s of it paused for others)"
        + (f"; {stats.failed} failures: trireme jobs" if stats.failed else "")
        + "."
    )
    return 0


def run_worker(
    settings: Settings,
    database_url: str,
    notice: Callable[[str], None],
    *,
    drain: bool = False,
    parent: int = 0,
) -> WorkerStats:
    """Works until SIGTERM or SIGINT, or with `drain` until nothing is left. Raises SettingError, ArtifactError.

    Waits for the database and the server as long as they are away. parent: the process without which it ends
    too, 0 for none. For the main thread of a process.
    """
    from trireme.observe.build_info import read_build
    from trireme.otlp.opening import open_spans
    from trireme.served_encoders import open_worker
    from trireme.worker_metrics import metrics_of

    stop: list[Callable[[], None]] = []
    before = {
        number: signal.signal(number, partial(_stop_all, stop)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    build = read_build(settings.release)
    try:
        with (
            noted_up(settings),
            closing(open_spans("worker", build, **settings.collector)) as spans,
            open_worker(settings, database_url, notice, spans=spans) as worker,
            metrics_of(
                worker,
                settings.worker_metrics_host or settings.host,
                settings.worker_metrics_port,
                build,
                spans,
            ),
        ):
            stop.append(worker.stop)
            if parent:
                threading.Thread(target=watch_parent, args=(parent, worker.stop), daemon=True).start()
            worker.run(drain=drain)
            return replace(worker.stats)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch_parent(parent: int, stop: Callable[[], None]) -> None:
    """Blocks until process `parent` is no longer this one's parent, and then calls `stop`."""
    while os.getppid() == parent:
        sleep(PARENT_SECONDS)
    stop()


def _stop_all(stop: list[Callable[[], None]], _number: int, _frame: FrameType | None) -> None:
    if not stop:
        raise KeyboardInterrupt
    for one in stop:
        one()
