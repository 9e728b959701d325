"""What every wire of reranking asks for, and its answer: all of them share one handler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from trireme.errors import InvalidInputError
from trireme.types import FloatArray, OverLength


@dataclass(frozen=True, slots=True)
class RerankCall:
    """Which documents answer `query` best. top_n: how many of them, None for all. model "": the default one.

    over_length: what becomes of a document that is longer than the model reads; None: what the model does.
    """

    query: str
    documents: tuple[str, ...]
    model: str = ""
    top_n: int | None = None
    return_documents: bool = False
    over_length: OverLength | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A document of a request that is not a bare text."""

    text: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document: its place in the request, and its relevance."""

    index: int
    relevance: float


def read_documents(given: Sequence[str | Document]) -> tuple[str, ...]:
    """Their texts. Raises InvalidInputError where there are none."""
    if not given:
        raise InvalidInputError("documents is empty; send at least one", "documents")
    return tuple(one if isinstance(one, str) else one.text for one in given)


def best_first(scores: FloatArray, top_n: int | None = None, *, raw: bool = False) -> list[Ranked]:
    """The documents by their score, equal ones in the request's order. Relevance is from 0 to 1: the logistic
    function of the score, which is the scale of cross-encoders; raw: the score itself."""
    # In 64 bits: 32 make one of two scores that differ.
    exact = scores.astype(np.float64)
    order = np.argsort(-exact, kind="stable")[:top_n]
    values = exact if raw else to_relevance(exact)
    return [Ranked(int(index), float(values[index])) for index in order]


def to_relevance(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Scores on the scale of 0 to 1, in their order."""
    # By tanh: exp overflows for large scores.
    relevance: npt.NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * np.asarray(scores, np.float64)))
    return relevance
