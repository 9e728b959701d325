"""One suite for every VectorStore: the fake in memory and the real PostgreSQL must both pass it."""

import json
import threading

import numpy as np
import pytest
from stores import DIMENSIONS, EMBEDDER, counts, passages, search, vectors

from trireme.errors import EmbedderMismatchError, InvalidInputError, NotFoundError
from trireme.types import CollectionInfo, Embedder, Passage

OTHER = Embedder("b" * 64, DIMENSIONS)
HOSTILE = "'; DROP TABLE trireme.passages; --"

# Names that a reader takes for one: by case, form, width, invisible signs, spaces, and letters of other scripts.
ALIKE = [
    "caf\u00e9",
    "cafe\u0301",
    "cafe",
    "Caf\u00e9",
    "CAF\u00c9",
    "caf\u00e9 ",
    " caf\u00e9",
    "caf\u00e9\n",
    "ca\u200bf\u00e9",
    "\u0441af\u00e9",
    "\uff43\uff41\uff46\u00e9",
    "\u202ecaf\u00e9",
    "'caf\u00e9'",
    "caf\u00e9\x01",
    "caf%C3%A9",
]


def test_the_nearest_passages_come_best_first_with_their_cosine(store):
    embeddings = vectors(50)
    assert store.put("t", "c", EMBEDDER, passages(50), embeddings) == 50
    query = vectors(1, seed=1)[0]
    hits = search(store, query, 5)
    cosines = embeddings @ query
    assert [hit.id for hit in hits] == [f"p{n:03d}" for n in np.argsort(-cosines)[:5]]
    assert [hit.score for hit in hits] == pytest.approx(np.sort(cosines)[::-1][:5], abs=1e-6)
    assert all(np.float32(hit.score) == hit.score for hit in hits)


def test_scores_are_cosines_even_of_vectors_that_are_not_unit_length(store):
    store.put("t", "c", EMBEDDER, passages(1), 7 * vectors(1))
    assert search(store, vectors(1)[0])[0].score == pytest.approx(1.0, abs=1e-6)


def test_an_id_put_again_is_replaced_and_counted_once(store):
    store.put("t", "c", EMBEDDER, passages(3), vectors(3))
    changed = Passage("p001", "new text", '{"a": 1}')
    moved = vectors(1, seed=9)
    assert store.put("t", "c", EMBEDDER, [changed], moved) == 1
    best = search(store, moved[0], 1)[0]
    assert (best.id, best.text, json.loads(best.metadata)) == ("p001", "new text", {"a": 1})
    assert counts(store) == {("t", "c"): 3}


def test_of_one_id_given_twice_the_last_wins(store):
    assert store.put("t", "c", EMBEDDER, [Passage("x", "first"), Passage("x", "last")], vectors(2)) == 1
    assert [hit.text for hit in search(store, vectors(2)[1])] == ["last"]
    assert counts(store) == {("t", "c"): 1}


def test_an_empty_put_makes_an_empty_collection(store):
    assert store.put("t", "c", EMBEDDER, [], np.zeros((0, DIMENSIONS), np.float32)) == 0
    assert counts(store) == {("t", "c"): 0}
    assert search(store, vectors(1)[0]) == []


@pytest.mark.parametrize(
    "bad",
    [
        Passage("bad", "nul \x00"),
        Passage("bad\x00", "text"),
        Passage("bad", "surrogate \ud800"),
        Passage("", "text"),
        Passage("i" * 3000, "text"),
        Passage("bad", "text", "{not json"),
        Passage("bad", "text", '{"a": NaN}'),
        Passage("bad", "text", ""),
        Passage("bad", "text", "[" * 100_000),
    ],
    ids=lambda passage: ascii(passage.id[:5] + passage.text[:9] + passage.metadata[:9]),
)
def test_a_passage_that_cannot_be_stored_is_named_and_nothing_of_its_batch_is_stored(store, bad):
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    batch = [Passage("good", "text"), bad]
    with pytest.raises(InvalidInputError):
        store.put("t", "c", EMBEDDER, batch, vectors(2))
    assert counts(store) == {("t", "c"): 1}
    assert store.put("t", "c", EMBEDDER, batch[:1], vectors(1)) == 1


