"""A `trireme gateway` as a child process, which is also started again when it does not answer."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from trireme.child_process import DEFAULT_TIMING, ChildProcess, RestartTiming
from trireme.errors import SettingError, UnavailableError
from trireme.kept_server import claim_port
from trireme.settings import Settings
from trireme.triton.server import check_port_is_free
from trireme.triton.wire import own_address

MOST_MISSES = 3
# The setting that tenants' salts are derived from.
SALT_VARIABLE = "TRIREME_GATEWAY_SECRET"
# Settings that may hold passwords of stores which the gateway alone uses.
STORE_VARIABLES = ("TRIREME_REDIS_URL", "TRIREME_CACHE_URL")


def gateway_secrets(settings: Settings) -> frozenset[str]:
    """The environment variables that no process but the gateway needs: its secret, its stores, providers' keys.

    Raises SettingError for a gateway.toml, or a calibration that it names, that cannot be read.
    """
    from trireme.gateway.cascades.plan import read_cascades
    from trireme.gateway.file import read_gateway_file

    file = read_gateway_file(settings.gateway_file)
    read_cascades(file, settings.gateway_file)
    rows = file.providers.values()
    return frozenset({SALT_VARIABLE, *STORE_VARIABLES, *(variable for row in rows for variable in row.keys)})


@dataclass(frozen=True, slots=True)
class HealthTiming:
    """Seconds.

    every: between two questions. answer: that one may take. start: until the first answer of a gateway; one that
    has not answered by then counts as silent. leftover: how long the port may stay taken by a gateway whose
    supervisor was killed, and which ends by itself.
    """

    every: float = 10.0
    answer: float = 10.0
    start: float = 120.0
    leftover: float = 15.0


DEFAULT_HEALTH = HealthTiming()


@contextmanager
def claim_gateway_port(settings: Settings, timing: HealthTiming = DEFAULT_HEALTH) -> Iterator[None]:
    """Keeps the gateway's port from other supervisors. Raises SettingError while anything has it."""
    with claim_port(settings.gateway_port, "gateway_port"):
        deadline = monotonic() + timing.leftover
        while True:
            try:
                check_port_is_free(settings.gateway_host, settings.gateway_port, "gateway_port")
                break
            except SettingError:
                if monotonic() > deadline:
                    raise
            time.sleep(0.1)
        yield


class GatewayProcess(ChildProcess):
    """One gateway at the port of `settings`. MOST_MISSES unanswered questions in a row: it hangs, and is ended."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        log_file: Path,
        *,
        timing: RestartTiming = DEFAULT_TIMING,
        health: HealthTiming = DEFAULT_HEALTH,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Starts it and returns at once."""
        self._address = own_address(settings.gateway_host, settings.gateway_port)
        self._health = health
        self._answered = self._misses = 0
        super().__init__("gateway", environ, log_file, timing, clock)
        self._closed = threading.Event()
        threading.Thread(target=self._keep_asking, name="gateway health", daemon=True).start()

    def wait_until_ready(self) -> None:
        """Blocks until it answers. Raises UnavailableError with its own reason where it ends before, or is slow."""
        deadline = monotonic() + self._health.start
        while not self.answers(1.0):
            if not self.is_running():
                raise UnavailableError(f"the gateway stopped while starting: {self._last_words()}")
            if monotonic() > deadline:
                raise UnavailableError(f"the gateway did not answer within {self._health.start:.0f} s")
            time.sleep(0.05)
        self._answered = self.pid

    def answers(self, seconds: float) -> bool:
        """Whether it says within so many seconds that it lives, in whatever words."""
        try:
            with closing(http.client.HTTPConnection(self._address, timeout=seconds)) as connection:
                connection.request("GET", "/healthz")
                connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def ask(self) -> None:
        """Asks once, as a thread does now and then, and counts what is not answered."""
        pid = self.pid
        if self.answers(self._health.answer):
            self._answered, self._misses = pid, 0
        elif pid == self.pid and (pid == self._answered or self.age > self._health.start):
            self._misses += 1

    def look_after(self, notice: Callable[[str], None]) -> None:
        """As ChildProcess.look_after; one that hangs is ended first."""
        if self._misses >= MOST_MISSES and self.is_running():
            notice(f"The gateway has not answered {self._misses} times in a row.")
            self._misses = 0
            self.kill()
        super().look_after(notice)

    def stop(self) -> None:
        """As ChildProcess.stop; asks no more."""
        self._closed.set()
        super().stop()

    def _start(self) -> None:
        self._misses = 0
        super()._start()

    def _keep_asking(self) -> None:
        while not self._closed.wait(self._health.every):
            self.ask()

    def _last_words(self) -> str:
        lines = self._log_file.read_text(errors="replace").splitlines()
        telling = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")] or lines
        return f"{telling[-1] if telling else 'it said nothing'} (log: {self._log_file})"
