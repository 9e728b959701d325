"""The port of what is served beside chats: our own Triton's encoders, rerankers, classifiers and searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from trireme.artifacts.contracts import split_adapter
from trireme.types import Classified, FloatArray, Hit, InputType, OverLength, SearchMode

# chat: generators. answer: rag. embed, rerank, classify: encoders. search: the ensemble.
Ability = Literal["chat", "answer", "embed", "rerank", "classify", "search"]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model of ours that clients may name, or an adapter of one as MODEL:ADAPTER, the rest as of the model.
    Private ones (two underscores) and retrievers are not among them.

    digest: of what is loaded, with all that it calls; another one after each load. "": the server does not say.
    versions: name and version, of it and of all models that it calls; a version is of the files (see
    triton.served_models), "" as digest.
    takes_cached_flag: it may be asked how many tokens of a prompt were cached; older configurations do not know
    the question. takes_rerank_depth: so may it be told how many passages are reranked. alternatives: that a chat
    may ask for beside each token's log-probability; None: it says no log-probabilities. says_findings: of a rag
    model, whether it may be asked for them (see chat.Findings). is_far: no server here has it, and another region
    answers for it; then digest and versions are "", whatever was known of it here. takes_tools: it may be asked for
    calls of tools, and for reasoning apart from the text.
    """

    name: str
    ability: Ability
    is_ready: bool
    digest: str = ""
    takes_cached_flag: bool = False
    alternatives: int | None = None
    versions: tuple[tuple[str, str], ...] = ()
    says_findings: bool = False
    takes_rerank_depth: bool = False
    is_far: bool = False
    takes_tools: bool = False


@dataclass(frozen=True, slots=True)
class Embedded:
    """vectors [texts, dimensions]; tokens [texts] that the model saw; truncated [texts] that its limit cut off."""

    vectors: FloatArray
    tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Reranked:
    """scores [passages] in the given order, as the model makes them; truncated [passages]: tokens that were cut."""

    scores: FloatArray
    truncated: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class SearchCall:
    """A search. None leaves the server's default. `filter` is JSON text, "" lets all through.

    rerank_depth: how many passages the reranker may read, 0 for none; only of a model that takes it. seconds: that
    the answer may take, in place of the server's own limit.
    """

    query: str
    tenant: str
    collection: str
    user: str = ""
    model: str = "search"
    top_k: int | None = None
    filter: str = ""
    mode: SearchMode | None = None
    rerank_depth: int | None = None
    seconds: float | None = None


def base_of(name: str) -> str:
    """The model of ours that serves a name: of MODEL:ADAPTER the model."""
    return split_adapter(name)[0]


class ModelServer(Protocol):
    """What our Triton does in one call each. For one event loop. Every verb raises TriremeError.

    seconds: that an answer may take, where they are fewer than the server's own limit. over_length: what becomes of
    a text that is longer than the model reads. A model whose configuration is older cuts it and says so; split of
    it is refused.
    """

    async def models(self) -> list[ServedModel]:
        """Every model that clients may name, by name. Raises UnavailableError where no server answers."""
        ...

    async def embed(
        self,
        texts: Sequence[str],
        model: str,
        input_type: InputType | None = None,
        dimensions: int | None = None,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Embedded:
        """One vector for each text, in order. None leaves the model's default."""
        ...

    async def rerank(
        self,
        query: str,
        passages: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Reranked:
        """A score for each passage."""
        ...

    async def classify(
        self,
        texts: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> list[Classified]:
        """The labels of each text, best first."""
        ...

    async def search(self, call: SearchCall) -> list[Hit]:
        """Passages, best first. Raises NotFoundError for a collection that is not there."""
        ...

    async def close(self) -> None:
        """Free the connection."""
        ...