@pytest.mark.parametrize("name", ["", "a\x00b", "\ud800", "n" * 513])
def test_a_name_that_cannot_be_stored_is_refused(store, name):
    for tenant, collection in ((name, "c"), ("t", name)):
        with pytest.raises(InvalidInputError):
            store.put(tenant, collection, EMBEDDER, passages(1), vectors(1))
        with pytest.raises(InvalidInputError):
            search(store, vectors(1)[0], tenant=tenant, collection=collection)
        with pytest.raises(InvalidInputError):
            store.drop(tenant, collection)
    assert counts(store) == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_embedding_without_a_direction_is_refused(store, value):
    bad = np.full((1, DIMENSIONS), value, np.float32)
    with pytest.raises(InvalidInputError):
        store.put("t", "c", EMBEDDER, passages(1), bad)
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    with pytest.raises(InvalidInputError):
        search(store, bad[0])


@pytest.mark.parametrize("shape", [(1, DIMENSIONS), (2, DIMENSIONS + 1), (2,)])
def test_embeddings_of_a_wrong_shape_are_refused(store, shape):
    with pytest.raises(InvalidInputError, match="shape"):
        store.put("t", "c", EMBEDDER, passages(2), np.ones(shape, np.float32))


def test_top_k_above_the_collection_gives_all_of_it(store):
    store.put("t", "c", EMBEDDER, passages(3), vectors(3))
    assert len(search(store, vectors(1)[0], 10**9)) == 3


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_below_one_is_refused(store, top_k):
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    with pytest.raises(InvalidInputError, match="top_k"):
        search(store, vectors(1)[0], top_k)


def test_equal_scores_are_ordered_by_id(store):
    same = np.repeat(vectors(1), 6, axis=0)
    ids = ["b", "a", "Z", "é", "a1", "10"]
    store.put("t", "c", EMBEDDER, [Passage(i, "same") for i in ids], same)
    assert [hit.id for hit in search(store, same[0])] == sorted(ids)
    assert [hit.id for hit in search(store, same[0], 3)] == sorted(ids)[:3]


def test_tenants_with_the_same_ids_do_not_see_each_other(store):
    store.put("one", "c", EMBEDDER, [Passage("x", "of one")], vectors(1))
    store.put("two", "c", EMBEDDER, [Passage("x", "of two")], vectors(1))
    assert [hit.text for hit in search(store, vectors(1)[0], tenant="one")] == ["of one"]
    assert [hit.text for hit in search(store, vectors(1)[0], tenant="two")] == ["of two"]
    assert counts(store, "one") == {("one", "c"): 1}
    store.drop("one", "c")
    assert [hit.text for hit in search(store, vectors(1)[0], tenant="two")] == ["of two"]


def test_names_and_ids_that_look_alike_are_never_one(store):
    for name in ALIKE:
        store.put(name, "c", EMBEDDER, [Passage("x", f"of {name}")], vectors(1))
        store.put("t", name, EMBEDDER, [Passage("x", f"in {name}")], vectors(1))
    store.put("t", "c", EMBEDDER, [Passage(name, f"is {name}") for name in ALIKE], vectors(len(ALIKE)))
    for name in ALIKE:
        assert [hit.text for hit in search(store, vectors(1)[0], tenant=name)] == [f"of {name}"]
        assert [hit.text for hit in search(store, vectors(1)[0], collection=name)] == [f"in {name}"]
        assert counts(store, name) == {(name, "c"): 1}
    found = {hit.id: hit.text for hit in search(store, vectors(1)[0], 100)}
    assert found == {name: f"is {name}" for name in ALIKE}
    store.drop(ALIKE[0], "c")
    assert len(counts(store)) == 2 * len(ALIKE)


def test_collections_of_one_tenant_are_apart(store):
    store.put("t", "a", EMBEDDER, passages(2, "a"), vectors(2))
    store.put("t", "b", OTHER, passages(3, "b"), vectors(3))
    assert {hit.id for hit in search(store, vectors(1)[0], collection="a")} == {"a000", "a001"}
    assert store.collections("t") == [
        CollectionInfo("t", "a", EMBEDDER, 2),
        CollectionInfo("t", "b", OTHER, 3),
    ]


