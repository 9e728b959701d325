"""What loading gives: sources whose text is read only when somebody asks for it, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from trireme.errors import DocumentError
from trireme.types import Document

# Of a million broken lines nobody reads more than these.
MOST_NAMED = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of one document is read, so that none takes the machine for itself.

    Text, Markdown and HTML are streamed and PDF is read by the page: `document_bytes` bounds the time they take.
    The XML of DOCX is held whole, as a tree of about ten times its size: `parsed_bytes`.
    """

    document_bytes: int = 1 << 30
    parsed_bytes: int = 32 << 20
    pdf_pages: int = 50_000
    pdf_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Source:
    """A file or corpus line with the `digest` (sha256, hex) of its bytes, of which nothing is parsed yet.

    `open` gives its Document; it raises DocumentError where that cannot be read, and so may the document's
    parts, also in the middle. An empty `digest` means that opening will fail. `size` is in bytes.
    """

    id: str
    digest: str
    size: int
    open: Callable[[], Document]


@dataclass
class Skipped:
    """What was left out: documents by id with the reason, and counts of unknown suffixes.

    Keeps the first MOST_NAMED documents and counts the rest in `more`.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    unknown_suffixes: Counter[str] = field(default_factory=Counter)
    more: int = 0

    def add(self, identity: str, reason: str) -> None:
        """Note one document and why it was left out."""
        if len(self.files) < MOST_NAMED:
            self.files.append((identity, reason))
        else:
            self.more += 1

    @property
    def count(self) -> int:
        """How many documents were left out."""
        return len(self.files) + self.more + sum(self.unknown_suffixes.values())

    def lines(self) -> tuple[str, ...]:
        """One line for each document with its reason, and one for each unknown suffix with its count."""
        named = [f"{name}: {reason}" for name, reason in self.files]
        rest = [f"{self.more} more"] if self.more else []
        counted = [f"{n} of unknown type {suffix}" for suffix, n in sorted(self.unknown_suffixes.items())]
        return (*named, *rest, *counted)


def broken_source(identity: str, reason: str) -> Source:
    """A source that cannot be read: opening it raises DocumentError with `reason`."""

    def refuse() -> NoReturn:
        raise DocumentError(reason)

    return Source(identity, "", 0, refuse)
