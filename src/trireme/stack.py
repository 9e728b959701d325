"""Database and tritonserver of one machine, put together, and started again when they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from trireme.artifacts.repository import is_built, list_recipes
from trireme.errors import ArtifactError, UnavailableError
from trireme.kept_server import KeptServer
from trireme.settings import Settings, environment
from trireme.storage import open_store
from trireme.worker_process import WorkerProcess

if TYPE_CHECKING:
    from trireme.local.postgres import LocalPostgres
    from trireme.triton.server import TritonServer

LOOK_SECONDS = 0.25


class Stack:
    """Database and tritonserver of one `settings`. A context manager: leaving it ends what it started.

    `start_worker` adds a worker; `look_after`, called now and then, starts again what has ended.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._resources = ExitStack()
        self.postgres: LocalPostgres | None = None
        self.worker: WorkerProcess | None = None
        self.database_url = settings.database_url
        self.kept: KeptServer | None = None

    def __enter__(self) -> Stack:
        """Starts both and waits until every model is ready. Raises TriremeError; then nothing is left running."""
        try:
            check_models_are_built(self.settings.model_repository)
            self.kept = KeptServer(self.settings)
            self._resources.callback(self.kept.stop)
            self.kept.claim()
            self.start_database()
            self.kept.start(self.database_url)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> TritonServer:
        """The tritonserver of now. Raises UnavailableError before it was started."""
        if self.kept is None:
            raise UnavailableError("tritonserver was not started")
        return self.kept.server

    def start_database(self) -> None:
        """Starts the embedded PostgreSQL unless a database URL is set."""
        if not self.settings.database_url:
            from trireme.local.postgres import start_postgres

            self.postgres = start_postgres(self.settings.data_dir)
            self._resources.callback(self.postgres.stop)
            self.database_url = self.postgres.url
        # The first use makes the tables; the retrievers load at once and wait for nobody.
        with closing(open_store(self.database_url)) as store:
            store.collections(None)

    def start_worker(self) -> None:
        """Starts a worker, which lives and ends with this stack."""
        environ = os.environ | environment(replace(self.settings, database_url=self.database_url))
        self.worker = WorkerProcess(environ, self.settings.data_dir / "logs" / "worker.log")
        self._resources.callback(self.worker.stop)

    def stop(self) -> None:
        """Ends the worker, the server, then the database. Blocks until they are gone; safe to call twice."""
        self._resources.close()

    def wait(self, notice: Callable[[str], None]) -> None:
        """Blocks, and starts again what ends. Raises KeyboardInterrupt on a signal."""
        while True:
            time.sleep(LOOK_SECONDS)
            self.look_after(notice)

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts an embedded PostgreSQL, the server or the worker again that ended or hangs, and tells `notice`.

        Returns soon: what it started may not be ready. What cannot be started now is tried again by later calls.
        """
        if self.postgres is not None and not self.postgres.is_running():
            self._restart_database(self.postgres, notice)
        if self.kept is not None:
            self.kept.look_after(notice)
        if self.worker is not None:
            self.worker.look_after(notice)

    def _restart_database(self, postgres: LocalPostgres, notice: Callable[[str], None]) -> None:
        notice("The embedded PostgreSQL ended; starting it again.")
        try:
            postgres.restart()
        except UnavailableError as error:
            # A full disk, say: everything else goes on meanwhile.
            notice(f"PostgreSQL cannot be started: {error}; trying again.")


def check_models_are_built(repository: Path) -> None:
    """Raises ArtifactError naming the models whose files are not there."""
    missing = [recipe.model for recipe in list_recipes(repository) if not is_built(repository, recipe)]
    if missing:
        raise ArtifactError(
            f"not built in {repository}: {', '.join(missing)}; build them with: python build/build_defaults.py"
        )


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it SIGTERM interrupts as Ctrl-C does; after either, further ones wait until all is stopped."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
