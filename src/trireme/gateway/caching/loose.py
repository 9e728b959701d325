"""What a call under load takes in place of the answer that it asks for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Loose:
    """steps: that are taken for the answer if it is asked for: it is not kept, and shared with calls of the same
    steps alone. takes_stale: a kept answer past its age will do, up to stale_seconds past it, for which answers of
    the route are kept."""

    steps: tuple[str, ...] = ()
    takes_stale: bool = False
    stale_seconds: float = 0.0

    @property
    def mark(self) -> str:
        """Behind the key of those who may read along."""
        return "".join(f"-{step}" for step in self.steps)
