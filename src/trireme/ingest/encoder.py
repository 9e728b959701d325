"""What a worker needs of an embedder: where its texts are cut, and what turns them into vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from trireme.types import Document, Embedder, FloatArray, Passage


@dataclass(frozen=True, slots=True)
class Encoder:
    """One served text encoder.

    cut: the passages of a document. count: tokens of each text. embed: n texts to [n, dimensions]; raises
    UnavailableError while the server is away. fingerprint: what else than a document's bytes changes its
    passages. max_rows: texts of one request.
    """

    model: str
    embedder: Embedder
    cut: Callable[[Document], Iterator[Passage]]
    count: Callable[[Sequence[str]], Sequence[int]]
    embed: Callable[[Sequence[str]], FloatArray]
    is_ready: Callable[[], bool]
    fingerprint: str = ""
    max_rows: int = 64


class Encoders(Protocol):
    """Chooses the encoder of a collection."""

    def choose(self, tenant: str, collection: str) -> Encoder:
        """The encoder whose vectors the collection holds; the default one's where there is no such collection.

        Raises EmbedderMismatchError where that embedder is not served here, UnavailableError.
        """
        ...

    def forget(self) -> None:
        """Look again: a collection may have become another embedder's."""
        ...
