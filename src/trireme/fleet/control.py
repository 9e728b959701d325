"""What a running fleet says of itself, and how it is asked to restart its replicas: files in the data directory.

Who may write there may restart; nothing listens for it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from trireme.errors import UnavailableError
from trireme.kept_server import is_claimed
from trireme.settings import Settings

RollOutcome = Literal["running", "done", "failed"]
MOST_KEPT = 8


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica. state: serving, starting, or draining; see fleet.replica. Ports are TCP ports at `address`."""

    name: str
    address: str
    http_port: int
    grpc_port: int
    metrics_port: int
    agent_http_port: int
    state: str


@dataclass(frozen=True, slots=True)
class RollState:
    """A rolling restart. restarted: names of the replicas that are done, in order. error: why it failed."""

    outcome: RollOutcome
    restarted: tuple[str, ...] = ()
    now: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class FleetState:
    """All of a fleet. envoy_metrics: host:port. rolls: by the id of their request, the last MOST_KEPT."""

    replicas: tuple[ReplicaState, ...]
    envoy_metrics: str
    rolls: Mapping[str, RollState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RestartRequest:
    """A wish for a rolling restart. drain_seconds: that the calls of one replica may take to end."""

    id: str
    drain_seconds: float


class ControlFolder:
    """The files of one data directory. Each is replaced by a rename: a reader finds the old or the new one."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "fleet"
        self._state = self.path / "state.json"
        self._request = self.path / "restart.json"

    def clear(self) -> None:
        """Forgets what an earlier stack said and was asked. Makes the folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._state.unlink(missing_ok=True)
        self._request.unlink(missing_ok=True)

    def say(self, state: FleetState) -> None:
        """Replaces what is said. Raises OSError, as on a full disk."""
        _replace(self._state, asdict(state))

    def read(self) -> FleetState | None:
        """What is said; None where nothing is. Never raises."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(self._state.read_text(encoding="utf-8"))
            rolls = {key: RollState(**_listless(roll)) for key, roll in said["rolls"].items()}
            replicas = tuple(ReplicaState(**one) for one in said["replicas"])
            return FleetState(replicas, said["envoy_metrics"], rolls)
        return None

    def ask_restart(self, drain_seconds: float) -> str:
        """Leaves a request; its id. Raises UnavailableError where it cannot be written."""
        request = RestartRequest(secrets.token_hex(8), drain_seconds)
        try:
            _replace(self._request, asdict(request))
        except OSError as error:
            raise UnavailableError(f"cannot write into {self.path} ({error.strerror})") from None
        return request.id

    def take_request(self) -> RestartRequest | None:
        """The request that was left, which is then gone; one that cannot be read is dropped. Never raises."""
        try:
            text = self._request.read_text(encoding="utf-8")
            self._request.unlink()
            said = json.loads(text)
            return RestartRequest(str(said["id"]), float(said["drain_seconds"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


def running_fleet(settings: Settings) -> FleetState | None:
    """What the fleet in the data directory of `settings` says; None where none runs there. Never raises."""
    return ControlFolder(settings.data_dir).read() if is_claimed(settings.data_dir) else None


def latest(rolls: Mapping[str, RollState]) -> dict[str, RollState]:
    """The last MOST_KEPT of them."""
    kept: Sequence[str] = list(rolls)[-MOST_KEPT:]
    return {key: rolls[key] for key in kept}


def _listless(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"restarted": tuple(said["restarted"])}


def _replace(path: Path, said: dict[str, Any]) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_text(json.dumps(said, indent=1), encoding="utf-8")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
