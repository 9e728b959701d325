"""An exact store in memory, for tests and for trying things out: nothing outlives the process."""

from __future__ import annotations

import itertools
import json
import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trireme.errors import InvalidInputError
from trireme.retrieve.sparse import keep_heaviest
from trireme.retrieve.store import (
    SHARE_OF_WEIGHTS,
    check_embedder,
    check_names,
    check_put,
    check_query,
    check_vectors,
    check_ways,
    raise_unknown,
    read_filter,
)
from trireme.retrieve.versions import (
    Unembedded,
    check_begin,
    check_storage,
    raise_incomplete,
    raise_no_version,
)
from trireme.retrieve.words import Words, passage_words, query_words
from trireme.types import (
    CollectionInfo,
    Embedder,
    FloatArray,
    Hit,
    IndexState,
    IndexVersion,
    Passage,
    SparseVector,
    StoreQuery,
)

# As PostgreSQL's store has them.
K1, B = 1.2, 0.75
# The commonest of English; PostgreSQL's list is longer.
STOP_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "by",
        "did",
        "for",
        "in",
        "is",
        "it",
        "of",
        "on",
        "or",
        "the",
        "to",
        "with",
    )
)


@dataclass(slots=True)
class _Version:
    number: int
    embedder: Embedder
    model: str
    storage: str
    state: IndexState
    vectors: dict[int, FloatArray] = field(default_factory=dict)
    weights: dict[int, dict[int, float]] = field(default_factory=dict)
    has_sparse: bool = False

    def keep(self, key: int, vector: FloatArray, sparse: SparseVector | None) -> None:
        """Vector and weights of one passage, in place of those it had."""
        self.vectors[key] = np.array(vector, dtype=np.float32)
        self.weights.pop(key, None)
        if sparse is not None:
            self.weights[key] = _weights(sparse)
            self.has_sparse = True


@dataclass(slots=True)
class _Collection:
    versions: dict[int, _Version] = field(default_factory=dict)
    # id -> key and passage; a passage whose text changes gets a new key.
    rows: dict[str, tuple[int, Passage]] = field(default_factory=dict)

    @property
    def active(self) -> _Version:
        return next(version for version in self.versions.values() if version.state == "active")


class MemoryStore:
    """A VectorStore that compares the query with every passage, and its index versions."""

    def __init__(self) -> None:
        self._collections: dict[tuple[str, str], _Collection] = {}
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

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
        """See VectorStore.put. Copies the embeddings."""
        row_of = check_put(tenant, collection, embedder, passages, embeddings, sparse=sparse)
        with self._lock:
            found = self._collections.get((tenant, collection))
            if found is None:
                first = _Version(next(self._numbers), embedder, "", "float32", "active")
                first.has_sparse = embedder.dimensions == 0
                found = self._collections[tenant, collection] = _Collection({first.number: first})
            active = found.active
            check_embedder(collection, active.embedder, embedder)
            for id_, row in row_of.items():
                key, old = found.rows.get(id_, (0, None))
                if old is None or old.text != passages[row].text:
                    for version in found.versions.values():
                        version.vectors.pop(key, None)
                    key = next(self._numbers)
                found.rows[id_] = (key, passages[row])
                active.keep(key, embeddings[row], sparse and sparse[row])
        return len(row_of)

    def search(self, query: StoreQuery) -> list[Hit]:
        """See VectorStore.search."""
        check_query(query)
        with self._lock:
            found = self._collections.get((query.tenant, query.collection))
            if found is None or query.version not in (0, *found.versions):
                raise_unknown(query.collection)
            version = found.versions[query.version] if query.version else found.active
            check_embedder(query.collection, version.embedder, query.embedder, version.model)
            check_ways(query, version.has_sparse)
            rows = [
                (passage, version.vectors[key], version.weights.get(key, {}))
                for key, passage in found.rows.values()
                if key in version.vectors
            ]
        wanted = read_filter(query.filter)
        asked = {} if query.sparse is None else _weights(query.sparse)
        products = {passage.id: _product(asked, weights) for passage, _, weights in rows}
        hits = [
            Hit(passage.id, passage.text, passage.metadata, _score(vector, query.embedding, weights, asked))
            for passage, vector, weights in rows
            if not wanted or _contains(json.loads(passage.metadata), wanted)
        ]
        ranked = _RANKINGS[query.mode](hits, query, [passage for passage, *_ in rows], products)
        return sorted(ranked, key=lambda hit: (-hit.rank_score, hit.id))[: query.top_k]

    def collections(self, tenant: str | None) -> list[CollectionInfo]:
        """See VectorStore.collections."""
        with self._lock:
            return [
                CollectionInfo(
                    owner,
                    name,
                    found.active.embedder,
                    len(found.rows),
                    tuple(_describe(owner, name, version) for version in found.versions.values()),
                )
                for (owner, name), found in sorted(self._collections.items())
                if tenant in (None, owner)
            ]

    def drop(self, tenant: str, collection: str) -> int:
        """See VectorStore.drop."""
        check_names(tenant, collection)
        with self._lock:
            found = self._collections.pop((tenant, collection), None)
        if found is None:
            raise_unknown(collection)
        return len(found.rows)

    @property
    def versions(self) -> MemoryVersions:
        """The index versions of the same collections."""
        return MemoryVersions(self)

    def is_ready(self) -> bool:
        """Always true."""
        return True

    def close(self) -> None:
        """Nothing to free."""


