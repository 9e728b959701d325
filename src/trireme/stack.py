"""Database, Valkey and tritonserver of one machine, put together, and started again when they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from trireme.artifacts.manifest import check_searchable, read_manifest
from trireme.artifacts.repository import is_built, list_recipes, version_dir
from trireme.child_process import ChildProcess
from trireme.errors import ArtifactError, UnavailableError
from trireme.fleet.leftovers import end_leftovers
from trireme.gateway_process import GatewayProcess, claim_gateway_port, gateway_secrets
from trireme.kept_server import KeptServer
from trireme.settings import Settings, environment
from trireme.storage import open_store

if TYPE_CHECKING:
    from trireme.fleet.fleet import Fleet
    from trireme.local.postgres import LocalPostgres
    from trireme.local.valkey import LocalValkey
    from trireme.triton.server import TritonServer

LOOK_SECONDS = 0.25


class Servers(Protocol):
    """What serves the models: a KeptServer, or a Fleet of them behind Envoy."""

    @property
    def server(self) -> TritonServer:
        """The tritonserver of now; of several the first. Raises AttributeError before it was started."""
        ...

    def claim(self) -> None:
        """Takes data directory and ports. Raises SettingError."""
        ...

    def start(self, database_url: str) -> None:
        """Starts it and waits until it is ready. Raises TriremeError; then nothing is left running."""
        ...

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts again what ended or hangs. Returns soon."""
        ...

    def stop(self) -> None:
        """Ends it. Blocks; safe to call twice."""
        ...


class EmbeddedServer(Protocol):
    """A server of this machine that others may use as well."""

    def is_running(self) -> bool:
        """Whether it takes connections. Never raises."""
        ...

    def restart(self) -> None:
        """Start what ended again, at the same URL. Raises UnavailableError."""
        ...

    def stop(self) -> None:
        """End this use of it."""
        ...


