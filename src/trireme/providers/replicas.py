"""The port of the servers of our own Triton: which there are, and which are ready."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Replica:
    """One server. name: its address."""

    name: str
    is_ready: bool


class ReplicaReader(Protocol):
    """For one event loop."""

    async def read(self) -> list[Replica]:
        """All servers, in the order of their addresses; one that does not answer is not ready."""
        ...