class MemoryVersions:
    """IndexVersions of a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    def begin(
        self, tenant: str, collection: str, embedder: Embedder, model: str, storage: str = ""
    ) -> IndexVersion:
        """See IndexVersions.begin."""
        check_names(tenant, collection)
        if storage:
            check_storage(storage)
        with self._store._lock:
            found = self._store._collections.get((tenant, collection))
            if found is None:
                raise_unknown(collection)
            known = [_describe(tenant, collection, version) for version in found.versions.values()]
            check_begin(collection, embedder, known)
            for version in found.versions.values():
                if version.embedder == embedder and storage in ("", version.storage):
                    version.state, version.model = "building", model
                    return _describe(tenant, collection, version)
            number = next(self._store._numbers)
            made = _Version(number, embedder, model, storage or found.active.storage, "building")
            made.has_sparse = embedder.dimensions == 0
            found.versions[number] = made
            return _describe(tenant, collection, made)

    def missing(self, number: int, limit: int) -> list[Unembedded]:
        """See IndexVersions.missing."""
        with self._store._lock:
            found, version = self._find(number)
            rows = sorted(
                (key, passage.text) for key, passage in found.rows.values() if key not in version.vectors
            )
        return [Unembedded(*row) for row in rows[:limit]]

    def fill(
        self,
        number: int,
        keys: Sequence[int],
        embeddings: FloatArray,
        sparse: Sequence[SparseVector] | None = None,
    ) -> int:
        """See IndexVersions.fill."""
        with self._store._lock:
            found, version = self._find(number)
            check_vectors(version.embedder, embeddings, sparse, [f"passage {key}" for key in keys])
            present = {key for key, _ in found.rows.values()}
            places = [place for place, key in enumerate(keys) if key in present]
            for place in places:
                version.keep(keys[place], embeddings[place], sparse and sparse[place])
            return len(places)

    def switch(self, number: int) -> None:
        """See IndexVersions.switch."""
        with self._store._lock:
            found, version = self._find(number)
            if version.state == "active":
                return
            if left := len(found.rows) - len(version.vectors):
                raise_incomplete(left)
            for other in list(found.versions.values()):
                if other.state == "kept" and other is not version:
                    del found.versions[other.number]
            found.active.state, version.state = "kept", "active"

    def drop(self, number: int) -> None:
        """See IndexVersions.drop."""
        with self._store._lock:
            found, version = self._find(number)
            if version.state == "active":
                raise InvalidInputError("this is the active version; switch to another one first")
            del found.versions[number]

    def _find(self, number: int) -> tuple[_Collection, _Version]:
        for found in self._store._collections.values():
            if number in found.versions:
                return found, found.versions[number]
        raise_no_version(number)


def _describe(tenant: str, collection: str, version: _Version) -> IndexVersion:
    return IndexVersion(
        version.number,
        tenant,
        collection,
        version.embedder,
        version.model,
        version.storage,
        version.state,
        len(version.vectors),
    )


def _cosine(a: FloatArray, b: FloatArray) -> float:
    return float(np.float32(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b))))


def _weights(vector: SparseVector) -> dict[int, float]:
    kept = keep_heaviest(vector)
    return dict(zip(kept.indices.tolist(), kept.weights.tolist(), strict=True))


def _product(a: dict[int, float], b: dict[int, float]) -> float:
    return sum(weight * b[index] for index, weight in a.items() if index in b)


def _score(
    vector: FloatArray, asked: FloatArray, weights: dict[int, float], asked_weights: dict[int, float]
) -> float:
    """The cosine of the vectors, or of the weights where there are no vectors."""
    if vector.size:
        return _cosine(vector, asked)
    scale = math.sqrt(_product(weights, weights) * _product(asked_weights, asked_weights))
    return float(np.float32(_product(weights, asked_weights) / scale)) if scale else 0.0


def _rank_dense(
    hits: list[Hit], query: StoreQuery, corpus: list[Passage], products: dict[str, float]
) -> list[Hit]:
    return [replace(hit, rank_score=hit.score) for hit in hits]


def _rank_text(
    hits: list[Hit], query: StoreQuery, corpus: list[Passage], products: dict[str, float]
) -> list[Hit]:
    """Hits with any of the query's words, by BM25."""
    return _match_words(hits, query, corpus)