class Stack:
    """Database and tritonserver of one `settings`. A context manager: leaving it ends what it started.

    replicas: so many tritonservers behind Envoy, which takes their gRPC port; 0: one, without Envoy.

    `start_worker` adds a worker, `start_gateway` a gateway: `has_gateway` takes its port and starts Valkey for it.
    `look_after`, called now and then, starts again what has ended.
    """

    def __init__(self, settings: Settings, *, has_gateway: bool = False, replicas: int = 0) -> None:
        self.settings = settings
        self._replicas = replicas
        self._has_gateway = has_gateway
        self._resources = ExitStack()
        self.postgres: LocalPostgres | None = None
        self.valkey: LocalValkey | None = None
        # By the names that people know them by.
        self._embedded: dict[str, EmbeddedServer] = {}
        self.worker: ChildProcess | None = None
        self.gateway: GatewayProcess | None = None
        self.database_url = settings.database_url
        self.redis_url = settings.redis_url
        self.cache_url = settings.cache_url or settings.redis_url
        self.kept: Servers | None = None
        # Where there are replicas.
        self.fleet: Fleet | None = None

    def __enter__(self) -> Stack:
        """Starts both and waits until every model is ready. Raises TriremeError; then nothing is left running."""
        try:
            check_models_are_built(self.settings.model_repository)
            self.kept = self._make_servers()
            self._resources.callback(self.kept.stop)
            self.kept.claim()
            end_leftovers(self.settings.data_dir)
            if self._has_gateway:
                self._resources.enter_context(claim_gateway_port(self.settings))
                self.start_cache()
            self.start_database()
            self.kept.start(self.database_url)
        except BaseException:
            self.stop()
            raise
        return self

    def _make_servers(self) -> Servers:
        withheld = gateway_secrets(self.settings)
        if not self._replicas:
            return KeptServer(self.settings, withheld=withheld)
        from trireme.fleet.fleet import Fleet

        self.fleet = Fleet(self.settings, self._replicas, withheld)
        self.settings = replace(self.settings, server_hosts=",".join(self.fleet.hosts))
        return self.fleet

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
            from trireme.local.postgres import NO_MORE, replication_settings, start_postgres

            is_followed = self.settings.replication == "on"
            more = replication_settings(self.settings.replication_wal_bytes) if is_followed else NO_MORE
            self.postgres = start_postgres(self.settings.data_dir, more)
            self._embed("PostgreSQL", self.postgres)
            self.database_url = self.postgres.url
        # The first use makes the tables; the retrievers load at once and wait for nobody.
        with closing(open_store(self.database_url)) as store:
            store.collections(None)

    def start_cache(self) -> None:
        """Starts the embedded Valkey, of budgets and cached answers, unless the URL of one is set."""
        if not self.settings.redis_url:
            from trireme.local.valkey import start_valkey

            self.valkey = start_valkey(self.settings.data_dir, self.settings.cache_bytes)
            self._embed("Valkey", self.valkey)
            self.redis_url = self.valkey.budget_url
            self.cache_url = self.settings.cache_url or self.valkey.cache_url

    def _embed(self, name: str, server: EmbeddedServer) -> None:
        self._embedded[name] = server
        self._resources.callback(server.stop)

    def start_worker(self) -> None:
        """Starts a worker, which lives and ends with this stack."""
        withheld = gateway_secrets(self.settings)
        environ = {name: value for name, value in self._environ().items() if name not in withheld}
        self.worker = ChildProcess("worker", environ, self.settings.data_dir / "logs" / "worker.log")
        self._resources.callback(self.worker.stop)

    def start_gateway(self) -> None:
        """Starts a gateway, which lives and ends with this stack, and waits until it answers.

        Raises UnavailableError with its reason where it cannot start.
        """
        log_file = self.settings.data_dir / "logs" / "gateway.log"
        self.gateway = GatewayProcess(self.settings, self._environ(), log_file)
        self._resources.callback(self.gateway.stop)
        self.gateway.wait_until_ready()

    def _environ(self) -> dict[str, str]:
        """The variables of a child of this stack, the gateway's secrets among them."""
        settings = replace(
            self.settings,
            database_url=self.database_url,
            redis_url=self.redis_url,
            cache_url=self.cache_url,
        )
        return os.environ | environment(settings)

    def stop(self) -> None:
        """Ends gateway, worker and server, then the stores. Blocks until they are gone; safe to call twice."""
        self._resources.close()

    def wait(self, notice: Callable[[str], None]) -> None:
        """Blocks, and starts again what ends. Raises KeyboardInterrupt on a signal."""
        while True:
            time.sleep(LOOK_SECONDS)
            self.look_after(notice)

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts an embedded server, tritonserver, worker or gateway again that ended or hangs; tells `notice`.

        Returns soon: what it started may not be ready. What cannot be started now is tried again by later calls.
        """
        for name, server in self._embedded.items():
            if not server.is_running():
                _restart(name, server, notice)
        if self.kept is not None:
            self.kept.look_after(notice)
        if self.worker is not None:
            self.worker.look_after(notice)
        if self.gateway is not None:
            self.gateway.look_after(notice)


def _restart(name: str, server: EmbeddedServer, notice: Callable[[str], None]) -> None:
    notice(f"The embedded {name} ended; starting it again.")
    try:
        server.restart()
    except (UnavailableError, OSError) as error:
        # A full disk, say: everything else goes on meanwhile.
        notice(f"{name} cannot be started: {error}; trying again.")


def check_models_are_built(repository: Path) -> None:
    """Raises ArtifactError naming the models whose files are not there, SettingError for an embedder of retrievers
    whose vectors search would not rank as they are meant."""
    recipes = list_recipes(repository)
    missing = [recipe.model for recipe in recipes if not is_built(repository, recipe)]
    if missing:
        raise ArtifactError(
            f"not built in {repository}: {', '.join(missing)}; build them with: python build/build_defaults.py"
        )
    for embedder in {recipe.embedder for recipe in recipes if recipe.traits.needs_embedder}:
        check_searchable(read_manifest(version_dir(repository, embedder)))


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