def test_an_unknown_collection_is_named_together_with_the_command_that_lists_them(store):
    store.put("secret-tenant", "c", EMBEDDER, passages(1), vectors(1))
    with pytest.raises(NotFoundError, match=r"'missing'.*trireme collections") as caught:
        search(store, vectors(1)[0], tenant="secret-tenant", collection="missing")
    assert "secret-tenant" not in str(caught.value)
    with pytest.raises(NotFoundError, match="'c'"):
        search(store, vectors(1)[0], tenant="t", collection="c")
    with pytest.raises(NotFoundError, match="'missing'"):
        store.drop("t", "missing")


@pytest.mark.parametrize("other", [OTHER, Embedder(EMBEDDER.digest, DIMENSIONS // 2)])
def test_another_embedder_is_refused_with_both_digests(store, other):
    store.put("t", "c", EMBEDDER, passages(2), vectors(2))
    with pytest.raises(EmbedderMismatchError, match=other.digest[:12]) as caught:
        store.put("t", "c", other, passages(1, "new"), vectors(1)[:, : other.dimensions])
    assert EMBEDDER.digest[:12] in str(caught.value)
    assert "new collection" in str(caught.value)
    with pytest.raises(EmbedderMismatchError):
        search(store, vectors(1)[0, : other.dimensions], embedder=other)
    assert counts(store) == {("t", "c"): 2}


def test_sql_in_names_ids_and_texts_is_stored_and_found_literally(store):
    metadata = json.dumps({HOSTILE: HOSTILE})
    store.put(HOSTILE, HOSTILE, EMBEDDER, [Passage(HOSTILE, HOSTILE, metadata)], vectors(1))
    found = search(store, vectors(1)[0], tenant=HOSTILE, collection=HOSTILE)
    assert [(hit.id, hit.text, hit.metadata) for hit in found] == [(HOSTILE, HOSTILE, metadata)]
    assert counts(store, HOSTILE) == {(HOSTILE, HOSTILE): 1}
    assert counts(store, "' OR '1'='1") == {}
    assert store.drop(HOSTILE, HOSTILE) == 1


@pytest.mark.parametrize(
    "text", ["", "日本語 🙂 ñ é", "\u202e\ufeff\x01\x7f\n\t\\%s %(q)s {}", "x" * 300_000]
)
def test_any_text_comes_back_as_it_was(store, text):
    store.put("t", "c", EMBEDDER, [Passage("x", text)], vectors(1))
    assert search(store, vectors(1)[0])[0].text == text


@pytest.mark.parametrize("metadata", ["{}", '{"b":1,  "a": [null, 1.50]}', '"\\u00e9"', '{"k": "\\u0000"}'])
def test_metadata_comes_back_letter_by_letter(store, metadata):
    store.put("t", "c", EMBEDDER, [Passage("x", "text", metadata)], vectors(1))
    assert search(store, vectors(1)[0])[0].metadata == metadata


def test_a_dropped_collection_is_gone_and_can_be_made_anew_by_another_embedder(store):
    store.put("t", "c", EMBEDDER, passages(4), vectors(4))
    assert store.drop("t", "c") == 4
    assert store.collections(None) == []
    with pytest.raises(NotFoundError):
        search(store, vectors(1)[0])
    store.put("t", "c", OTHER, passages(1), vectors(1))
    assert counts(store) == {("t", "c"): 1}


def test_counts_are_exact_after_concurrent_puts_of_the_same_ids(store):
    failures: list[BaseException] = []

    def work(number: int) -> None:
        order = np.random.default_rng(number).permutation(20)
        try:
            for _ in range(5):
                batch = [passages(20)[n] for n in order] + passages(2, f"own{number}-")
                store.put("t", "c", EMBEDDER, batch, vectors(22, seed=number))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert counts(store) == {("t", "c"): 20 + 6 * 2}
    assert len(search(store, vectors(1)[0], 100)) == 32


def test_the_store_keeps_its_own_copy_of_the_embeddings(store):
    embeddings = vectors(2)
    store.put("t", "c", EMBEDDER, passages(2), embeddings)
    embeddings[:] = 1.0
    assert search(store, vectors(2)[1], 1)[0].id == "p001"


def test_is_ready(store):
    assert store.is_ready()
