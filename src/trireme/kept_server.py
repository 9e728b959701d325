"""Keeps a tritonserver running: starts it again when it, one of its stubs or a model in it ends or hangs."""

from __future__ import annotations

import math
import os
import socket
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import BinaryIO

from trireme.artifacts.machine_config import MACHINE_CONFIG, place_machine_configs
from trireme.errors import SettingError, TriremeError, UnavailableError
from trireme.locks import try_lock
from trireme.machine import CoreShare, read_machine
from trireme.settings import Settings
from trireme.triton.canary import Canary
from trireme.triton.metrics import count_answered, has_pending, read_metrics
from trireme.triton.server import ServerConfig, TritonServer, end_leftover
from trireme.triton.stubs import StubTable
from trireme.triton.wire import own_address

# A server that ends so often before it was ever ready will not get ready; one that is killed may.
MOST_FALSE_STARTS = 3
MOST_KILLED_STARTS = 10
SERVER_LOCK = "serve.lock"
PREVIOUS_LOG = "tritonserver.previous.log"


@dataclass(frozen=True, slots=True)
class KeeperTiming:
    """Seconds.

    pause: the longest between two starts. port: how long the ports may stay taken after a server ended. hung:
    how long a model may owe an answer, and answer nobody else meanwhile. canary: between two questions to each
    model. quiet: without a request before a server that has grown is started again; less than `canary`.
    """

    pause: float = 15.0
    port: float = 30.0
    hung: float = 30.0
    canary: float = 10.0
    quiet: float = 4.0


DEFAULT_TIMING = KeeperTiming()
# Between two looks at ports that are not free yet.
PORT_SECONDS = 0.1


