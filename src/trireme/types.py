"""The frozen dataclasses that cross boundaries. Imports nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
InputType = Literal["query", "passage"]

DEFAULT_TENANT = "default"
DEFAULT_COLLECTION = "default"


@dataclass(frozen=True, slots=True)
class Embedder:
    """Which model made a vector: `digest` (sha256 hex, from the model's manifest) and its length."""

    digest: str
    dimensions: int


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of text to index. `id` is unique within (tenant, collection); `metadata` is JSON text."""

    id: str
    text: str
    metadata: str = "{}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found for a query, with its score (cosine similarity in [-1, 1] from a store)."""

    id: str
    text: str
    metadata: str
    score: float


@dataclass(frozen=True, slots=True)
class StoreQuery:
    """A nearest-neighbour query: `embedding` is [dimensions] float32 of unit length, `top_k` >= 1."""

    embedding: FloatArray
    embedder: Embedder
    top_k: int
    tenant: str = DEFAULT_TENANT
    collection: str = DEFAULT_COLLECTION


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a store says of one collection. `passages` is the exact number stored."""

    tenant: str
    collection: str
    embedder: Embedder
    passages: int


@dataclass(frozen=True, slots=True)
class Embedding:
    """One embedded text: `vector` [dimensions], tokens the model saw, tokens cut off by its limit."""

    vector: FloatArray
    token_count: int
    truncated_tokens: int


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of one query's passages, in the given order, and the tokens cut from each pair."""

    score: FloatArray
    truncated_tokens: IntArray


@dataclass(frozen=True, slots=True)
class Classified:
    """Labels of one text with their probabilities, best first."""

    labels: tuple[str, ...]
    score: FloatArray
    truncated_tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one micro-batched run cost: real tokens, padding added, micro-batches run."""

    tokens: int = 0
    pad_tokens: int = 0
    micro_batches: int = 0


@dataclass(frozen=True, slots=True)
class QualityFigures:
    """nDCG@10, MRR@10 and recall@100 in [0, 1] over `queries` queries of the data set `dataset`."""

    dataset: str
    queries: int
    ndcg_at_10: float
    mrr_at_10: float
    recall_at_100: float


@dataclass(frozen=True, slots=True)
class Document:
    """A loaded source before chunking. `whole` keeps it one passage under its own id (BEIR corpora)."""

    id: str
    title: str
    text: str
    source: str
    whole: bool = False
    extra: dict[str, str] = field(default_factory=dict)
