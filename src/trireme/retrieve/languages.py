"""The languages port: find, set, reread. In which language the words of a collection's passages are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# The code of a text's language, "" where it does not tell.
LanguageTeller = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class CollectionLanguage:
    """A collection's language: a code, AUTO, or "" where nobody has said one and words are read as English.

    main: the code of the language that most of its passages are read by.
    """

    language: str
    main: str


@dataclass(frozen=True, slots=True)
class Reread:
    """Passages that were looked at (0: the end), how many of them had to be written, and the key of the last."""

    passages: int
    written: int
    last: int


class CollectionLanguages(Protocol):
    """Safe to use from several threads and processes.

    Every verb raises UnavailableError, and InvalidInputError for names that nothing can have.
    """

    def find(self, tenant: str, collection: str) -> CollectionLanguage | None:
        """The language of a collection; None where there is no such collection."""
        ...

    def set(self, tenant: str, collection: str, language: str) -> None:
        """Passages that are written from now on are read by it; those that are there stay as they are.

        language: a code or AUTO. A collection that is not there yet will have it.
        """
        ...

    def reread(
        self, tenant: str, collection: str, tell: LanguageTeller, after: int = 0, limit: int = 500
    ) -> Reread:
        """Read `limit` passages, or fewer long ones, anew by the collection's language: those behind key `after`.

        In a collection of AUTO, `tell` tells the language of a passage whose metadata does not name one. What is
        written has its language in its metadata, unless something else than a code stands there. Searches find old
        and new readings meanwhile. Raises NotFoundError.
        """
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...
