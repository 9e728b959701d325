"""The frozen dataclasses that cross boundaries. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
InputType = Literal["query", "passage"]
SearchMode = Literal["dense", "text", "sparse", "hybrid"]
# What becomes of a text that is longer than a model reads: an error, its beginning alone, or windows of it.
OverLength = Literal["error", "truncate", "split"]
EncoderOutput = Literal["dense", "sparse", "multi"]
IndexState = Literal["active", "building", "kept"]

# Of a document or passage. A PostgreSQL index entry holds about 2,700 bytes, with the names of its scope.
MAX_ID_BYTES = 2048
DEFAULT_TENANT = "default"
DEFAULT_COLLECTION = "default"


@dataclass(frozen=True, slots=True)
class Embedder:
    """Which model made a vector: `digest` (sha256 hex, from the model's manifest) and its length.

    `dimensions` is 0 of a model that makes sparse weights alone: its vectors are [n, 0].
    """

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
    """A passage found for a query, with its score (cosine similarity in [-1, 1] from a store).

    `rank_score` is what a store ordered its hits by: the cosine, the relevance of the words, the product of the
    sparse weights, or the fused one. `coverage`, 0 to 1, is how much of the query's words it holds, by their
    rarity; 0 where none were looked for.
    """

    id: str
    text: str
    metadata: str
    score: float
    rank_score: float = 0.0
    coverage: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreQuery:
    """A query: `embedding` is [dimensions] float32 of unit length, `top_k` >= 1, `text` the query's words.

    `sparse` are the weights of its terms by the same embedder. `mode` says what finds passages: their vectors
    (dense), their words (text), their sparse weights (sparse), or all of it (hybrid), from so many candidates
    each; a passage with all words gains `text_weight` times the cosine's spread among them. `filter` is
    a JSON object that a passage's metadata must contain; "" lets all through. `version` is the number of the
    index version to search, 0 for the active one.
    """

    embedding: FloatArray
    embedder: Embedder
    top_k: int
    tenant: str = DEFAULT_TENANT
    collection: str = DEFAULT_COLLECTION
    text: str = ""
    filter: str = ""
    mode: SearchMode = "dense"
    text_weight: float = 5.0
    dense_candidates: int = 100
    text_candidates: int = 100
    version: int = 0
    sparse: SparseVector | None = None


@dataclass(frozen=True, slots=True)
class IndexVersion:
    """The vectors of a collection by one embedder: `vectors` of them, in `storage` (float32, float16, binary).

    Searches use the `active` one; a `building` one is not complete yet, a `kept` one was active before.
    `model` is the folder of the embedder, "" where nobody has said. `number` is the store's own.
    """

    number: int
    tenant: str
    collection: str
    embedder: Embedder
    model: str
    storage: str
    state: IndexState
    vectors: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a store says of one collection: its active embedder, and the exact number of passages stored."""

    tenant: str
    collection: str
    embedder: Embedder
    passages: int
    versions: tuple[IndexVersion, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Weights of words: `indices` [n] int32, token ids, ascending; `weights` [n] float32, above 0. n may be 0."""

    indices: IntArray
    weights: FloatArray


@dataclass(frozen=True, slots=True)
class Embedding:
    """One embedded text: `vector` [dimensions], tokens the model saw, tokens cut off by its limit.

    `vector` is [0] of a model without one. `sparse` and `token_vectors` [n, D] of unit length are there where the
    model has them and they were asked for.
    """

    vector: FloatArray
    token_count: int
    truncated_tokens: int
    sparse: SparseVector | None = None
    token_vectors: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What becomes of the tokens of a text in a model that weighs words or gives each token a vector.

    vector_size: numbers of a token's vector, 0 where there are none. unweighted: tokens that are no words, such as
    [CLS]. skips_first: the first token has no vector; query_skips, passage_skips: tokens that have none there.
    query_length, passage_length: tokens read of each, special ones included; 0 is what the model reads.
    expansion_length: a query is filled up to so many tokens with expansion_token, whose vectors count; 0: it is
    not. expansion_attends: the query's own tokens see those.
    """

    vector_size: int = 0
    unweighted: tuple[int, ...] = ()
    skips_first: bool = False
    query_skips: tuple[int, ...] = ()
    passage_skips: tuple[int, ...] = ()
    query_length: int = 0
    passage_length: int = 0
    expansion_length: int = 0
    expansion_token: int = 0
    expansion_attends: bool = False


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
    """What runs cost: real tokens, padding added, micro-batches run."""

    tokens: int = 0
    pad_tokens: int = 0
    micro_batches: int = 0

    def __add__(self, other: BatchStats) -> BatchStats:
        """Both together."""
        return BatchStats(
            self.tokens + other.tokens,
            self.pad_tokens + other.pad_tokens,
            self.micro_batches + other.micro_batches,
        )


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
    """A document before it is cut into passages.

    Its text is what `parts` gives, joined: a tuple of one text, or an iterator that is read once and may
    raise DocumentError in the middle; parts may end anywhere. `whole` keeps it one passage under its own id
    (BEIR corpora). `extra` is JSON for the metadata of its passages. `digest` (hex) changes when the passages
    would; empty if nobody asked.
    """

    id: str
    title: str
    parts: Iterable[str]
    source: str
    whole: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""

    @property
    def text(self) -> str:
        """The parts joined. Reads an iterator to its end."""
        return "".join(self.parts)
