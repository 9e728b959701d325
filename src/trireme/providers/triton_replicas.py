"""The servers of our own Triton, asked over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trireme.providers.replicas import Replica
from trireme.triton.many_servers import read_ready

# Without a byte.
READ_SECONDS = 2.0


class TritonReplicas:
    """See ReplicaReader."""

    def __init__(self, hosts: Sequence[str], http_port: int) -> None:
        self._hosts, self._http_port = hosts, http_port

    async def read(self) -> list[Replica]:
        """See ReplicaReader."""
        found = await asyncio.to_thread(read_ready, self._hosts, self._http_port, READ_SECONDS)
        return [Replica(name, is_ready) for name, is_ready in found]
