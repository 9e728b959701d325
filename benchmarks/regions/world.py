"""Two regions and their replicas, as the measurement and the demonstration have them.

eu is where the clients are: its Envoy, and two replicas some milliseconds away. us is an ocean away: two replicas
behind an Envoy of their own. Where namespaces are not allowed, all are at addresses of this machine's loopback
without delay, and what is cut off stands still (SIGSTOP) in place of losing packets.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import grpc

from benchmarks.regions.delays import Path
from benchmarks.regions.links import PROJECT, Link
from benchmarks.regions.namespaces import Namespace
from benchmarks.regions.region import GRPC_PORT, PROFILE, REGION_PORT, Region
from trireme.scale.endpoints import Endpoint
from trireme.scale.routes import INFER, MODEL_HEADER, STREAM

HOME, FAR = "eu", "us"
ENTRY, MODEL, STREAMED = "retrieval", "embedding", "llm"
REPLICA_PORT = 9001
REPLICAS = 2
# One way: round trips of 7 and 82 ms.
NEAR_PATH, FAR_PATH = Path(3.5, 0.2), Path(41.0, 0.5)
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One that runs. place: address:port, as its region's Envoy knows it."""

    region: str
    place: str
    process: subprocess.Popen[Any]


class World:
    """Both regions, running. Close it."""

    def __init__(
        self,
        folder: File,
        home: Namespace | None,
        paths: tuple[Path, Path] = (NEAR_PATH, FAR_PATH),
        settings: Mapping[str, Any] = PROFILE,
        *,
        failover: int = 256,
    ) -> None:
        """home: the namespace of the clients; None: no namespaces. Blocks until both regions serve.

        failover: calls at once that us takes for eu. Raises UnavailableError where one does not start.
        """
        self._folder, self._resources = folder, ExitStack()
        self._is_cut = False
        self.near_link: Link | None = None
        self.far_link: Link | None = None
        self.replicas: list[Replica] = []
        try:
            self._start(home, paths, dict(settings), failover)
        except BaseException:
            self.close()
            raise

    @property
    def channel(self) -> Any:
        """A new channel to the Envoy of eu."""
        return grpc.insecure_channel(f"{self.home.host}:{GRPC_PORT}")

    def cut(self) -> None:
        """The replicas of eu are gone: nothing that is sent to them arrives, and nothing is refused."""
        if self.near_link is not None:
            self.near_link.cut()
        else:
            self._signal(signal.SIGSTOP)
        self._is_cut = True

    def heal(self) -> None:
        """They are reached again."""
        if self.near_link is not None:
            self.near_link.heal()
        else:
            self._signal(signal.SIGCONT)
        self._is_cut = False

    def close(self) -> None:
        """Ends all of it."""
        if self._is_cut:
            self.heal()
        self._resources.close()

    def _signal(self, number: int) -> None:
        for one in self.replicas:
            if one.region == HOME:
                one.process.send_signal(number)

    def _start(
        self, home: Namespace | None, paths: tuple[Path, Path], settings: dict[str, Any], failover: int
    ) -> None:
        if home is None:
            # Of this process alone, so that several may run beside each other.
            net = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
            hosts = {HOME: f"{net}.1", FAR: f"{net}.2"}
            listens = hosts
            spaces: dict[str, Namespace | None] = {HOME: None, FAR: None}
            addresses = {HOME: [f"{net}.11", f"{net}.12"], FAR: [f"{net}.21", f"{net}.22"]}
            servers: Namespace | None = None
        else:
            servers, far = self._namespace(), self._namespace()
            self.near_link = Link(home, servers, paths[0], seed=1)
            self._resources.callback(self.near_link.close)
            self.far_link = Link(home, far, paths[1], seed=2)
            self._resources.callback(self.far_link.close)
            hosts = {HOME: "127.0.0.1", FAR: "127.0.0.1"}
            listens = {HOME: self.far_link.near, FAR: self.far_link.far}
            spaces = {HOME: home, FAR: far}
            addresses = {HOME: [self.near_link.far] * REPLICAS, FAR: ["127.0.0.1"] * REPLICAS}
        entry = {
            "serves": [MODEL, STREAMED],
            "idempotent": [MODEL],
            "failoverMaxRequests": failover,
        }
        regions = {}
        for name, other in ((HOME, FAR), (FAR, HOME)):
            regions[name] = self._resources.enter_context(
                Region(
                    name,
                    self._folder / name,
                    {ENTRY: entry},
                    namespace=spaces[name],
                    host=hosts[name],
                    others={other: f"{listens[other]}:{REGION_PORT}"},
                    listen=listens[name],
                    **settings,
                )
            )
        self.home, self.far = regions[HOME], regions[FAR]
        for name, region in regions.items():
            near = []
            for number, address in enumerate(addresses[name]):
                port = REPLICA_PORT + number
                near.append(Endpoint(address, port, region=name))
                self._replica(region, servers if name == HOME else spaces[name], f"{address}:{port}")
            region.place(ENTRY, *near)
            region.place_far(ENTRY, Endpoint(listens[other], REGION_PORT, region=other, priority=1))
        for region in regions.values():
            region.start_envoy()
        for name in (HOME, FAR):
            region = regions[name]
            region.wait_until(
                lambda region=region: set(region.hosts(ENTRY).values()) == {"healthy"},
                "all replicas are healthy",
            )

    def _namespace(self) -> Namespace:
        made = Namespace()
        self._resources.callback(made.close)
        return made

    def _replica(self, region: Region, space: Namespace | None, place: str) -> None:
        command = [sys.executable, "-m", "benchmarks.regions.replica", place, region.name]
        process = region.start(command, "replicas.log", space, cwd=PROJECT)
        self.replicas.append(Replica(region.name, place, process))
        self._resources.callback(_end, process)


def _is_whole(region: Region) -> bool:
    return list(region.hosts(ENTRY).values()) == ["healthy"] * (REPLICAS + 1)


def _end(process: subprocess.Popen[Any]) -> None:
    process.kill()
    process.wait(_STOP_S)


class Client:
    """Calls of clients in eu."""

    def __init__(self, channel: Any) -> None:
        self._infer, self._stream = channel.unary_unary(INFER), channel.stream_stream(STREAM)

    def infer(self, milliseconds: float, deadline_s: float) -> Any:
        """Begins an idempotent call that takes a replica so long; its result is the region that answers."""
        return self._infer.future(
            str(milliseconds).encode(), metadata=[(MODEL_HEADER, MODEL)], timeout=deadline_s
        )

    def stream(self, milliseconds: float, deadline_s: float) -> Any:
        """Begins a stream whose first message takes so long; an iterator of two messages, the region's name."""
        body = str(milliseconds).encode()
        return self._stream(iter([body]), metadata=[(MODEL_HEADER, STREAMED)], timeout=deadline_s)


def region_of(answer: bytes) -> str:
    """Who gave an answer."""
    return answer.decode()