class KeptServer:
    """One tritonserver at a time, of one `settings`. `look_after`, called now and then, keeps it.

    A stub that ended costs the whole server, about three seconds: Triton cannot start it again, and its requests
    under way would never end.
    """

    def __init__(
        self,
        settings: Settings,
        timing: KeeperTiming = DEFAULT_TIMING,
        clock: Callable[[], float] = monotonic,
        withheld: Collection[str] = (),
        cores: CoreShare | None = None,
        *,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        """Starts nothing. withheld: variables that the server does not get. cores: that it keeps to; None: all."""
        self._settings = settings
        self._timing = timing
        self._clock, self._sleep = clock, sleep
        self._withheld = frozenset(withheld)
        self._cores = cores
        self._database_url = settings.database_url
        self._note = settings.data_dir / "tritonserver.pid"
        self._was_ready = self._was_ever_ready = False
        self._false_starts = self._restarts = 0
        self._config_name = ""
        self._due = -math.inf
        self._ended_at: float | None = None
        self._first_bytes = 0
        self._last_seen: tuple[dict[str, float], bool] = ({}, True)
        self._quiet_since = 0.0
        self._stubs: StubTable | None = None
        self._canary: _CanaryThread | None = None
        self._claims = ExitStack()
        self.server: TritonServer

    @property
    def restarts(self) -> int:
        """How often the server was started again."""
        return self._restarts

    def claim(self) -> None:
        """Takes the data directory and the ports for this server alone. Raises SettingError while another has one.

        Two that start at once both find the ports free, and then one takes the other's answers for its own.
        """
        claim_server(self._settings, self._claims)

    def start(self, database_url: str) -> None:
        """Starts it and waits until it is ready. Raises TriremeError; then nothing is left running."""
        self.launch(database_url)
        self.wait_until_ready()

    def launch(self, database_url: str) -> None:
        """Starts it and returns at once. Raises TriremeError."""
        self._database_url = database_url
        end_leftover(self._note)
        self.server = self._launch()

    def wait_until_ready(self) -> None:
        """Blocks until what was launched is ready. Raises TriremeError; then nothing is left running."""
        try:
            self.server.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        self._see_ready()

    def is_ready(self) -> bool:
        """Whether the server runs and was ready when it was last looked after. Does not block."""
        return self._was_ready and self.server.is_running()

    def start_anew(self) -> None:
        """Ends a server that nobody asks any more, with SIGTERM, and starts it again; `look_after` sees it ready.

        Blocks until the old one is gone and its ports are free, for KeeperTiming.port at most. Not while
        `look_after` runs. Raises SettingError or OSError where it cannot be started now; then `look_after` tries.
        """
        self._forget()
        self._was_ready = False
        self.server.stop()
        self._restarts += 1
        ended_at = self._clock()
        while True:
            try:
                self.server = self._launch()
            except SettingError:
                # Stubs that were ended with it keep its ports until the kernel has done with them.
                if self._clock() - ended_at > self._timing.port:
                    raise
                self._sleep(PORT_SECONDS)
            else:
                return

    def has_come_back(self) -> bool:
        """Whether what `start_anew` started is ready. Raises UnavailableError with its reasons where it ended."""
        if not self.server.has_started():
            return False
        self._see_ready()
        return True

    def stop(self) -> None:
        """Ends it. Blocks until it is gone; safe to call twice."""
        self._forget()
        if hasattr(self, "server"):
            self.server.stop()
            self._note.unlink(missing_ok=True)
        self._claims.close()

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts the server again where it, a stub or a model ended or hangs, and tells `notice`. Returns soon.

        Raises UnavailableError when it ends again and again without ever having been ready.
        """
        if not self.server.is_running():
            self._start_again("tritonserver ended", notice)
        elif not self._was_ready:
            if self.server.is_ready():
                self._see_ready()
        elif self._stubs is not None and (models := self._stubs.ended()):
            self._start_again(f"The process of model {', '.join(models)} ended", notice)
        elif self._canary is not None and (models := self._canary.hung):
            self._start_again(
                f"Model {', '.join(models)} has not answered for {self._timing.hung:.0f} s", notice
            )
        elif self._has_outgrown() and self._is_quiet():
            self._start_again(f"tritonserver has grown by {self.growth() / 1e9:.1f} GB", notice)

    def _fit_machine(self) -> str:
        """The name of the models' configurations for this machine's cores; "" where none has one."""
        # A recipe that is being edited must not keep the server from a start again: it has what it had.
        with suppress(TriremeError):
            cores = read_machine().cores if self._cores is None else self._cores.count
            has_any = place_machine_configs(self._settings.model_repository, cores)
            self._config_name = MACHINE_CONFIG if has_any else ""
        return self._config_name

    def own_bytes(self) -> int:
        """Memory of the server and its stubs that a second server would need too; 0 before it was ready."""
        return 0 if self._stubs is None else self._stubs.own_bytes()

    def growth(self) -> int:
        """Bytes that the server and its stubs hold more than when they were ready."""
        return 0 if self._stubs is None else self._stubs.resident_bytes() - self._first_bytes

    def _has_outgrown(self) -> bool:
        # What large requests leave in the heaps of Triton and its stubs does not come back.
        return 0 < self._settings.server_growth_bytes < self.growth()

    def _is_quiet(self) -> bool:
        """Whether no request has ended and none was under way for KeeperTiming.quiet, over several calls."""
        with suppress(UnavailableError):
            page = read_metrics(self._settings.host, self._settings.metrics_port)
            seen = (count_answered(page), has_pending(page))
            if seen != self._last_seen or seen[1]:
                self._last_seen, self._quiet_since = seen, self._clock()
                return False
            return self._clock() - self._quiet_since > self._timing.quiet
        return False

    def _see_ready(self) -> None:
        self._was_ready = self._was_ever_ready = True
        self._stubs = StubTable(self.server.pid)
        self._first_bytes = self._stubs.resident_bytes()
        models = sorted({stub.model for stub in self._stubs.stubs})
        self._canary = _CanaryThread(self._settings, models, self._timing)

    def _forget(self) -> None:
        self._stubs = None
        if self._canary is not None:
            self._canary.close()
            self._canary = None

    def _start_again(self, reason: str, notice: Callable[[str], None]) -> None:
        log = self.server.config.log_file
        if not self._was_ever_ready:
            most = MOST_KILLED_STARTS if self.server.was_killed() else MOST_FALSE_STARTS
            if self._false_starts >= most:
                raise UnavailableError(f"tritonserver stopped; its log is {log}")
        if self._clock() < self._due:
            return
        self._forget()
        # Requests that wait for what is gone end with the connection.
        self.server.kill()
        if log.exists():
            # What it said last is what tells why it ended.
            with suppress(OSError):
                log.replace(log.with_name(PREVIOUS_LOG))
        self._restarts += 1
        try:
            launched = self._launch()
        except (SettingError, OSError) as error:
            self._restarts -= 1
            self._wait_for_room(error)
            return
        notice(
            f"{reason}; starting tritonserver again. What it said last is in {log.with_name(PREVIOUS_LOG)}."
        )
        self._false_starts = 0 if self._was_ready else self._false_starts + 1
        self._due = self._clock() + self._pause()
        self._was_ready, self._ended_at = False, None
        self.server = launched

    def _wait_for_room(self, error: Exception) -> None:
        """Ports that the kernel has not freed yet, or a disk that is full: the next call tries again."""
        self._ended_at = self._clock() if self._ended_at is None else self._ended_at
        if isinstance(error, SettingError) and self._clock() - self._ended_at > self._timing.port:
            raise error

    def _pause(self) -> float:
        """Seconds until it may be started once more: none for the first time, then longer and longer."""
        return min(self._timing.pause, 2.0 ** (self._false_starts - 1)) if self._false_starts else 0.0

    def _launch(self) -> TritonServer:
        settings = self._settings
        config = ServerConfig(
            host=settings.host,
            http_port=settings.http_port,
            grpc_port=settings.grpc_port,
            metrics_port=settings.metrics_port,
            model_repository=settings.model_repository,
            backend_directory=settings.backend_directory,
            log_file=settings.data_dir / "logs" / "tritonserver.log",
            response_cache_bytes=settings.response_cache_bytes,
            opens_shared_memory=settings.shared_memory == "on",
            config_name=self._fit_machine(),
            cores=() if self._cores is None else self._cores.ids,
        )
        told = {
            "TRIREME_DATABASE_URL": self._database_url,
            "TRIREME_SERVER_RESTARTS": str(self._restarts),
            "TRIREME_WARM_UP": settings.warm_up,
            "TRIREME_OTLP_URL": settings.otlp_url,
            "TRIREME_OTLP_HEADERS": settings.otlp_headers,
        }
        inherited = {key: value for key, value in os.environ.items() if key not in self._withheld}
        environ = {**inherited, **{key: value for key, value in told.items() if value}}
        launched = TritonServer(config, environ)
        with suppress(OSError):
            self._note.write_text(str(launched.pid))
        return launched


def claim_server(settings: Settings, claims: ExitStack) -> None:
    """Takes data directory and ports of `settings` for this process, until `claims` is closed or it dies.

    Raises SettingError while another process has one of them.
    """
    claims.enter_context(_claim_folder(settings.data_dir))
    for name in ("http_port", "grpc_port", "metrics_port"):
        claims.enter_context(claim_port(getattr(settings, name), name))


def is_claimed(folder: Path) -> bool:
    """Whether a stack runs with the data in `folder`. Never raises."""
    try:
        with (folder / SERVER_LOCK).open("rb") as lock:
            return not try_lock(lock)
    except OSError:
        return False


def _claim_folder(folder: Path) -> BinaryIO:
    """A lock that the system frees when this process dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / SERVER_LOCK).open("ab")
    except OSError as error:
        raise SettingError(
            f"cannot write into {folder} ({error.strerror}); set TRIREME_DATA_DIR to a folder of yours"
        ) from None
    if not try_lock(lock):
        lock.close()
        raise SettingError(
            f"a server runs already with the data in {folder}: stop it, or give this one"
            " a TRIREME_DATA_DIR, TRIREME_HTTP_PORT, TRIREME_GRPC_PORT and TRIREME_METRICS_PORT of its own"
        )
    return lock


