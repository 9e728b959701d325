"""Words, hybrid search and filters, for every VectorStore."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from stores import DIMENSIONS, EMBEDDER, ask, passages, vectors

from trireme.errors import InvalidInputError
from trireme.storage import VectorStore
from trireme.types import FloatArray, Passage

TEXTS = {
    "trireme": "The trireme had three banks of oars",
    "galley": "A galley is a ship with oars",
    "harbour": "The ship lay in the harbour",
    "market": "Fish is sold at the market",
}


def put_texts(store: VectorStore) -> FloatArray:
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


def test_of_passages_with_the_same_words_the_first_ids_are_found(store):
    names = ["e", "d", "c", "b", "a"]
    store.put("t", "c", EMBEDDER, [Passage(name, "mast and rope") for name in names], vectors(5))
    assert [hit.id for hit in ask(store, leaning(0), text="mast", mode="text", top_k=2)] == ["a", "b"]


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


def test_hybrid_adds_the_words_in_units_of_the_spread_of_the_cosines(store):
    put_texts(store)
    near = leaning(0, 1, 2)
    found = ask(store, near, mode="hybrid", text="harbour", text_weight=1.0)
    spread = np.std(near[:4])
    assert {hit.id: hit.coverage for hit in found if hit.coverage} == {"harbour": pytest.approx(1, abs=0.1)}
    wanted = {hit.id: hit.score + hit.coverage * spread for hit in found}
    assert {hit.id: hit.rank_score for hit in found} == pytest.approx(wanted)
    assert [hit.id for hit in found] == ["trireme", "harbour", "galley", "market"]
    alone = ask(store, near, mode="hybrid", text="harbour", text_weight=0.0)
    assert [hit.id for hit in alone] == ["trireme", "galley", "harbour", "market"]
    assert [hit.rank_score for hit in alone] == pytest.approx([hit.score for hit in alone])


def test_words_count_less_where_the_vectors_are_sure(store):
    put_texts(store)
    sure = leaning(0) + 0.01 * leaning(2)
    found = ask(store, sure, mode="hybrid", text="harbour", text_weight=1.0)
    assert [hit.id for hit in found][:2] == ["trireme", "harbour"]
    found = ask(store, sure, mode="hybrid", text="harbour", text_weight=9.0)
    assert [hit.id for hit in found][:2] == ["harbour", "trireme"]


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


def test_a_passage_that_only_words_found_keeps_its_cosine(store):
    put_texts(store)
    near = leaning(3, 1)
    options = {"mode": "hybrid", "text": "harbour", "dense_candidates": 1, "text_candidates": 1}
    found = ask(store, near, 1, text_weight=0.0, **options)
    assert [(hit.id, hit.rank_score) for hit in found] == [("market", pytest.approx(near[3]))]
    (found,) = ask(store, near, 1, text_weight=9.0, **options)
    # The two candidates' cosines lie half of their difference from their mean.
    assert (found.id, found.score) == ("harbour", pytest.approx(0, abs=1e-6))
    assert found.rank_score == pytest.approx(9.0 * found.coverage * near[3] / 2)


def test_mode_text_without_a_text_is_refused(store):
    put_texts(store)
    with pytest.raises(InvalidInputError, match="text"):
        ask(store, leaning(0), mode="text")
    with pytest.raises(InvalidInputError, match="NUL"):
        ask(store, leaning(0), mode="hybrid", text="a\x00b")
    with pytest.raises(InvalidInputError, match="mode"):
        ask(store, leaning(0), mode="nearest")


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


def put_words(store: VectorStore, texts: list[str], **scope: str) -> None:
    """Texts with ids 0, 1, ..., in the collection that `ask` asks unless `scope` says another."""
    rows = [Passage(f"{n}", text) for n, text in enumerate(texts)]
    scope = {"tenant": "t", "collection": "c", **scope}
    store.put(scope["tenant"], scope["collection"], EMBEDDER, rows, vectors(len(rows)))


def ranked(store: VectorStore, text: str, **options) -> list[tuple[str, float]]:
    found = ask(store, vectors(1)[0], 1000, text=text, mode="text", **options)
    return [(hit.id, hit.rank_score) for hit in found]


# By Robertson and Zaragoza's formula, k1 1.2 and b 0.75, of one word that occurs `count` times.
def bm25(count: int, passages: int, holding: int, length: float, usual: float) -> float:
    rarity = math.log(1 + (passages - holding + 0.5) / (holding + 0.5))
    return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / usual))


def test_relevance_is_bm25_of_the_collection(store):
    put_words(store, ["oars oars oars sail", "oars sail", "sail", "mast keel rudder anchor rope"])
    usual = (4 + 2 + 1 + 5) / 4
    wanted = {"0": bm25(3, 4, 2, 4, usual), "1": bm25(1, 4, 2, 2, usual)}
    assert dict(ranked(store, "oars")) == pytest.approx(wanted)
    sail = {"0": bm25(1, 4, 3, 4, usual), "1": bm25(1, 4, 3, 2, usual), "2": bm25(1, 4, 3, 1, usual)}
    both = {one: wanted.get(one, 0) + sail[one] for one in sail}
    assert dict(ranked(store, "oars, sail")) == pytest.approx(both)


def test_a_rare_word_outranks_a_common_one(store):
    put_words(store, ["ship quay", "ship mole", "ship pier", "ship dock", "rope zeppelin"])
    assert ranked(store, "ship zeppelin")[0][0] == "4"


def test_of_two_passages_with_a_word_once_the_shorter_ranks_first(store):
    put_words(store, ["ship " + " ".join(f"word{n}" for n in range(30)), "ship quay", "rope"])
    assert [one for one, _ in ranked(store, "ship")] == ["1", "0"]


def test_a_collection_of_one_passage_has_a_relevance_above_zero(store):
    put_words(store, ["the only ship"])
    ((id_, relevance),) = ranked(store, "ship")
    assert (id_, relevance) == ("0", pytest.approx(bm25(1, 1, 1, 1, 1)))
    (hit,) = ask(store, vectors(1)[0], text="ship", mode="hybrid")
    assert hit.rank_score == pytest.approx(hit.score, abs=1e-6)


@pytest.mark.parametrize("text", ["the of and to", "?!", " . "])
def test_a_query_of_stop_words_or_signs_alone_finds_nothing_by_words_and_all_by_vectors(store, text):
    put_words(store, ["the ship and the quay", "of the rope"])
    found = ask(store, vectors(1)[0], text=text, mode="hybrid")
    assert [hit.rank_score for hit in found] == pytest.approx([hit.score for hit in found])
    assert len(found) == 2 and not any(hit.coverage for hit in found)
    assert ranked(store, text) == []


def test_an_empty_query_is_ordered_by_cosine(store):
    put_words(store, ["ship", "rope"])
    found = ask(store, vectors(1)[0], text="", mode="hybrid")
    assert [hit.rank_score for hit in found] == pytest.approx([hit.score for hit in found])


def test_a_passage_of_no_words_counts_among_the_others(store):
    put_words(store, ["the", "?!", "ship rope mast"])
    assert ranked(store, "ship") == [("2", pytest.approx(bm25(1, 3, 1, 3, 1)))]


def test_statistics_follow_replacement_and_deletion(store):
    put_words(store, ["ship", "ship rope", "mast mast mast rope keel"])
    put_words(store, ["ship quay quay", "mast"])
    changed = ranked(store, "ship mast quay")
    store.drop("t", "c")
    put_words(store, ["ship quay quay", "mast", "mast mast mast rope keel"])
    assert ranked(store, "ship mast quay") == [(one, pytest.approx(found)) for one, found in changed]
    store.drop("t", "c")
    put_words(store, ["ship"])
    assert ranked(store, "ship") == [("0", pytest.approx(bm25(1, 1, 1, 1, 1)))]


def test_passages_of_other_tenants_and_collections_change_no_score(store):
    put_words(store, ["ship rope", "ship", "mast"])
    before = ranked(store, "ship rope")
    put_words(store, ["rope rope rope keel anchor rudder"] * 20, tenant="u")
    put_words(store, ["rope rope rope keel anchor rudder"] * 20, collection="d")
    assert ranked(store, "ship rope") == before
    store.drop("u", "c")
    store.drop("t", "d")
    assert ranked(store, "ship rope") == before


def test_a_filter_changes_no_score_of_what_it_lets_through(store):
    rows = [Passage(f"{n}", "ship " * (n + 1) + "rope", json.dumps({"n": n % 2})) for n in range(4)]
    store.put("t", "c", EMBEDDER, rows, vectors(4))
    every = dict(ranked(store, "ship rope"))
    assert dict(ranked(store, "ship rope", filter='{"n": 1}')) == {one: every[one] for one in ("1", "3")}


def test_statistics_are_exact_after_concurrent_writers(store):
    texts = [f"ship rope{n % 3} " + "mast " * (n % 5) for n in range(40)]

    def write(start: int) -> None:
        for n in range(start, 40, 4):
            # Written twice, so that writers replace as well as add.
            for text in ("keel of another kind", texts[n]):
                store.put("t", "c", EMBEDDER, [Passage(f"{n}", text)], vectors(1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    found = ranked(store, "ship mast rope1")
    store.drop("t", "c")
    put_words(store, texts)
    assert dict(ranked(store, "ship mast rope1")) == pytest.approx(dict(found))


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
