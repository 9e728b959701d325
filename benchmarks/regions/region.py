"""A region on this machine: an Envoy and its controller, in a namespace of its own or at addresses of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regions.namespaces import Namespace, start_within
from trireme.errors import UnavailableError
from trireme.scale import endpoints
from trireme.scale.endpoints import Endpoint
from trireme.scale.envoy import arguments, bootstrap, find_envoy
from trireme.scale.region_tls import write_secrets
from trireme.scale.spill import make_shares
from trireme.scale.values import parse_values

# Every region has a network of its own, so all have the same ports.
GRPC_PORT, ADMIN_PORT, METRICS_PORT, REGION_PORT, CONTROLLER_PORT = 8001, 9901, 9902, 8010, 9903
# What finds out soon that a region fell silent; docs/regions.md has the same.
PROFILE: Mapping[str, Any] = {
    "healthIntervalSeconds": 0.3,
    "healthTimeoutSeconds": 0.5,
    "keepaliveIntervalSeconds": 0.5,
    "keepaliveTimeoutSeconds": 0.5,
    "connectTimeoutSeconds": 0.25,
    "perTryTimeoutSeconds": 0.3,
}
_START_S = 60.0


class Region:
    """One region: starts its Envoy and its controller, and says what they see. Close it.

    namespace: where they run; None: with the others, at `host`. others: name -> host:port of their balancers, in
    the file's order. listen: the address of its region listener; "": it has none. envoy: as in values.yaml.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        models: Mapping[str, Any],
        *,
        namespace: Namespace | None = None,
        host: str = "127.0.0.1",
        others: Mapping[str, str] | None = None,
        listen: str = "",
        **envoy: Any,
    ) -> None:
        """Writes its values; starts nothing."""
        self.name, self.folder, self.host, self.namespace = name, folder, host, namespace
        folder.mkdir(parents=True, exist_ok=True)
        own = {
            key: {"address": host, "port": port}
            for key, port in (("listen", GRPC_PORT), ("admin", ADMIN_PORT), ("metrics", METRICS_PORT))
        }
        if listen:
            own["regionListen"] = {"address": listen, "port": REGION_PORT}
        raw = {
            "models": models,
            "regions": [{"name": name}, *({"name": a, "balancer": b} for a, b in (others or {}).items())],
            # The links lead nowhere else.
            "envoy": {**own, **({} if "regionTls" in envoy else {"regionInsecure": True}), **envoy},
        }
        self.values = parse_values(raw, name)
        # JSON is YAML.
        self.values_file = folder / "values.yaml"
        self.values_file.write_text(json.dumps(raw), encoding="utf-8")
        self.endpoints = folder / "endpoints"
        self.endpoints.mkdir(exist_ok=True)
        for entry in self.values.models:
            endpoints.write_near(self.endpoints, entry.name, [])
            endpoints.make_far(self.endpoints, entry.name)
        self.envoy: subprocess.Popen[Any] | None = None
        self.controller: subprocess.Popen[Any] | None = None

    def start(
        self, command: Sequence[str], log: str, namespace: Namespace | None = None, **more: Any
    ) -> subprocess.Popen[Any]:
        """A process of this region, whose output is in its folder; it is killed with the one that started it.

        namespace: where it runs, in place of the region's own. more: as of Popen.
        """
        with (self.folder / log).open("ab") as out:
            more |= {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
            return start_within(namespace or self.namespace, command, **more)

    def start_envoy(self) -> None:
        """Blocks until it listens. Raises UnavailableError with what it said when it does not start."""
        file = self.folder / "envoy.json"
        if self.values.envoy.region_tls is not None:
            write_secrets(self.folder, self.values.envoy.region_tls, self.values.other_regions)
        if self.values.envoy.spill:
            make_shares(self.endpoints)
        made = bootstrap(self.values, endpoints=self.endpoints, secrets=self.folder)
        file.write_text(json.dumps(made), encoding="utf-8")
        self.envoy = self.start(arguments(find_envoy(), file, self.values.envoy), "envoy.log")
        self.wait_until(self.is_ready, "its Envoy starts")

    def start_controller(self, *options: str) -> None:
        """The controller that orders the other regions. Returns at once. options: more words of its command."""
        words = ["--values", str(self.values_file), "--endpoints", str(self.endpoints)]
        words += ["--host", self.host, "--port", str(CONTROLLER_PORT), *options]
        self.controller = self.start(
            [sys.executable, "-m", "trireme.cli", "regions", *words], "controller.log"
        )

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends both. Safe to call twice."""
        for process in (self.controller, self.envoy):
            if process is not None:
                process.kill()
                process.wait()

    def is_ready(self) -> bool:
        """Whether Envoy listens. Raises UnavailableError when it has ended."""
        assert self.envoy is not None
        if self.envoy.poll() is not None:
            raise UnavailableError(
                f"Envoy of {self.name} ended: {(self.folder / 'envoy.log').read_text(errors='replace')}"
            )
        try:
            return self.fetch("/ready") == "LIVE\n"
        except OSError:
            return False

    def fetch(self, path: str, port: int = ADMIN_PORT) -> str:
        """A page of Envoy's admin address, or of another port of this region. Raises OSError."""
        connection = http.client.HTTPConnection(self.host, port, timeout=10)
        if self.namespace is not None:
            connection.sock = self.namespace.connect(self.host, port)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read().decode()

    def place(self, entry: str, *some: Endpoint) -> None:
        """Replaces the near replicas of an entry."""
        endpoints.write_near(self.endpoints, entry, some)

    def place_far(self, entry: str, *some: Endpoint) -> None:
        """Replaces the balancers of other regions, where no controller does."""
        endpoints.write_far(self.endpoints, entry, some)

    def hosts(self, entry: str) -> dict[str, str]:
        """address:port of each replica and balancer of an entry -> healthy, draining, waiting or out."""
        clusters = json.loads(self.fetch("/clusters?format=json"))["cluster_statuses"]
        return {
            f"{at['address']}:{at['port_value']}": state_of(host["health_status"])
            for cluster in clusters
            if cluster["name"] in (entry, endpoints.near_name(entry), endpoints.far_name(entry))
            for host in cluster.get("host_statuses", [])
            for at in [host["address"]["socket_address"]]
        }

    def far_order(self, entry: str) -> list[str]:
        """The other regions, in the order in which they are asked."""
        return [one.region for one in endpoints.read_far(self.endpoints, entry)]

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = _START_S) -> None:
        """Blocks. Raises UnavailableError when it is not so in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self.name}: not within {seconds:.0f} s: {what}")
            time.sleep(0.02)


def state_of(health: Mapping[str, Any]) -> str:
    """Of a host of Envoy's /clusters: healthy, draining, waiting for its first check, or out."""
    if health.get("eds_health_status") == "DRAINING":
        return "draining"
    if health.get("pending_active_hc"):
        return "waiting"
    failed = (
        *("failed_active_health_check", "failed_outlier_check", "failed_degraded_outlier_detection"),
        *("failed_active_degraded_check", "active_hc_timeout"),
    )
    return "out" if any(health.get(key) for key in failed) else "healthy"
