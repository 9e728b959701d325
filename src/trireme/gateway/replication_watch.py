"""How the database's links to other regions stand, read in the background into the metrics."""

from __future__ import annotations

import asyncio
import logging

from trireme.errors import UnavailableError
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import state_metrics as names
from trireme.retrieve.replication import Replication

_log = logging.getLogger(__name__)
EVERY_SECONDS = 5.0
_GAUGES = (
    names.REPLICATION_CONNECTED,
    names.REPLICATION_BEHIND,
    names.REPLICATION_SILENT,
    names.REPLICATION_LEFT,
)


class ReplicationWatch:
    """For one event loop. `start` before use, `close` after it. The statements run in threads."""

    def __init__(self, replication: Replication, metrics: GatewayMetrics) -> None:
        self._replication = replication
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read now and then. A database that is away is waited for."""
        self._task = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self) -> None:
        """Read once. What is not known any more is not told. Raises nothing of the database's."""
        try:
            links = await asyncio.to_thread(self._replication.read)
        except UnavailableError:
            links = []
        except Exception as error:
            _log.error("reading the links of the database failed: %s", type(error).__name__)
            links = []
        told = [
            (
                one.role,
                one.name,
                (float(one.is_connected), one.behind_bytes, one.silent_seconds, one.left_bytes),
            )
            for one in links
        ]
        for place, gauge in enumerate(_GAUGES):
            known: dict[tuple[str, ...], float] = {
                (role, name): float(value)
                for role, name, values in told
                if (value := values[place]) is not None
            }
            self._metrics.replace(gauge, known)

    async def _keep_looking(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(EVERY_SECONDS)
