"""How loaded replicas are: the near ones by their agents' reports (ORCA), far ones by what their region says."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from trireme.regions.names import LookUp, look_up
from trireme.scale.endpoints import near_file, read_near
from trireme.scale.orca import read_loads
from trireme.scale.values import Values

# The name of an entry -> the mean of its replicas' utilization: 1 is full, more is allowed. No unknown ones.
Loads = Mapping[str, float]
Agent = tuple[str, int]

MOST_BYTES = 1 << 20


class NearLoads:
    """The loads of this region's replicas. For one thread; others may read `known`."""

    def __init__(self, values: Values, folder: Path, seconds: float, look_up: LookUp = look_up) -> None:
        """folder: of the files of near replicas; of an entry without one DNS is asked. seconds: for an answer."""
        self._values = values
        self._folder = folder
        self._seconds = seconds
        self._look_up = look_up
        self._channels: dict[Agent, Any] = {}
        self.known: Loads = {}

    def measure(self) -> None:
        """Asks all agents at once and learns the means. Blocks; never raises."""
        agents = {entry.name: self._agents_of(entry.name) for entry in self._values.models}
        self._keep({agent for some in agents.values() for agent in some})
        asked = list(self._channels)
        reports = dict(zip(asked, read_loads(self._channels.values(), self._seconds), strict=True))
        self.known = {
            entry: _mean(found)
            for entry, some in agents.items()
            if (found := [report.utilization or 0.0 for one in some if (report := reports[one]) is not None])
        }

    def close(self) -> None:
        """Closes the connections."""
        self._keep(set())

    def _agents_of(self, entry: str) -> list[Agent]:
        if near_file(self._folder, entry).exists():
            return [
                (one.address, one.agent_port)
                for one in read_near(self._folder, entry)
                if one.agent_port and one.state == "healthy"
            ]
        envoy = self._values.envoy
        try:
            found = set(self._look_up(envoy.service.replace("{model}", entry), envoy.agent_port))
        except (OSError, UnicodeError):
            return []
        return sorted((address, envoy.agent_port) for address in found)

    def _keep(self, agents: set[Agent]) -> None:
        import grpc

        for gone in self._channels.keys() - agents:
            self._channels.pop(gone).close()
        for host, port in agents - self._channels.keys():
            at = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            # One that comes back is found within a second.
            options = [("grpc.max_reconnect_backoff_ms", 1000), ("grpc.initial_reconnect_backoff_ms", 100)]
            self._channels[host, port] = grpc.insecure_channel(at, options)


class FarLoads:
    """What other regions said of their own loads, for so long as it may be believed. Threads may share it."""

    def __init__(self, believed: float, clock: Callable[[], float] = monotonic) -> None:
        """believed: seconds after which what was said is no longer known."""
        self._believed = believed
        self._clock = clock
        self._said: dict[str, tuple[float, Loads]] = {}

    def hear(self, region: str, body: bytes | None) -> None:
        """Takes what a region answered; None: it did not."""
        loads = parse_loads(body)
        if loads is not None:
            self._said[region] = (self._clock(), loads)

    def of(self, region: str) -> Loads:
        """What is known of it now."""
        at, loads = self._said.get(region, (-math.inf, {}))
        return loads if self._clock() - at <= self._believed else {}


def loads_body(loads: Loads) -> bytes:
    """What a controller tells other regions' controllers."""
    return json.dumps({"loads": {entry: round(load, 6) for entry, load in loads.items()}}).encode()


def parse_loads(body: bytes | None) -> Loads | None:
    """What `loads_body` wrote; None for anything else."""
    try:
        raw = json.loads(body or b"")["loads"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return {
        entry: float(load)
        for entry, load in raw
        if isinstance(load, int | float) and not isinstance(load, bool) and 0 <= load < math.inf
    }


def ask_loads(connection: http.client.HTTPConnection, path: str) -> bytes | None:
    """The body of an answer on a connection that is open; None for no answer. Raises OSError, HTTPException."""
    connection.request("GET", path, headers={"user-agent": "trireme"})
    response = connection.getresponse()
    body = response.read(MOST_BYTES)
    if not response.isclosed():
        # What is left would be taken for the next answer.
        raise http.client.HTTPException(f"more than {MOST_BYTES} bytes")
    return body if response.status == http.client.OK else None


def _mean(values: Iterable[float]) -> float:
    some = list(values)
    return sum(some) / len(some)
