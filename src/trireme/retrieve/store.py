"""The vector store port: put, search, collections, drop, is_ready, and close; checks of all implementations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol, get_args

import numpy as np

from trireme.errors import EmbedderMismatchError, InvalidInputError, NotFoundError
from trireme.metadata import find_fault, read_json
from trireme.retrieve.sparse import check_sparse, check_sparse_rows
from trireme.retrieve.versions import IndexVersions
from trireme.types import (
    MAX_ID_BYTES,
    CollectionInfo,
    Embedder,
    FloatArray,
    Hit,
    Passage,
    SearchMode,
    SparseVector,
    StoreQuery,
)

# A PostgreSQL index entry holds about 2,700 bytes; this and MAX_ID_BYTES keep every key below that.
MAX_NAME_BYTES = 512
MODES: tuple[SearchMode, ...] = get_args(SearchMode)
# What a passage loses of its score before a reranker reads it, when it holds none of the words that the best holds.
LACKING_WORDS = 0.2
# Of the words' largest share. The best product of a query is a whole part however little it says, which words are
# not: with as much as they have, weights took away what words had found. docs/retrieval.md has the figures.
SHARE_OF_WEIGHTS = 0.35


class VectorStore(Protocol):
    """Passages with their embeddings, kept apart by tenant and collection. Safe to use from several threads.

    Every verb but `is_ready` raises UnavailableError when the store's database does not answer, and works
    again on the same object once it does. Names and ids are any text without NUL or lone surrogates.
    """

    def put(
        self,
        tenant: str,
        collection: str,
        embedder: Embedder,
        passages: Sequence[Passage],
        embeddings: FloatArray,
        *,
        sparse: Sequence[SparseVector] | None = None,
    ) -> int:
        """Store `passages` with `embeddings` [n, dimensions], all or none; returns how many ids were written.

        `sparse` are the weights of their terms, one vector each, by the same embedder; one of 0 dimensions needs
        them. Of more than MOST_WEIGHTS weights the heaviest count. An id already in the collection is replaced; of
        one id given twice the last wins. Creates the collection. Raises EmbedderMismatchError when the collection
        holds another embedder's vectors, and InvalidInputError (nothing stored) for text with NUL, metadata that
        is not JSON, or wrong shapes.
        """
        ...

    def search(self, query: StoreQuery) -> list[Hit]:
        """The passages that answer `query` best, best first, ties by id; all that match if fewer than top_k.

        Mode dense orders by cosine similarity, text by the BM25 of the query's words (Robertson and Zaragoza
        2009), sparse by the inner product of the weights, where it is above 0, hybrid by the sum of all of them,
        each in a measure of its own (as Montague and Aslam 2001, "Relevance Score Normalization for Metasearch",
        and Bruch, Gai and Ingber 2023, arXiv:2210.11934, sum scores and not ranks):

            cosine + text_weight * share * spread

        `share` is a passage's coverage, 0 to 1: its BM25 beside that of a passage of average length that holds each
        word of the query once; 0 outside of the text candidates. Where query and collection have sparse weights
        beside vectors, SHARE_OF_WEIGHTS times the product of the weights, as a part of the largest one of the
        query, is added to it. `spread` is the standard deviation of the cosine among all candidates of the query.
        A query that no passage has words of is ordered by cosine. `score` is the cosine in every mode. An embedder
        of 0 dimensions has no vectors: the product of the weights stands in the sum instead of the cosine, and
        `score` is the cosine of the weights.

        Raises NotFoundError for an unknown collection, EmbedderMismatchError for another embedder's query, and
        InvalidInputError where mode and embedder do not fit.
        """
        ...

    def collections(self, tenant: str | None) -> list[CollectionInfo]:
        """What is stored, sorted by tenant and collection; `None` lists every tenant's."""
        ...

    def drop(self, tenant: str, collection: str) -> int:
        """Delete a collection; returns how many passages it held. Raises NotFoundError when it is unknown."""
        ...

    def is_ready(self) -> bool:
        """Whether the store answers now. Never raises, blocks about one second at most."""
        ...

    @property
    def versions(self) -> IndexVersions:
        """The index versions of the same collections, over the same connections."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def check_names(tenant: str, collection: str) -> None:
    """Raises InvalidInputError unless both names can be stored and found again."""
    _check_key("tenant", tenant, MAX_NAME_BYTES)
    _check_key("collection", collection, MAX_NAME_BYTES)


def check_put(
    tenant: str,
    collection: str,
    embedder: Embedder,
    passages: Sequence[Passage],
    embeddings: FloatArray,
    *,
    sparse: Sequence[SparseVector] | None = None,
) -> dict[str, int]:
    """Check one put; returns the row of `embeddings` for each id (the last of equal ids).

    Raises InvalidInputError naming the first passage that cannot be stored.
    """
    check_names(tenant, collection)
    check_vectors(embedder, embeddings, sparse, [f"passage {passage.id!r}" for passage in passages])
    for passage in passages:
        _check_key("passage id", passage.id, MAX_ID_BYTES)
        _check_text(f"text of passage {passage.id!r}", passage.text)
        _check_metadata(passage)
    return {passage.id: row for row, passage in enumerate(passages)}


def check_vectors(
    embedder: Embedder, embeddings: FloatArray, sparse: Sequence[SparseVector] | None, names: Sequence[str]
) -> None:
    """Raises InvalidInputError unless there is one vector of `embedder` for each of `names`, and so of `sparse`."""
    if embedder.dimensions < 0:
        raise InvalidInputError(f"an embedder's dimensions must be at least 0, got {embedder.dimensions}")
    expected = (len(names), embedder.dimensions)
    if embeddings.shape != expected:
        raise InvalidInputError(f"embeddings must have shape {expected}, got {embeddings.shape}")
    if embedder.dimensions and not _have_direction(embeddings):
        raise InvalidInputError("an embedding is all zeros or holds NaN or infinity; embed its passage again")
    check_sparse_rows(sparse, names, embedder.dimensions)


def check_query(query: StoreQuery) -> None:
    """Raises InvalidInputError for a query that no collection can answer."""
    check_names(query.tenant, query.collection)
    if query.top_k < 1:
        raise InvalidInputError(f"top_k must be at least 1, got {query.top_k}")
    if query.embedding.shape != (query.embedder.dimensions,):
        raise InvalidInputError(
            f"the query embedding must have shape ({query.embedder.dimensions},), got {query.embedding.shape}"
        )
    if query.embedder.dimensions and not _have_direction(query.embedding):
        raise InvalidInputError("the query embedding is all zeros or holds NaN or infinity")
    _check_text("query", query.text)
    check_mode(query.mode)
    if query.mode == "text" and not query.text.strip():
        raise InvalidInputError("search_mode text needs the query's text; send it, or choose another mode")
    if query.sparse is not None:
        check_sparse("the query", query.sparse)
    if query.dense_candidates < 1 or query.text_candidates < 1 or not 0 <= query.text_weight < float("inf"):
        raise InvalidInputError("candidates must be at least 1, and text_weight a number of at least 0")
    read_filter(query.filter)


def check_ways(query: StoreQuery, collection_has_sparse: bool) -> None:
    """Raises InvalidInputError where the query lacks what its mode looks for, or the collection does.

    After `check_embedder`: by another embedder both may be there.
    """
    if query.mode == "dense" and not query.embedder.dimensions:
        raise InvalidInputError(
            "search_mode dense needs dense vectors, and this collection's embedder makes sparse weights alone; "
            "choose sparse, text or hybrid"
        )
    needs_sparse = query.mode == "sparse" or (query.mode == "hybrid" and not query.embedder.dimensions)
    if needs_sparse and query.sparse is None:
        raise InvalidInputError(
            f"search_mode {query.mode} needs the query's sparse weights, which an embedder with the output sparse "
            "makes; choose another mode"
        )
    if query.mode == "sparse" and not collection_has_sparse:
        raise InvalidInputError(
            f"collection {query.collection!r} has no sparse weights; choose another search_mode, or run trireme "
            "reindex with an embedder that makes them"
        )


def check_mode(mode: str) -> SearchMode:
    """`mode`, which says what finds passages. Raises InvalidInputError for an unknown one."""
    for known in MODES:
        if mode == known:
            return known
    raise InvalidInputError(f"search_mode must be one of {', '.join(MODES)}, got {mode!r}")


def read_filter(text: str) -> dict[str, Any]:
    """A filter as the object it says; {} for "". Raises InvalidInputError for anything but a JSON object."""
    if not text.strip():
        return {}
    try:
        wanted = read_json(text)
    except ValueError:
        raise InvalidInputError('filter is not JSON; send an object such as {"lang": "en"}') from None
    if not isinstance(wanted, dict):
        raise InvalidInputError('filter must be a JSON object such as {"lang": "en"}')
    if fault := find_fault(wanted):
        raise InvalidInputError(f"the filter {fault}")
    return wanted


def check_embedder(collection: str, stored: Embedder, given: Embedder, model: str = "") -> None:
    """Raises EmbedderMismatchError when `given` is not the embedder whose vectors `collection` holds.

    `model` is the stored embedder's folder, where it is known.
    """
    if stored != given:
        raise EmbedderMismatchError(
            f"collection {collection!r} holds vectors of embedder {_short(stored)}, not of {_short(given)}: "
            "ingest into a new collection, drop this one and ingest again, or run trireme reindex",
            stored.digest,
            model,
        )


def compute_priors(hits: Sequence[Hit]) -> list[float]:
    """What is known of each passage of one query before a reranker reads it: its cosine, less for words it lacks.

    The one that holds most of the query's words keeps its cosine, so that scores mean what they mean without words.
    """
    best = max((hit.coverage for hit in hits), default=0.0)
    return [hit.score - LACKING_WORDS * (best - hit.coverage) for hit in hits]


def raise_unknown(collection: str) -> NoReturn:
    """Raises the NotFoundError of an unknown collection. It names no other collection and no tenant."""
    raise NotFoundError(f"no collection {collection!r}; `trireme collections` lists those that exist")


def _have_direction(vectors: FloatArray) -> bool:
    norms = np.linalg.norm(vectors, axis=-1)
    return bool((np.isfinite(norms) & (norms > 0)).all())


def _short(embedder: Embedder) -> str:
    return f"{embedder.digest[:12]} ({embedder.dimensions} dimensions)"


def _check_key(what: str, value: str, limit: int) -> None:
    _check_text(what, value)
    if not value or len(value.encode()) > limit:
        raise InvalidInputError(f"a {what} must have 1 to {limit} bytes, got {len(value.encode())}")


def _check_text(what: str, value: str) -> None:
    if "\x00" in value:
        raise InvalidInputError(f"the {what} holds a NUL character; remove it")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"the {what} holds a lone surrogate; it must be valid Unicode") from None


def _check_metadata(passage: Passage) -> None:
    _check_text(f"metadata of passage {passage.id!r}", passage.metadata)
    try:
        read_json(passage.metadata)
    except ValueError:
        raise InvalidInputError(f"the metadata of passage {passage.id!r} is not JSON") from None
