"""Asks an agent over HTTP, from the same machine."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from trireme.agent.drain import DrainReport
from trireme.agent.options import MOST_SECONDS
from trireme.errors import UnavailableError

# Beyond what a drain itself may take.
ANSWER_SECONDS = 10.0
# An agent says a few lines.
_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Readiness:
    """What /ready says. reasons: why not, in words."""

    is_ready: bool
    is_draining: bool
    reasons: tuple[str, ...] = ()


def read_readiness(address: str, seconds: float = ANSWER_SECONDS) -> Readiness:
    """What the agent at host:port of its HTTP says. Blocks. Raises UnavailableError where none answers."""
    _, said = _ask(address, "GET", "/ready", seconds)
    try:
        reasons = tuple(str(reason["text"]) for reason in said["reasons"])
        return Readiness(bool(said["ready"]), bool(said["draining"]), reasons)
    except (KeyError, TypeError):
        raise UnavailableError(f"what answers at {address} is no agent") from None


def drain(address: str, seconds: float) -> DrainReport:
    """Takes the replica out of its balancer, and waits at most so long until it has nothing left to do. Blocks.

    Raises UnavailableError where no agent answers at host:port of its HTTP.
    """
    status, said = _ask(address, "POST", f"/drain?seconds={seconds}", seconds + ANSWER_SECONDS)
    try:
        if status != http.client.OK:
            raise UnavailableError(f"the agent at {address} does not drain: {said['error']}")
        return DrainReport(
            is_empty=bool(said["empty"]),
            waited=float(said["waited_seconds"]),
            was_draining=bool(said["was_draining"]),
            **{name: int(said["left"][name]) for name in ("pending", "waiting", "running")},
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UnavailableError(f"what answers at {address} is no agent") from None


def _ask(address: str, method: str, path: str, seconds: float) -> tuple[int, dict[str, Any]]:
    try:
        with closing(http.client.HTTPConnection(address, timeout=min(seconds, MOST_SECONDS))) as connection:
            connection.connect()
            with _ending(connection.sock, min(seconds, MOST_SECONDS)):
                connection.request(method, path)
                answer = connection.getresponse()
                said = json.loads(answer.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError, http.client.HTTPException):
        raise UnavailableError(f"no agent answers at {address}; start one with: trireme agent") from None
    return answer.status, said


@contextmanager
def _ending(connected: socket.socket, seconds: float) -> Iterator[None]:
    """Ends a connection after so long: its own timeout begins anew with each byte."""

    def end() -> None:
        with suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
