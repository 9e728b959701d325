"""How urgent a request is, and how urgent a key lets its requests be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

Priority = Literal["batch", "normal", "high"]
# From the first that is refused under load to the last.
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
NORMAL: Priority = "normal"


def lowest(priorities: Iterable[Priority]) -> Priority:
    """The least urgent of some, at least one. Pure."""
    return min(priorities, key=PRIORITIES.index)
