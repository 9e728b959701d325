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

from benchmarks.regions.certificates import make_certificates
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


@dataclass(frozen=True, slots=True)
class _Site:
    """Addresses of a region's Envoy, of its region listener and of its replicas, and where they run."""

    host: str
    listen: str
    replicas: tuple[str, ...]
    namespace: Namespace | None
    servers: Namespace | None


class World:
    """Both regions, running. Close it."""

    def __init__(
        self,
        folder: File,
        home: Namespace | None,
        paths: tuple[Path, Path] = (NEAR_PATH, FAR_PATH),
        settings: Mapping[str, Any] = PROFILE,
        *,
        has_tls: bool = False,
    ) -> None:
        """home: the namespace of the clients; None: no namespaces. Blocks until both regions serve.

        has_tls: whether the regions prove to each other who they are. Raises UnavailableError where one does not
        start, UnsupportedError where openssl is missing.
        """
        self._folder, self._resources = folder, ExitStack()
        self._is_cut = False
        self.near_link: Link | None = None
        self.far_link: Link | None = None
        self.replicas: list[Replica] = []
        try:
            self._start(home, paths, settings, has_tls=has_tls)
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
        self, home: Namespace | None, paths: tuple[Path, Path], settings: Mapping[str, Any], *, has_tls: bool
    ) -> None:
        sites = self._on_loopback() if home is None else self._over_links(home, paths)
        listens = {name: site.listen for name, site in sites.items()}
        tls = make_certificates(self._folder / "tls", listens) if has_tls else {}
        entry = {"serves": [MODEL, STREAMED], "idempotent": [MODEL]}
        regions = {}
        for name, other in ((HOME, FAR), (FAR, HOME)):
            site = sites[name]
            region = regions[name] = Region(
                name,
                self._folder / name,
                {ENTRY: entry},
                namespace=site.namespace,
                host=site.host,
                others={other: f"{listens[other]}:{REGION_PORT}"},
                listen=site.listen,
                **settings,
                **({"regionTls": tls[name]} if tls else {}),
            )
            self._resources.callback(region.close)
            near = [
                Endpoint(address, REPLICA_PORT + number, region=name)
                for number, address in enumerate(site.replicas)
            ]
            region.place(ENTRY, *near)
            for one in near:
                self._replica(region, site.servers, f"{one.address}:{one.port}")
            region.start_envoy()
            region.start_controller()
        self.home, self.far = regions[HOME], regions[FAR]
        for region in regions.values():
            region.wait_until(
                lambda region=region: _is_whole(region), "all replicas and balancers are healthy"
            )

    def _on_loopback(self) -> dict[str, _Site]:
        # Addresses of this process alone, so that several may run beside each other.
        net = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 256}"
        return {
            name: _Site(host, host, (f"{net}.{10 * number + 1}", f"{net}.{10 * number + 2}"), None, None)
            for number, name in enumerate((HOME, FAR), 1)
            for host in [f"{net}.{number}"]
        }

    def _over_links(self, home: Namespace, paths: tuple[Path, Path]) -> dict[str, _Site]:
        servers, far = self._namespace(), self._namespace()
        self.near_link = self._link(home, servers, paths[0], seed=1)
        self.far_link = self._link(home, far, paths[1], seed=2)
        own = "127.0.0.1"
        return {
            HOME: _Site(own, self.far_link.near, (self.near_link.far,) * REPLICAS, home, servers),
            FAR: _Site(own, self.far_link.far, (own,) * REPLICAS, far, far),
        }

    def _link(self, one: Namespace, other: Namespace, path: Path, seed: int) -> Link:
        made = Link(one, other, path, seed)
        self._resources.callback(made.close)
        return made

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
