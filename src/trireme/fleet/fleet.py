"""N tritonservers of one machine behind one Envoy: started, kept running, restarted one by one, and ended."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

from trireme.artifacts.repository import list_recipes
from trireme.errors import SettingError, UnavailableError
from trireme.fleet.control import ControlFolder, FleetState, ReplicaState, RollState, latest
from trireme.fleet.envoy_process import EnvoyProcess
from trireme.fleet.leftovers import envoy_note
from trireme.fleet.places import ENTRY, place_replicas, raw_values, regions_address
from trireme.fleet.regions import RegionsProcess, with_regions
from trireme.fleet.replica import Replica
from trireme.fleet.roll import Roll
from trireme.kept_server import DEFAULT_TIMING, KeeperTiming, claim_server
from trireme.machine import read_free_memory, share_cores
from trireme.scale import endpoints
from trireme.scale.endpoints import Endpoint, near_name
from trireme.scale.envoy import bootstrap, find_envoy
from trireme.scale.region_tls import write_secrets
from trireme.scale.spill import make_shares
from trireme.scale.value_readers import Address
from trireme.scale.values import parse_values
from trireme.scale.yaml_file import read_yaml
from trireme.settings import Settings
from trireme.triton.server import TritonServer, check_port_is_free

# Until everything that was started is ready, as agents and Envoy see it.
START_SECONDS = 120.0
# An agent whose supervisor was killed may have the ports of ours so long.
LEFTOVER_SECONDS = 15.0
STOP_SECONDS = 30.0
# For the restart of one that has grown.
GROWN_DRAIN_SECONDS = 600.0
# Between two such restarts.
GROWN_PAUSE_SECONDS = 60.0
GROWN = "grown"


class Fleet:
    """Replicas of one `settings`, of which the port of gRPC is Envoy's. `look_after` keeps them.

    A rolling restart is asked for by a file: see fleet.control.
    """

    def __init__(
        self,
        settings: Settings,
        count: int,
        withheld: Collection[str] = (),
        timing: KeeperTiming = DEFAULT_TIMING,
    ) -> None:
        """Starts nothing. withheld: variables that servers do not get. Raises SettingError for `count`."""
        self._settings = settings
        shares = share_cores(sorted(os.sched_getaffinity(0)), count)
        self.replicas = [
            Replica(
                place,
                settings,
                cores=share if count > 1 else None,
                withheld=withheld,
                restarts_grown=count == 1,
                timing=timing,
            )
            for place, share in zip(place_replicas(settings, count), shares, strict=True)
        ]
        self._raw = raw_values(settings, list_recipes(settings.model_repository), count)
        if settings.regions_file:
            file = Path(settings.regions_file)
            self._raw = with_regions(self._raw, read_yaml(file), str(file))
        self.values = parse_values(self._raw, settings.regions_file or "the values of this stack")
        # Of this machine's replicas, as Envoy calls it.
        self._cluster = near_name(ENTRY) if self.values.has_failover else ENTRY
        self._withheld = frozenset(withheld)
        # Where there are other regions.
        self.regions: RegionsProcess | None = None
        self._control = ControlFolder(settings.data_dir)
        self._claims = ExitStack()
        self.envoy: EnvoyProcess | None = None
        self._published: list[Endpoint] = []
        self._publishing = threading.Lock()
        self._said: FleetState | None = None
        self._roll: Roll | None = None
        self._roll_id = ""
        self._grown_due = -math.inf
        self._rolls: dict[str, RollState] = {}

    @property
    def server(self) -> TritonServer:
        """The tritonserver of the first replica."""
        return self.replicas[0].kept.server

    @property
    def hosts(self) -> tuple[str, ...]:
        """Where the replicas answer HTTP and metrics, at the ports of the settings."""
        return tuple(replica.place.address for replica in self.replicas)

    @property
    def envoy_metrics(self) -> str:
        """host:port of Envoy's own metrics, which are at /stats/prometheus."""
        return f"{self.values.envoy.metrics.address}:{self.values.envoy.metrics.port}"

    @property
    def regions_metrics(self) -> str:
        """host:port of the controller of regions, whose metrics are at /metrics; "" where there is none."""
        at = regions_address(self._settings)
        return f"{at.address}:{at.port}" if self.values.has_failover else ""

    def claim(self) -> None:
        """As KeptServer.claim. Raises UnsupportedError where Envoy is not installed."""
        find_envoy()
        claim_server(self._settings, self._claims)
        self._control.clear()

    def start(self, database_url: str) -> None:
        """Starts all, and waits until Envoy has every replica. Raises TriremeError; then nothing is left running.

        The first server is started alone: what it takes says whether the memory carries the others.
        """
        try:
            listen, region_listen = self.values.envoy.listen, self.values.envoy.region_listen
            check_port_is_free(listen.address, listen.port, "grpc_port")
            if region_listen is not None:
                _check_region_port(region_listen, self._settings.regions_file)
            first, *others = self.replicas
            self._launch(first, database_url)
            first.kept.wait_until_ready()
            check_memory(first.kept.own_bytes(), len(self.replicas), read_free_memory())
            for replica in others:
                self._launch(replica, database_url)
            for replica in others:
                replica.kept.wait_until_ready()
            self.envoy = self._start_envoy()
            self._wait_until_all_serve(self.envoy)
            self._start_regions()
            self._say()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all: Envoy first, then the replicas side by side. Blocks until they are gone; safe to call twice."""
        if self._roll is not None:
            self._roll.cancel()
            self._roll.join(STOP_SECONDS)
        for process in (self.regions, self.envoy):
            if process is not None:
                process.stop()
        with ThreadPoolExecutor(len(self.replicas)) as threads:
            list(threads.map(Replica.stop, self.replicas))
        with suppress(OSError):
            self._control.clear()
        self._claims.close()

    def look_after(self, notice: Callable[[str], None]) -> None:
        """Starts again what ended or hangs, takes requests for restarts, and tells `notice`. Returns soon."""
        for replica in self.replicas:
            replica.look_after(notice)
        for process in (self.envoy, self.regions):
            if process is not None:
                process.look_after(notice)
        self._publish()
        self._look_at_restarts(notice)
        # A full disk must not end the stack.
        with suppress(OSError):
            self._say()

    def restart(self, chosen: Sequence[Replica], drain_seconds: float, notice: Callable[[str], None]) -> Roll:
        """Begins a rolling restart and returns at once. Raises UnavailableError while one is under way."""
        if len(self.replicas) == 1:
            raise UnavailableError(
                "a stack of one replica has nobody to take its calls meanwhile: serve with --replicas 2"
            )
        if self._is_rolling():
            raise UnavailableError("a restart is under way")
        self._roll = Roll(
            self.replicas,
            chosen,
            lambda: self.envoy.seen(self._cluster) if self.envoy is not None else {},
            drain_seconds=drain_seconds,
            publish=self._publish,
            notice=notice,
        )
        self._roll.start()
        return self._roll

    def _launch(self, replica: Replica, database_url: str) -> None:
        try:
            replica.launch(database_url)
        except SettingError as error:
            raise SettingError(f"replica {replica.name}: {error}") from None

    def _start_envoy(self) -> EnvoyProcess:
        folder = self._control.path / "endpoints"
        folder.mkdir(parents=True, exist_ok=True)
        self._publish()
        if self.values.has_failover:
            # What the controller wrote before holds.
            endpoints.make_far(folder, ENTRY)
            if self.values.envoy.spill:
                make_shares(folder)
        if self.values.envoy.region_tls is not None:
            write_secrets(self._control.path, self.values.envoy.region_tls, self.values.other_regions)
        made = bootstrap(self.values, endpoints=folder, secrets=self._control.path)
        file = self._control.path / "envoy.json"
        file.write_text(json.dumps(made, indent=1), encoding="utf-8")
        logs = self._settings.data_dir / "logs"
        note = envoy_note(self._settings.data_dir)
        envoy = EnvoyProcess(find_envoy(), file, self.values.envoy, logs / "envoy.log", note)
        try:
            envoy.wait_until_ready()
        except BaseException:
            envoy.stop()
            raise
        return envoy

    def _start_regions(self) -> None:
        """Does nothing where there are no other regions."""
        if not self.values.has_failover:
            return
        values = self._control.path / "values.yaml"
        # JSON is YAML.
        values.write_text(json.dumps(self._raw, indent=1), encoding="utf-8")
        self.regions = RegionsProcess(
            values,
            self._control.path / "endpoints",
            regions_address(self._settings),
            self._settings.data_dir / "logs" / "regions.log",
            self._withheld,
        )
        self.regions.wait_until_ready()

    def _wait_until_all_serve(self, envoy: EnvoyProcess) -> None:
        started = monotonic()
        for replica in self.replicas:
            while not (replica.is_ready() and envoy.seen(self._cluster).get(replica.key) == "healthy"):
                agent = replica.agent
                if agent is not None and monotonic() - started < LEFTOVER_SECONDS:
                    agent.look_after(lambda _: None)
                elif agent is not None and not agent.is_running():
                    agent.wait_until_ready()
                if monotonic() - started > START_SECONDS:
                    raise UnavailableError(
                        f"replica {replica.name} was not ready within {START_SECONDS:.0f} s: "
                        f"{replica.why_not_ready()} (log: {replica.agent_log})"
                    )
                time.sleep(0.1)

    def _publish(self) -> None:
        """Tells Envoy which replicas take calls, where that has changed. Safe in several threads."""
        with self._publishing:
            now = [replica.endpoint() for replica in self.replicas]
            # A full disk: tried again by the next call.
            with suppress(OSError):
                if now != self._published:
                    endpoints.write_near(self._control.path / "endpoints", ENTRY, now)
                    self._published = now

    def _look_at_restarts(self, notice: Callable[[str], None]) -> None:
        # Before another takes its place: who asked for it waits for its end.
        self._note_roll()
        if (request := self._control.take_request()) is not None:
            try:
                self.restart(self.replicas, request.drain_seconds, notice)
                self._roll_id = request.id
            except UnavailableError as error:
                self._rolls[request.id] = RollState("failed", error=str(error))
        elif not self._is_rolling() and len(self.replicas) > 1 and monotonic() > self._grown_due:
            grown = [replica for replica in self.replicas if replica.has_outgrown()][:1]
            if grown:
                notice(f"Replica {grown[0].name} has grown; restarting it.")
                self.restart(grown, GROWN_DRAIN_SECONDS, notice)
                self._roll_id, self._grown_due = GROWN, monotonic() + GROWN_PAUSE_SECONDS
        self._note_roll()

    def _is_rolling(self) -> bool:
        return self._roll is not None and self._roll.is_alive()

    def _note_roll(self) -> None:
        if self._roll is not None:
            self._rolls[self._roll_id] = self._roll.state

    def _say(self) -> None:
        replicas = tuple(
            ReplicaState(
                name=one.name,
                address=one.place.address,
                http_port=one.place.http_port,
                grpc_port=one.place.grpc_port,
                metrics_port=one.place.metrics_port,
                agent_http_port=one.place.agent_http_port,
                state=one.state,
            )
            for one in self.replicas
        )
        self._rolls = latest(self._rolls)
        state = FleetState(replicas, self.envoy_metrics, dict(self._rolls))
        if state != self._said:
            self._control.say(state)
            self._said = state


def _check_region_port(at: Address, file: str) -> None:
    try:
        check_port_is_free(at.address, at.port, "grpc_port")
    except SettingError:
        raise SettingError(
            f"{file}: envoy.regionListen {at.address}:{at.port} is taken or not of this machine"
        ) from None


def check_memory(each: int, count: int, free: int) -> None:
    """Raises SettingError where `free` bytes do not hold the servers beside the first, which takes `each` bytes."""
    needed = each * (count - 1)
    if needed > free:
        most = 1 + free // each
        raise SettingError(
            f"--replicas {count} needs {needed / 1e9:.1f} GB beside the first server's {each / 1e9:.1f} GB,"
            f" and {free / 1e9:.1f} GB are free; at most --replicas {most} fits"
        )
