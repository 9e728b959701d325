"""Envoy as a child: started again when it ends or hangs; and what it knows of the replicas."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Literal

from trireme.asked_process import AskedProcess, HealthTiming
from trireme.scale.envoy import arguments
from trireme.scale.values import EnvoyValues

# What Envoy does with a replica's calls; "": it does not know it, or does not say.
Seen = Literal["healthy", "unhealthy", "draining", ""]
HEALTH = HealthTiming(every=2.0, answer=5.0, start=30.0)
ANSWER_SECONDS = 2.0


class EnvoyProcess(AskedProcess):
    """One Envoy at a time, with the configuration in `file`. It does not end with its supervisor: see `note`."""

    def __init__(self, program: Path, file: Path, values: EnvoyValues, log_file: Path, note: Path) -> None:
        """Starts it and returns at once. note: where its process id is kept, for `end_leftovers`."""
        self._arguments = arguments(program, file, values)
        self._note = note
        self._admin = f"{values.admin.address}:{values.admin.port}"
        environ = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TZ") if key in os.environ}
        super().__init__(
            "envoy", environ, log_file, address=self._admin, path="/ready", health=HEALTH, title="Envoy"
        )

    def is_ready(self) -> bool:
        """Whether it takes calls. Blocks at most ANSWER_SECONDS."""
        return self.status(ANSWER_SECONDS) == http.client.OK

    def seen(self, cluster: str) -> dict[tuple[str, int], Seen]:
        """What it does with each replica of `cluster`, by address and port of gRPC; {} where it does not say."""
        with suppress(OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            with closing(http.client.HTTPConnection(self._admin, timeout=ANSWER_SECONDS)) as connection:
                connection.request("GET", "/clusters?format=json")
                said = json.loads(connection.getresponse().read())
            return read_clusters(said, cluster)
        return {}

    def stop(self) -> None:
        """As AskedProcess.stop."""
        super().stop()
        self._note.unlink(missing_ok=True)

    def _command_line(self) -> list[str]:
        return self._arguments

    def _start(self) -> None:
        super()._start()
        with suppress(OSError):
            self._note.write_text(str(self.pid))


def read_clusters(said: Mapping[str, Any], cluster: str) -> dict[tuple[str, int], Seen]:
    """The replicas of `cluster` in what Envoy's /clusters?format=json says. Raises KeyError, TypeError."""
    hosts = [
        host
        for one in said["cluster_statuses"]
        if one["name"] == cluster
        for host in one.get("host_statuses", ())
    ]
    return {_key_of(host["address"]["socket_address"]): _seen(host["health_status"]) for host in hosts}


def _key_of(address: Mapping[str, Any]) -> tuple[str, int]:
    return str(address["address"]), int(address["port_value"])


def _seen(status: Mapping[str, Any]) -> Seen:
    if status.get("eds_health_status") == "DRAINING":
        return "draining"
    # All else that it says are faults: failed checks, ejections, a first check that is still to come.
    return (
        "unhealthy"
        if any(key != "eds_health_status" and value for key, value in status.items())
        else "healthy"
    )
