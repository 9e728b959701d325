"""One tritonserver of a fleet with its agent: kept running, taken out of the balancer, and started anew."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from trireme.agent.client import drain, read_readiness
from trireme.agent.drain import DrainReport
from trireme.agent.options import AgentOptions
from trireme.asked_process import AskedProcess, HealthTiming
from trireme.child_process import RestartTiming
from trireme.errors import SettingError, UnavailableError
from trireme.fleet.places import Place
from trireme.kept_server import DEFAULT_TIMING, KeeperTiming, KeptServer
from trireme.machine import CoreShare
from trireme.scale.endpoints import Endpoint
from trireme.settings import Settings

# serving: Envoy may send it calls. starting: it is not ready. draining: it takes no new calls and will be ended.
State = Literal["serving", "starting", "draining"]
HEALTH = HealthTiming(every=2.0, answer=5.0, start=60.0)
READY_SECONDS = 2.0
# An agent that is told to end drains first: here its server ends with it, or a new agent takes its place.
AT_ONCE = RestartTiming(stop=0.0)


class Replica:
    """See fleet. `look_after` keeps it; a rolling restart holds it meanwhile. Two threads may use it."""

    def __init__(
        self,
        place: Place,
        settings: Settings,
        *,
        cores: CoreShare | None = None,
        withheld: Collection[str] = (),
        restarts_grown: bool = False,
        timing: KeeperTiming = DEFAULT_TIMING,
    ) -> None:
        """Starts nothing. settings: the fleet's. restarts_grown: one that has grown is killed at a quiet moment.

        Where it is false, who looks after the fleet asks `has_outgrown` and drains it first.
        """
        self.place = place
        own = replace(
            settings,
            host=place.address,
            http_port=place.http_port,
            grpc_port=place.grpc_port,
            metrics_port=place.metrics_port,
            data_dir=settings.data_dir / "replicas" / place.name,
        )
        self._limit = settings.server_growth_bytes
        self._data_dir = own.data_dir
        self._withheld = frozenset(withheld)
        keeps = own if restarts_grown else replace(own, server_growth_bytes=0)
        self.kept = KeptServer(keeps, timing, withheld=withheld, cores=cores)
        self.agent: AskedProcess | None = None
        # Held by a rolling restart, and for moments by `look_after`.
        self._lock = threading.Lock()
        self._is_leaving = False

    @property
    def name(self) -> str:
        """Its number, from 1."""
        return self.place.name

    @property
    def key(self) -> tuple[str, int]:
        """Address and port of its gRPC."""
        return (self.place.address, self.place.grpc_port)

    @property
    def state(self) -> State:
        """Does not block."""
        if self._is_leaving:
            return "draining"
        return "serving" if self.kept.is_ready() else "starting"

    def endpoint(self) -> Endpoint:
        """What Envoy is told of it now."""
        return Endpoint(
            self.place.address,
            self.place.grpc_port,
            "healthy" if self.state == "serving" else "draining",
            self.place.agent_port,
        )

    def launch(self, database_url: str) -> None:
        """Starts server and agent, and returns at once. Raises TriremeError, OSError."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        self.kept.launch(database_url)
        place = self.place
        options = AgentOptions(
            server=f"{place.address}:{place.grpc_port}",
            metrics_url=f"http://{place.address}:{place.metrics_port}/metrics",
            port=place.agent_port,
            http_port=place.agent_http_port,
            host=place.address,
        )
        environ = {key: value for key, value in os.environ.items() if key not in self._withheld}
        self.agent = AskedProcess(
            "agent",
            environ,
            self.agent_log,
            address=self._agent_address,
            path="/ready",
            timing=AT_ONCE,
            health=HEALTH,
            words=options.flags(),
            title=f"the agent of replica {self.name}",
        )

    @property
    def _agent_address(self) -> str:
        return f"{self.place.address}:{self.place.agent_http_port}"

    @property
    def agent_log(self) -> Path:
        """What its agent says."""
        return self._data_dir / "logs" / "agent.log"

    def is_ready(self) -> bool:
        """Whether its agent says so. Blocks at most READY_SECONDS."""
        return self.agent is not None and self.agent.status(READY_SECONDS) == http.client.OK

    def why_not_ready(self) -> str:
        """What its agent says of it, in its words. Blocks at most READY_SECONDS."""
        try:
            return "; ".join(read_readiness(self._agent_address, READY_SECONDS).reasons)
        except UnavailableError as error:
            return str(error)

    def has_outgrown(self) -> bool:
        """Whether it holds more than it should grow by (TRIREME_SERVER_GROWTH_BYTES)."""
        return 0 < self._limit < self.kept.growth()

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts again what ended or hangs of it, and tells `notice`. Leaves it alone while it is held."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            self.kept.look_after(lambda text: notice(f"Replica {self.name}: {text}"))
            if self.agent is not None:
                self.agent.look_after(notice)
        finally:
            self._lock.release()

    def hold(self) -> None:
        """Keeps `look_after` from it, and gives it no more calls. Blocks a moment. `let_go` ends it."""
        self._lock.acquire()
        self._is_leaving = True

    def let_go(self) -> None:
        """Gives it calls again as soon as it is ready."""
        self._is_leaving = False
        self._lock.release()

    def drain(self, seconds: float) -> DrainReport:
        """Has its agent refuse new calls, and wait so long until no call runs or waits. Blocks.

        Raises UnavailableError where the agent does not answer.
        """
        return drain(self._agent_address, seconds)

    def start_anew(self) -> None:
        """Ends server and agent, and starts them again; for who holds it. Blocks until the old ones are gone.

        Raises UnavailableError where it cannot be started now.
        """
        try:
            self.kept.start_anew()
        except (SettingError, OSError) as error:
            raise UnavailableError(f"replica {self.name} cannot be started again: {error}") from None
        self.forget_drain()

    def has_come_back(self) -> bool:
        """Whether server and agent are ready again; for who holds it. Raises UnavailableError where one ended."""
        return self.kept.has_come_back()

    def forget_drain(self) -> None:
        """Starts its agent again: a new one drains nothing."""
        if self.agent is not None:
            self.agent.restart()

    def stop(self) -> None:
        """Ends agent and server. Blocks until they are gone; safe to call twice."""
        if self.agent is not None:
            self.agent.stop()
        self.kept.stop()
