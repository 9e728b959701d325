"""Labels whose values come from outside: only so many of them, so that nobody can fill Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

# Different values of a label that comes from outside; more become "other".
MOST_VALUES = 200
OTHER = "other"


class BoundedLabel:
    """Lets `known` values of a label through, and the first `most` others; what comes later is "other"."""

    def __init__(self, known: Iterable[str] = (), most: int = MOST_VALUES) -> None:
        self._seen = set(known)
        # Names that somebody makes up cannot take the places of those in the file.
        self._most = len(self._seen) + most

    def is_seen(self, value: str) -> bool:
        """Whether the value has a place of its own."""
        return value in self._seen

    def __call__(self, value: str) -> str:
        if value in self._seen:
            return value
        if len(self._seen) < self._most:
            self._seen.add(value)
            return value
        return OTHER
