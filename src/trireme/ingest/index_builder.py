"""The index builder port: build_due, cancel. Vector indexes are built beside a load and not by its every write."""

from __future__ import annotations

from typing import Protocol


class IndexBuilder(Protocol):
    """Gives collections the vector index that they lack, once no bulk load of them is under way.

    A vector costs several times as much in an index that grows with each write as in one that is built over
    all of them. Until it is there, searches compare every passage. Safe to use from several threads.
    """

    def build_due(self) -> int:
        """Build what is due, one index after the other; returns how many are there now that were not before.

        Blocks until they are built, which takes minutes for a million passages; readers and writers do not
        wait. Builders of several processes take turns. After `cancel` it builds nothing. Raises
        UnavailableError; what was half built is then built anew by the next call.
        """
        ...

    def cancel(self) -> None:
        """End a `build_due` of another thread, or the one that a signal came upon, soon. It may raise there."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent."""
        ...
