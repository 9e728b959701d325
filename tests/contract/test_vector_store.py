"""One suite for every VectorStore: the fake in memory and the real PostgreSQL must both pass it."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from trireme.errors import EmbedderMismatchError, InvalidInputError, NotFoundError
from trireme.retrieve.registry import ClosableStore, open_store
from trireme.types import CollectionInfo, Embedder, FloatArray, Hit, Passage, StoreQuery

DIMENSIONS = 8
EMBEDDER = Embedder("a" * 64, DIMENSIONS)
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


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest) -> Iterator[ClosableStore]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("database").url
    opened = open_store(url)
    yield opened
    for info in opened.collections(None):
        opened.drop(info.tenant, info.collection)
    opened.close()


def vectors(count: int, seed: int = 0) -> FloatArray:
    random = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def passages(count: int, prefix: str = "p") -> list[Passage]:
    return [Passage(f"{prefix}{n:03d}", f"text {n} of {prefix}") for n in range(count)]


def search(
    store: ClosableStore,
    embedding: FloatArray,
    top_k: int = 10,
    *,
    tenant: str = "t",
    collection: str = "c",
    embedder: Embedder = EMBEDDER,
) -> list[Hit]:
    return store.search(StoreQuery(embedding, embedder, top_k, tenant, collection))


def ask(store: ClosableStore, embedding: FloatArray, top_k: int = 10, **options: Any) -> list[Hit]:
    return store.search(StoreQuery(embedding, EMBEDDER, top_k, "t", "c", **options))


def counts(store: ClosableStore, tenant: str | None = None) -> dict[tuple[str, str], int]:
    return {(info.tenant, info.collection): info.passages for info in store.collections(tenant)}


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


TEXTS = {
    "trireme": "The trireme had three banks of oars",
    "galley": "A galley is a ship with oars",
    "harbour": "The ship lay in the harbour",
    "market": "Fish is sold at the market",
}


def put_texts(store: ClosableStore) -> FloatArray:
    """The four texts, by vectors along the axes; returns the vectors."""
    embeddings = np.eye(len(TEXTS), DIMENSIONS, dtype=np.float32)
    store.put("t", "c", EMBEDDER, [Passage(*item) for item in TEXTS.items()], embeddings)
    return embeddings


def leaning(*axes: int) -> FloatArray:
    """A query nearest to the first axis, then to the second, ..."""
    vector = np.zeros(DIMENSIONS, np.float32)
    for place, axis in enumerate(axes):
        vector[axis] = 1.0 - 0.2 * place
    return vector / np.linalg.norm(vector)


def test_mode_text_finds_any_of_the_words_and_weighs_rare_ones_more(store):
    put_texts(store)
    found = ask(store, leaning(3), text="Did the trireme carry a ship with oars?", mode="text")
    assert {hit.id for hit in found} == {"trireme", "galley", "harbour"}
    assert found[-1].id == "harbour"
    assert found[0].rank_score > found[1].rank_score > found[2].rank_score > 0
    by_rarity = ask(store, leaning(3), text="market oars", mode="text")
    assert by_rarity[0].id == "market"


def test_the_score_is_the_cosine_also_of_what_only_words_found(store):
    put_texts(store)
    for mode in ("text", "hybrid"):
        found = {hit.id: hit for hit in ask(store, leaning(3, 2), text="oars trireme", mode=mode)}
        assert found["trireme"].score == pytest.approx(0.0, abs=1e-6)
        if mode == "hybrid":
            assert found["market"].score == pytest.approx(float(leaning(3, 2)[3]), abs=1e-6)


def test_words_that_no_passage_holds_find_nothing(store):
    put_texts(store)
    assert ask(store, leaning(0), text="zeppelin", mode="text") == []
    assert ask(store, leaning(0), text="?!", mode="text") == []
    assert len(ask(store, leaning(0), text="zeppelin", mode="hybrid")) == 4


@pytest.mark.parametrize("text", ["'; DROP TABLE x; --", "a & b | !c", "\\ '' \\' :* <->", "日本語", "%s {}"])
def test_no_text_of_a_query_is_syntax(store, text):
    put_texts(store)
    store.put("t", "c", EMBEDDER, [Passage("hostile", "' \\ & market")], leaning(4)[None])
    assert len(ask(store, leaning(0), text=text, mode="hybrid")) == 5
    assert ask(store, leaning(0), text=text + " market", mode="text")


def test_hybrid_fuses_both_ranks_by_their_reciprocals(store):
    put_texts(store)
    near = leaning(0, 1, 2)
    found = ask(store, near, mode="hybrid", text="harbour", text_weight=0.5)
    distances = 1 - near
    wanted = {
        "trireme": 1 / 61,
        "galley": 1 / 62,
        "harbour": 1 / 63 + 0.5 * (distances[0] / distances[2]) ** 2 / 61,
        "market": 1 / 64,
    }
    assert {hit.id: hit.rank_score for hit in found} == pytest.approx(wanted)
    assert [hit.id for hit in found] == ["harbour", "trireme", "galley", "market"]
    alone = ask(store, near, mode="hybrid", text="harbour", text_weight=0.0)
    assert [hit.id for hit in alone] == ["trireme", "galley", "harbour", "market"]


def test_words_count_less_where_the_vectors_are_sure(store):
    put_texts(store)
    sure = leaning(0) + 0.01 * leaning(2)
    found = ask(store, sure, mode="hybrid", text="harbour", text_weight=1.0)
    assert [hit.id for hit in found][:2] == ["trireme", "harbour"]


def test_a_passage_that_holds_all_words_gains_more_than_one_with_a_few(store):
    put_texts(store)
    unsure = leaning(3, 2, 1, 0)
    gained = {
        hit.id: hit.rank_score - ask(store, unsure, mode="hybrid", text_weight=0.0)[place].rank_score
        for place, hit in enumerate(
            sorted(
                ask(store, unsure, mode="hybrid", text="trireme galley oars ship"), key=lambda hit: -hit.score
            )
        )
    }
    assert gained["galley"] > gained["harbour"] > gained["market"] == pytest.approx(0, abs=1e-12)


def test_a_passage_that_only_words_found_ranks_as_the_next_after_the_vectors(store):
    put_texts(store)
    near = leaning(3, 1)
    options = {"mode": "hybrid", "text": "harbour", "dense_candidates": 1, "text_candidates": 1}
    found = ask(store, near, 1, text_weight=0.0, **options)
    assert [(hit.id, hit.rank_score) for hit in found] == [("market", pytest.approx(1 / 61))]
    found = ask(store, near, 1, text_weight=3.0, **options)
    wanted = 1 / 62 + 3.0 * (1 - near[3]) ** 2 / 61
    assert [(hit.id, hit.rank_score) for hit in found] == [("harbour", pytest.approx(wanted))]


def test_mode_text_without_a_text_is_refused(store):
    put_texts(store)
    with pytest.raises(InvalidInputError, match="text"):
        ask(store, leaning(0), mode="text")
    with pytest.raises(InvalidInputError, match="NUL"):
        ask(store, leaning(0), mode="hybrid", text="a\x00b")
    with pytest.raises(InvalidInputError, match="mode"):
        ask(store, leaning(0), mode="sparse")


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("the cafe\u0301 at the quay", "caf\u00e9"),
        ("the caf\u00e9 at the quay", "cafe\u0301"),
        ("the caf\u00e9 at the quay", "cafe"),
        ("the cafe at the quay", "CAF\u00c9"),
        ("the o\ufb03ce of the pilot", "office"),
        ("the office of the pilot", "o\ufb03ce"),
        ("the har\u00adbour is deep", "harbour"),
        ("the harbour is deep", "har\u00adbour"),
        ("the har\u200bbour is deep", "harbour"),
        ("the harbour is deep", "har\u200b\u2060bour"),
        ("\uff28\uff21\uff32\uff22\uff2f\uff35\uff32", "harbour"),
        ("twelve\u00a0knots", "knots"),
        ("a non\u2011breaking hyphen", "non-breaking"),
        ("a client/server system", "server"),
        ("a server for a client", "client/server"),
        ("it is in config/settings.toml", "settings.toml"),
        ("it is in settings.toml", "config/settings.toml"),
        ("it is in config/settings.toml", "settings"),
        ("see https://docs.example.org/tides/neap.html?x=1", "neap"),
        ("see https://docs.example.org/tides/neap.html?x=1", "docs.example.org"),
        ("set max_model_len higher", "model"),
        (r"in C:\\ships\\log.txt", "log.txt"),
        ("by bob.smith@example.org", "smith"),
        ("needs version 2.51.0", "2.51.0"),
        ("needs version 2.51", "51"),
        ("written in C++", "C++"),
        ("send an e-mail", "email"),
        ("send an email", "e-mail"),
        ("port in the U.S.A.", "USA"),
        ("\u6e2f\u53e3\u5728\u591c\u95f4\u5173\u95ed", "\u591c\u95f4"),
        ("\u6e2f\u53e3\u5728\u591c\u95f4\u5173\u95ed", "\u6e2f"),
        ("\uff7b\uff70\uff8a\uff9e\uff70\u306f\u591c\u306b\u9589\u307e\u308b", "\u30b5\u30fc\u30d0\u30fc"),
        ("ท่าเรือปิดตอนกลางคืน", "กลางคืน"),
        ("កំពង់ផែបិទនៅពេលយប់", "ពេលយប់"),
        ("항구는 밤에 닫힌다", "항구"),
        ("बंदरगाह रात में बंद होता है", "बंदरगाह"),
        ("Гавань закрыта", "ГАВАНЬ"),
        ("ΟΔΥΣΣΕΥΣ", "Οδυσσεύς"),
        ("Straße", "STRASSE"),
        ("İstanbul", "istanbul"),
    ],
)
def test_words_are_found_however_they_are_written(store, text, query):
    rows = [Passage("wanted", text), Passage("other", "nothing of that kind")]
    store.put("t", "c", EMBEDDER, rows, vectors(2))
    found = ask(store, vectors(1)[0], text=query, mode="text")
    assert [(hit.id, hit.text) for hit in found] == [("wanted", text)]


def test_a_compound_written_in_the_same_way_ranks_above_its_parts(store):
    texts = ["a client and a server", "a client/server system", "a server alone"]
    store.put("t", "c", EMBEDDER, [Passage(f"{n}", text) for n, text in enumerate(texts)], vectors(3))
    found = ask(store, vectors(1)[0], text="client/server", mode="text")
    assert [hit.id for hit in found] == ["1", "0", "2"]


def test_a_passage_with_all_parts_of_a_compound_lacks_no_word_of_the_query(store):
    put_texts(store)
    options = {"mode": "hybrid", "text_weight": 1.0}
    parts, compound = (ask(store, leaning(0), text=text, **options) for text in ("ship oars", "ship/oars"))
    assert [hit.rank_score for hit in parts] == pytest.approx([hit.rank_score for hit in compound])


METADATA = [
    '{"lang": "en", "year": 2024, "tags": ["a", "b"], "page": {"n": 1, "of": 9}}',
    '{"lang": "de", "year": 2024, "tags": ["b"], "page": {"n": 2, "of": 9}}',
    '{"lang": "en", "year": 2025.0, "tags": [], "ok": true}',
    '"not an object"',
    '{"lang": "en", "broken": "\\u0000"}',
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ('{"lang": "en"}', {0, 2, 4}),
        ('{"lang": "en", "year": 2024}', {0}),
        ('{"year": 2025}', {2}),
        ('{"tags": ["b"]}', {0, 1}),
        ('{"tags": ["b", "a"]}', {0}),
        ('{"page": {"of": 9}}', {0, 1}),
        ('{"ok": 1}', set()),
        ('{"lang": "fr"}', set()),
        ("{}", {0, 1, 2, 3, 4}),
        ("", {0, 1, 2, 3, 4}),
    ],
)
@pytest.mark.parametrize("mode", ["dense", "text", "hybrid"])
def test_a_filter_keeps_the_passages_whose_metadata_contains_it(store, wanted, expected, mode):
    rows = [Passage(f"{n}", "the same words", text) for n, text in enumerate(METADATA)]
    store.put("t", "c", EMBEDDER, rows, vectors(len(rows)))
    found = {int(hit.id) for hit in ask(store, vectors(1)[0], filter=wanted, mode=mode, text="words")}
    # PostgreSQL cannot read what holds a NUL character, so no filter finds it.
    assert found - {4} == expected - {4}


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"a/b.c": {"d e": [1, {"f": None}]}}, '{"a/b.c": {"d e": [{"f": null}]}}'),
        ({"": "", "'; --": "\\u0000"}, '{"": "", "\'; --": "\\\\u0000"}'),
        ({"n": 12345678901234567890123}, '{"n": 12345678901234567890123}'),
        ({"n": 3.141592653589793}, '{"n": 3.14159265358979323846}'),
        ({"n": 1e300, "m": 5e-324, "z": -0.0}, '{"n": 1e300, "m": 5e-324, "z": 0}'),
        ({"n": "7"}, '{"n": "7"}'),
        ({"caf\u00e9": 1}, '{"caf\\u00e9": 1}'),
        ({"x": "\U0001f6a2"}, '{"x": "\\ud83d\\udea2"}'),
        ({"n": 2}, '{"n": 1, "n": 2}'),
    ],
)
def test_a_filter_finds_keys_and_values_of_every_kind(store, metadata, wanted):
    rows = [
        Passage("wanted", "text", json.dumps(metadata)),
        Passage("other", "text", '{"n": 7, "caf\u0065": 1}'),
    ]
    store.put("t", "c", EMBEDDER, rows, vectors(2))
    assert [hit.id for hit in ask(store, vectors(1)[0], filter=wanted)] == ["wanted"]


@pytest.mark.parametrize("wanted", ['{"a": 1e400}', '{"a": "\\ud800"}', '{"a":' * 200 + "1" + "}" * 200])
def test_a_filter_that_no_metadata_can_agree_with_is_refused_with_its_reason(store, wanted):
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    with pytest.raises(InvalidInputError, match="filter"):
        ask(store, vectors(1)[0], filter=wanted)


@pytest.mark.parametrize("wanted", ["{", "[]", "1", '"x"', '{"a": NaN}', '{"a": "\\u0000"}', "[" * 100_000])
def test_a_filter_that_is_no_json_object_is_refused(store, wanted):
    store.put("t", "c", EMBEDDER, passages(1), vectors(1))
    with pytest.raises(InvalidInputError, match="filter"):
        ask(store, vectors(1)[0], filter=wanted)