def claim_port(port: int, name: str) -> socket.socket:
    """A name in Linux's abstract namespace, which is free again when this process dies.

    Raises SettingError, which names the setting `name`, while another process has it.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0trireme-port-{port}")
    except OSError:
        claim.close()
        raise SettingError(
            f"another trireme serve uses port {port}; set TRIREME_{name.upper()} to a free port"
        ) from None
    return claim


class _CanaryThread:
    """Asks each model now and then; `hung` names those that gave no answer, to anybody, for KeeperTiming.hung."""

    def __init__(self, settings: Settings, models: list[str], timing: KeeperTiming) -> None:
        self._settings = settings
        self._timing = timing
        self._models = models
        self._closed = threading.Event()
        self.hung: list[str] = []
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Asks no more. Does not wait for what is asked now."""
        self._closed.set()

    def _run(self) -> None:
        address = own_address(self._settings.host, self._settings.grpc_port)
        with Canary(address) as canary:
            still_since: float | None = None
            while not self._closed.wait(self._timing.canary):
                before, asked = self._count(), monotonic()
                silent = canary.silent(self._models, self._timing.hung)
                after = self._count()
                hung = [model for model in silent if before.get(model) == after.get(model)]
                # A server that stands still has no metrics either; one that is gone is not asked for so long.
                is_still = not before and not after and hung == self._models
                still_since = (asked if still_since is None else still_since) if is_still else None
                stands_still = still_since is not None and monotonic() - still_since >= self._timing.hung
                # Silence that ends with the server, or with this watch, says nothing of a model.
                if not self._closed.is_set() and ((before and after) or stands_still):
                    self.hung = hung

    def _count(self) -> dict[str, float]:
        with suppress(UnavailableError):
            return count_answered(read_metrics(self._settings.host, self._settings.metrics_port))
        return {}
