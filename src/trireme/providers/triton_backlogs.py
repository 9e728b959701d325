"""The backlogs of our own Triton, off its page of metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from trireme.triton.metrics import read_backlogs

# Without a byte. What comes later than that says nothing of now.
READ_SECONDS = 2.0


class TritonBacklogs:
    """See BacklogReader. Models that export no backlog are missing."""

    def __init__(self, host: str, metrics_port: int) -> None:
        self._place = (host, metrics_port)

    async def read(self) -> Mapping[str, float]:
        """See BacklogReader."""
        return await asyncio.to_thread(read_backlogs, *self._place, READ_SECONDS)

    async def close(self) -> None:
        """See BacklogReader."""
