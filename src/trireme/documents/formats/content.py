"""What a reader makes of a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Content:
    """Title ("" where the file says none), text as Markdown in parts, and JSON for the metadata of its passages.

    The parts are read once, and may raise DocumentError.
    """

    title: str
    parts: Iterator[str]
    extra: Mapping[str, Any] = field(default_factory=dict)
