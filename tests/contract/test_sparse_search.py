"""Sparse weights in a VectorStore: the fake in memory and the real PostgreSQL must both pass it."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from stores import EMBEDDER, passages, vectors

from trireme.errors import InvalidInputError
from trireme.ingest.documents import Indexed
from trireme.retrieve.sparse import HEAVIEST, MOST_WEIGHTS, SPARSE_DIMENSIONS
from trireme.retrieve.store import SHARE_OF_WEIGHTS
from trireme.storage import open_documents, open_index_builder, open_queue, open_store
from trireme.types import Document, Embedder, Hit, Passage, SparseVector, StoreQuery

# Makes weights alone.
WEIGHER = Embedder("c" * 64, 0)
NO_VECTOR = np.zeros(0, np.float32)


def weights(**of_terms: float) -> SparseVector:
    """Weights by terms: t3=0.5 is 0.5 of term 3."""
    found = sorted((int(name[1:]), weight) for name, weight in of_terms.items())
    indices, values = [index for index, _ in found], [value for _, value in found]
    return SparseVector(np.array(indices, np.int32), np.array(values, np.float32))


# The last term that can be stored is one of them.
LAST = f"t{SPARSE_DIMENSIONS - 1}"
HELD = [
    weights(t1=1.0, t2=0.5),
    weights(t2=2.0),
    weights(t3=1.0),
    weights(**{LAST: 3.0, "t1": 0.1}),
    weights(),
]
ASKED = weights(**{"t1": 2.0, "t2": 1.0, LAST: 0.5})


def ask(store, sparse=ASKED, mode="sparse", embedder=EMBEDDER, top_k=10, **options) -> list[Hit]:
    vector = vectors(1, seed=1)[0] if embedder.dimensions else NO_VECTOR
    return store.search(StoreQuery(vector, embedder, top_k, "t", "c", mode=mode, sparse=sparse, **options))


def put(store, held=HELD, embedder=EMBEDDER, found=None) -> None:
    found = found or passages(len(held))
    embeddings = vectors(len(held)) if embedder.dimensions else np.zeros((len(held), 0), np.float32)
    store.put("t", "c", embedder, found, embeddings, sparse=held)


def ranks(hits: list[Hit]) -> dict[str, float]:
    return {hit.id: hit.rank_score for hit in hits}


def test_passages_with_the_querys_terms_are_ordered_by_the_product_of_the_weights(store):
    put(store)
    hits = ask(store)
    assert ranks(hits) == pytest.approx({"p000": 2.5, "p001": 2.0, "p003": 1.7})
    assert [hit.id for hit in hits] == ["p000", "p001", "p003"]
    cosines = vectors(5) @ vectors(1, seed=1)[0]
    assert [hit.score for hit in hits] == pytest.approx([cosines[0], cosines[1], cosines[3]], abs=1e-6)


def test_equal_products_are_ordered_by_id_and_cut_to_top_k(store):
    put(store, [weights(t1=1.0)] * 6)
    assert [hit.id for hit in ask(store, top_k=3)] == ["p000", "p001", "p002"]


def test_a_query_without_weights_finds_nothing_by_them(store):
    put(store)
    assert ask(store, weights()) == []
    assert [hit.id for hit in ask(store, weights(), "hybrid")] == [
        hit.id for hit in ask(store, None, "dense")
    ]


def test_weights_find_only_what_the_filter_lets_through(store):
    found = [Passage(f"p{n}", "text", f'{{"n": {n}}}') for n in range(len(HELD))]
    put(store, found=found)
    assert [hit.id for hit in ask(store, filter='{"n": 1}')] == ["p1"]


def test_a_passage_put_again_has_the_weights_of_the_last_put_alone(store):
    put(store)
    store.put("t", "c", EMBEDDER, passages(1), vectors(1), sparse=[weights(t3=1.0)])
    assert list(ranks(ask(store))) == ["p001", "p003"]
    store.put("t", "c", EMBEDDER, [passages(2)[1]], vectors(1))
    assert list(ranks(ask(store))) == ["p003"]


def test_of_more_weights_than_an_index_takes_the_heaviest_count(store):
    count = MOST_WEIGHTS + 5
    values = np.arange(1, count + 1, dtype=np.float32)
    put(store, [SparseVector(np.arange(count, dtype=np.int32), values)])
    assert ask(store, weights(t0=1.0)) == []
    assert ranks(ask(store, weights(t5=1.0))) == {"p000": 6.0}


@pytest.mark.parametrize("text", ["nothing of it", "zebra"])
def test_hybrid_adds_the_shares_of_weights_and_words_to_the_cosine_in_units_of_its_spread(store, text):
    put(store, found=[Passage(f"p{n:03d}", "zebra" if n == 4 else "text") for n in range(5)])
    hits = ask(store, mode="hybrid", text_weight=2.0, text=text)
    covered = {hit.id: hit.coverage for hit in hits}
    assert (covered["p004"] > 0) == (text == "zebra")
    cosines = vectors(5) @ vectors(1, seed=1)[0]
    shares = np.array([2.5, 2.0, 0.0, 1.7, 0.0]) / 2.5 * SHARE_OF_WEIGHTS + [
        covered[f"p{n:03d}"] for n in range(5)
    ]
    wanted = cosines + 2.0 * shares * np.std(cosines)
    assert ranks(hits) == pytest.approx({f"p{n:03d}": wanted[n] for n in range(5)}, abs=1e-5)


def test_a_query_without_weights_is_answered_in_hybrid_by_words_though_the_collection_has_weights(store):
    put(store, found=[Passage(f"p{n}", "zebra" if n == 4 else "text") for n in range(5)])
    hits = ask(store, None, "hybrid", text="zebra", text_weight=100.0)
    assert hits[0].id == "p4"
    assert hits[0].coverage > 0


def test_a_collection_of_weights_alone_is_searched_by_them_by_words_and_by_both(store):
    put(store, embedder=WEIGHER, found=[Passage(f"p{n}", "zebra" if n == 2 else "text") for n in range(5)])
    hits = ask(store, embedder=WEIGHER)
    assert ranks(hits) == pytest.approx({"p0": 2.5, "p1": 2.0, "p3": 1.7})
    asked, held = np.array([2.0, 1.0, 0.5]), np.array([1.0, 0.5, 0.0])
    cosine = asked @ held / np.linalg.norm(asked) / np.linalg.norm(held)
    assert hits[0].score == pytest.approx(cosine, abs=1e-6)
    assert [hit.id for hit in ask(store, mode="text", embedder=WEIGHER, text="zebra")] == ["p2"]
    assert [hit.id for hit in ask(store, None, "text", WEIGHER, text="zebra")] == ["p2"]
    both = ask(store, mode="hybrid", embedder=WEIGHER, text="zebra")
    assert {hit.id for hit in both} == {"p0", "p1", "p2", "p3"}
    assert store.collections("t")[0].embedder == WEIGHER


@pytest.mark.parametrize(
    ("embedder", "has_weights", "options", "message"),
    [
        (WEIGHER, True, {"mode": "dense"}, "choose sparse, text or hybrid"),
        (WEIGHER, True, {"mode": "hybrid", "sparse": None}, "needs the query's sparse weights"),
        (EMBEDDER, True, {"mode": "sparse", "sparse": None}, "needs the query's sparse weights"),
        (EMBEDDER, False, {"mode": "sparse"}, "no sparse weights; .* trireme reindex"),
    ],
)
def test_a_mode_that_query_or_collection_cannot_serve_says_what_to_do(
    store, embedder, has_weights, options, message
):
    if has_weights:
        put(store, embedder=embedder)
    else:
        store.put("t", "c", embedder, passages(1), vectors(1))
    with pytest.raises(InvalidInputError, match=message):
        ask(store, embedder=embedder, **options)


def test_an_embedder_of_weights_alone_needs_them(store):
    with pytest.raises(InvalidInputError, match="needs sparse weights for each passage"):
        store.put("t", "c", WEIGHER, passages(2), np.zeros((2, 0), np.float32))


@pytest.mark.parametrize(
    "bad",
    [
        SparseVector(np.array([2, 1], np.int32), np.ones(2, np.float32)),
        SparseVector(np.array([1, 1], np.int32), np.ones(2, np.float32)),
        SparseVector(np.array([-1], np.int32), np.ones(1, np.float32)),
        SparseVector(np.array([SPARSE_DIMENSIONS], np.int32), np.ones(1, np.float32)),
        SparseVector(np.array([1], np.int32), np.zeros(1, np.float32)),
        SparseVector(np.array([1], np.int32), np.array([np.nan], np.float32)),
        SparseVector(np.array([1], np.int32), np.array([np.inf], np.float32)),
        SparseVector(np.array([1], np.int32), np.array([HEAVIEST * 1.1], np.float32)),
        SparseVector(np.array([1, 2], np.int32), np.ones(1, np.float32)),
        SparseVector(np.array([1.0], np.float32), np.ones(1, np.float32)),
    ],
)
def test_weights_that_cannot_be_stored_or_asked_are_refused_and_nothing_is_stored(store, bad):
    with pytest.raises(InvalidInputError, match="p001"):
        put(store, [weights(t1=1.0), bad])
    assert store.collections(None) == []
    put(store)
    with pytest.raises(InvalidInputError, match="the query"):
        ask(store, bad)


def test_the_heaviest_weights_give_numbers(store):
    heavy = SparseVector(np.arange(MOST_WEIGHTS, dtype=np.int32), np.full(MOST_WEIGHTS, HEAVIEST, np.float32))
    put(store, [heavy, weights(t1=1.0)])
    for mode in ("sparse", "hybrid"):
        hits = ask(store, heavy, mode)
        assert hits[0].id == "p000"
        assert np.isfinite([hit.rank_score for hit in hits]).all()


def test_there_must_be_weights_for_each_passage(store):
    with pytest.raises(InvalidInputError, match="2 sparse vectors, got 1"):
        store.put("t", "c", EMBEDDER, passages(2), vectors(2), sparse=[weights(t1=1.0)])


def test_a_version_filled_with_weights_is_searched_by_them_after_the_switch(store):
    store.put("t", "c", EMBEDDER, passages(3), vectors(3))
    version = store.versions.begin("t", "c", WEIGHER, "splade")
    keys = [one.key for one in store.versions.missing(version.number, 10)]
    with pytest.raises(InvalidInputError, match="needs sparse weights"):
        store.versions.fill(version.number, keys, np.zeros((3, 0), np.float32))
    assert store.versions.fill(version.number, keys, np.zeros((3, 0), np.float32), HELD[:3]) == 3
    store.versions.switch(version.number)
    assert ranks(ask(store, embedder=WEIGHER)) == pytest.approx({"p000": 2.5, "p001": 2.0})


def test_a_version_of_weights_alone_of_an_empty_collection_is_searched_by_them(store):
    put(store, HELD[:1])
    store.versions.begin("t", "c", WEIGHER, "splade")
    (info,) = store.collections("t")
    number = max(version.number for version in info.versions)
    query = StoreQuery(NO_VECTOR, WEIGHER, 10, "t", "c", mode="sparse", sparse=ASKED, version=number)
    assert store.search(query) == []


def test_a_tenant_does_not_find_what_has_the_weights_of_another(store):
    put(store)
    store.put("other", "c", EMBEDDER, [Passage("x", "of other")], vectors(1), sparse=[weights(t1=9.0)])
    assert "x" not in ranks(ask(store))
    query = StoreQuery(vectors(1)[0], EMBEDDER, 10, "other", "c", mode="sparse", sparse=ASKED)
    assert ranks(store.search(query)) == {"x": 18.0}
    assert store.search(replace(query, sparse=weights(t7=1.0))) == []


@pytest.mark.e2e
@pytest.mark.parametrize("embedder", [EMBEDDER, WEIGHER], ids=["beside vectors", "alone"])
def test_documents_bring_their_weights_staged_or_not_and_an_index_of_them_is_built(database, embedder):
    found, held = passages(12), [*HELD, *[weights(t9=float(n + 1)) for n in range(7)]]
    embeddings = vectors(12)[:, : embedder.dimensions]
    with (
        closing(open_queue(database.url, 15.0)) as queue,
        closing(open_documents(database.url)) as documents,
        closing(open_index_builder(database.url, 12)) as builder,
        closing(open_store(database.url, exact_below=12)) as store,
    ):
        assert queue.publish("t", "c", [Document("long", "", ("text",), "long", digest="1")])[0].job
        (job,) = queue.take(1)
        documents.stage(job, 0, found[:3], embeddings[:3], embedder, sparse=held[:3])
        rest = Indexed(job, tuple(found[3:]), embeddings[3:], staged=3, sparse=tuple(held[3:]))
        assert documents.replace([rest], embedder, "m3") == [job.id]
        assert builder.build_due() == 1
        assert builder.build_due() == 0
        assert set(index_names(database.url)) == {"sparse"} | ({"hnsw"} if embedder.dimensions else set())
        hits = ask(store, embedder=embedder, mode="sparse")
        assert ranks(hits) == pytest.approx({"p000": 2.5, "p001": 2.0, "p003": 1.7})
        store.drop("t", "c")
        assert index_names(database.url) == []


def index_names(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT split_part(relname, '_', 2) FROM pg_class WHERE relname ~ '^embeddings_[a-z]+_[0-9]+$'"
        )
        return [name for (name,) in rows]