def _rank_sparse(
    hits: list[Hit], query: StoreQuery, corpus: list[Passage], products: dict[str, float]
) -> list[Hit]:
    """Hits with any of the query's terms, by the product of the weights."""
    return [replace(hit, rank_score=products[hit.id]) for hit in hits if products[hit.id] > 0]


def _match_words(hits: list[Hit], query: StoreQuery, corpus: list[Passage]) -> list[Hit]:
    """The hits with any of the query's words, with relevance (rank_score) and coverage. See VectorStore.search."""
    held = {passage.id: _count(passage_words(passage.text)) for passage in corpus}
    usual = sum(map(Counter.total, held.values())) / max(1, len(held)) or 1.0
    words = query_words(query.text)
    sought = {*words.plain, *words.exact} - STOP_WORDS
    compounds = set(words.compounds)
    rarity = {}
    for word in sought | compounds:
        passages = sum(word in found for found in held.values())
        rarity[word] = math.log1p((len(held) - passages + 0.5) / (passages + 0.5))
    whole = sum(rarity[word] for word in sought or compounds)
    matches = []
    for hit in hits:
        found = held[hit.id]
        damp = K1 * (1 - B + B * found.total() / usual)
        relevance = sum(
            weight * found[word] * (K1 + 1) / (found[word] + damp) for word, weight in rarity.items()
        )
        if relevance > 0:
            matches.append(replace(hit, rank_score=relevance, coverage=min(1.0, relevance / whole)))
    return matches


def _fuse(hits: list[Hit], query: StoreQuery, corpus: list[Passage], products: dict[str, float]) -> list[Hit]:
    """See VectorStore.search."""
    is_dense = query.embedder.dimensions > 0
    most = {name: max(count, query.top_k) for name, count in _candidates(query).items()}
    near = {hit.id: hit.score if is_dense else products[hit.id] for hit in hits}
    matches = {hit.id: hit for hit in _match_words(hits, query, corpus)}
    words = _best({id_: hit.rank_score for id_, hit in matches.items()}, most["text"])
    weighed = _best({id_: products[id_] for id_ in near if products[id_] > 0}, most["text"])
    found = {*(_best(near, most["dense"]) if is_dense else ()), *words, *weighed}
    spread = float(np.std([near[id_] for id_ in found])) if found else 0.0
    heaviest = max(weighed.values(), default=0.0)
    ranked = []
    for hit in hits:
        if hit.id in found:
            coverage = matches[hit.id].coverage if hit.id in words else 0.0
            share = weighed.get(hit.id, 0.0) / heaviest if heaviest and is_dense else 0.0
            parts = coverage + SHARE_OF_WEIGHTS * share
            score = near[hit.id] + query.text_weight * parts * spread
            ranked.append(replace(hit, rank_score=score, coverage=coverage))
    return ranked


def _candidates(query: StoreQuery) -> dict[str, int]:
    return {"dense": query.dense_candidates, "text": query.text_candidates}


def _best(scores: dict[str, float], count: int) -> dict[str, float]:
    """The best `count`, with ties."""
    least = sorted(scores.values(), reverse=True)[:count]
    return {id_: score for id_, score in scores.items() if score >= least[-1]} if least else {}


_RANKINGS = {"dense": _rank_dense, "text": _rank_text, "sparse": _rank_sparse, "hybrid": _fuse}


def _count(words: Words) -> Counter[str]:
    """How often each word but the commonest occurs, compounds too."""
    every = Counter(words.plain) + words.exact + words.compounds
    return Counter({word: count for word, count in every.items() if word not in STOP_WORDS})


def _contains(value: Any, wanted: Any) -> bool:
    """Whether JSON `value` contains `wanted`, as PostgreSQL's jsonb @> says."""
    if isinstance(wanted, dict):
        return isinstance(value, dict) and all(
            key in value and _contains(value[key], inner) for key, inner in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(value, list) and all(any(_contains(one, w) for one in value) for w in wanted)
    # True is no 1 in JSON.
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)
