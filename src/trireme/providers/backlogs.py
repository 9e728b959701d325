"""The port of the models' backlogs: seconds of work that wait in front of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class BacklogReader(Protocol):
    """For one event loop."""

    async def read(self) -> Mapping[str, float]:
        """Seconds of work that wait in front of each model that says them. Raises UnavailableError."""
        ...

    async def close(self) -> None:
        """Free what it holds."""
        ...
