"""What a worker needs of an embedder: where its texts are cut, and what turns them into vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trireme.types import Document, Embedder, FloatArray, Passage, SparseVector


@dataclass(frozen=True, slots=True)
class Vectors:
    """What an embedder makes of n texts: `dense` [n, dimensions], and n `sparse` ones where it makes any."""

    dense: FloatArray
    sparse: tuple[SparseVector, ...] | None = None

    def __len__(self) -> int:
        return len(self.dense)


def join_vectors(parts: Sequence[Vectors]) -> Vectors:
    """The vectors of all parts, of which there must be one, by one embedder."""
    sparse = [part.sparse for part in parts if part.sparse is not None]
    joined = tuple(vector for part in sparse for vector in part) if sparse else None
    return Vectors(np.concatenate([part.dense for part in parts]), joined)


@dataclass(frozen=True, slots=True)
class Encoder:
    """One served text encoder.

    cut: the passages of a document. count: tokens of each text. embed: n texts to their vectors; raises
    UnavailableError while the server is away. fingerprint: what else than a document's bytes changes its
    passages. max_rows: texts of one request. outputs: the tensors that `embed` asks for.
    """

    model: str
    embedder: Embedder
    cut: Callable[[Document], Iterator[Passage]]
    count: Callable[[Sequence[str]], Sequence[int]]
    embed: Callable[[Sequence[str]], Vectors]
    is_ready: Callable[[], bool]
    fingerprint: str = ""
    max_rows: int = 64
    outputs: tuple[str, ...] = ("embedding",)


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
