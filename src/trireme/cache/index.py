"""The port of the index that finds questions which were answered before by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trireme.errors import InvalidInputError

Vector = npt.NDArray[np.float32]

# Of one question; longer ones do not fit into an embedder's window by far.
MAX_QUESTION_BYTES = 8192
MAX_NAME_BYTES = 512
MAX_KEY_BYTES = 128


@dataclass(frozen=True, slots=True)
class Indexed:
    """A question that has an answer. key: of its entry, one for each partition. vector [dimensions] at unit length.

    seconds: that it may be found.
    """

    tenant: str
    partition: str
    key: str
    text: str
    vector: Vector
    seconds: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question near to another one. similarity: their cosine. made_at: Unix seconds, when it was kept."""

    key: str
    text: str
    similarity: float
    made_at: float


class SemanticIndex(Protocol):
    """Questions by tenant and partition. Safe to use from several threads; shared by all gateways. What is kept may
    be gone at any time. Every verb blocks, and raises UnavailableError."""

    def find(self, tenant: str, partition: str, vector: Vector, count: int) -> list[Candidate]:
        """The `count` nearest questions of the tenant's partition, nearest first; fewer where there are fewer.
        Those whose time is over are not among them. Raises InvalidInputError for a vector of another length."""
        ...

    def keep(self, question: Indexed) -> None:
        """Index a question, in place of what has its key in the partition. The oldest of the partition go where it
        is full. Raises InvalidInputError for what cannot be kept."""
        ...

    def forget(self, tenant: str, partition: str, keys: Sequence[str]) -> None:
        """Take questions out whose entries are gone."""
        ...

    def sweep(self) -> int:
        """Delete what is over, and the oldest of all where there are too many; how many went. May be called by
        every process now and then."""
        ...

    def close(self) -> None:
        """Free the connections. A later verb opens new ones."""
        ...


def check_vector(vector: Vector, dimensions: int) -> None:
    """Raises InvalidInputError unless the vector has so many numbers, all finite, and a direction."""
    if vector.shape != (dimensions,):
        raise InvalidInputError(f"a question's vector must have shape ({dimensions},), got {vector.shape}")
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0:
        raise InvalidInputError("a question's vector is all zeros or holds NaN or infinity")


def check_indexed(question: Indexed, dimensions: int) -> None:
    """Raises InvalidInputError for a question that cannot be kept."""
    limits = {
        "tenant": (question.tenant, MAX_NAME_BYTES),
        "partition": (question.partition, MAX_KEY_BYTES),
        "key": (question.key, MAX_KEY_BYTES),
        "text": (question.text, MAX_QUESTION_BYTES),
    }
    for name, (value, most) in limits.items():
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise InvalidInputError(f"a question's {name} holds a lone surrogate") from None
        if not 1 <= size <= most or "\x00" in value:
            raise InvalidInputError(f"a question's {name} must have 1 to {most} bytes and no NUL")
    check_vector(question.vector, dimensions)
    if not 0 < question.seconds < float("inf"):
        raise InvalidInputError("a question's seconds must be above 0")
