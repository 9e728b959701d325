import json

import numpy as np
import pytest

from trireme.errors import GateError, InvalidInputError
from trireme.reindex.compare import HeldQueries, check, known_items, measure
from trireme.types import Hit, Passage, QualityFigures


def passage(identity: str, text: str, title: str = "Ships", heading: str = "") -> Passage:
    return Passage(identity, text, json.dumps({"title": title, "heading": heading}))


def test_a_known_item_is_asked_for_by_a_sentence_from_its_middle_and_not_by_its_headings():
    text = "Ships > Oars\nThe first one overlaps. Three banks of oars moved it. The last one does as well."
    held = known_items([passage("a#0", text, heading="Oars")], count=1)
    assert list(held.queries.values()) == ["Three banks of oars moved it."]
    assert list(held.qrels.values()) == [{"a#0": 1}]


def test_a_known_item_is_asked_for_without_the_lead_whose_length_is_stored():
    text = "A title with a period. And more words\nThree banks of oars moved it."
    metadata = json.dumps({"title": "changed by its owner", "trireme_lead": text.index("Three")})
    held = known_items([Passage("a#0", text, metadata)])
    assert list(held.queries.values()) == ["Three banks of oars moved it."]


def test_each_passage_is_asked_for_once_before_any_is_asked_for_again():
    texts = [f"The first of {n} overlaps. The middle of {n} does not. The last of {n} does." for n in "ab"]
    held = known_items([passage("a", texts[0]), passage("b", texts[1])], count=3)
    assert list(held.queries.values()) == [
        "The middle of a does not.",
        "The middle of b does not.",
        "The first of a overlaps.",
    ]
    assert [list(grades) for grades in held.qrels.values()] == [["a"], ["b"], ["a"]]


def test_a_long_sentence_is_asked_by_its_first_words():
    held = known_items([passage("a", " ".join(f"word{n}" for n in range(100)))])
    (query,) = held.queries.values()
    assert query.split() == [f"word{n}" for n in range(16)]


def test_passages_without_words_and_repeated_sentences_ask_nothing():
    same = "Three banks of oars moved it."
    held = known_items([passage("a", same), passage("b", same), passage("c", "Ships\none two")])
    assert list(held.qrels.values()) == [{"a": 1}]
    with pytest.raises(InvalidInputError, match="--queries"):
        known_items([passage("c", "one two")])


def test_metadata_that_is_no_object_is_no_obstacle():
    assert known_items([Passage("a", "one two\nthree four five six", "[]")]).queries


def search(*ids: str):
    return lambda vector: [Hit(i, f"text of {i}", "{}", 1.0) for i in ids]


def embed(texts):
    return np.ones((len(texts), 2), np.float32)


def test_passages_of_a_judged_document_count_as_the_document():
    held = HeldQueries("q", {"q1": "oars"}, {"q1": {"a.md": 1}})
    assert measure(held, embed, search("b.md#0", "a.md#7", "a.md#8")).mrr_at_10 == 0.5
    held = HeldQueries("q", {"q1": "oars"}, {"q1": {"c#1": 1}})
    assert measure(held, embed, search("c#0", "c#1")).mrr_at_10 == 0.5


def test_a_neighbour_that_repeats_the_sentence_is_as_good():
    held = HeldQueries("q", {"a#0": "text of a#1"}, {"a#0": {"a#0": 1}}, own_words=True)
    assert measure(held, embed, search("a#1", "a#0")).mrr_at_10 == 1.0


def test_every_query_is_embedded_once_and_searched_with_its_own_vector():
    queries = {f"q{n}": str(n) for n in range(70)}
    held = HeldQueries("q", queries, {key: {f"p{text}": 1} for key, text in queries.items()})
    figures = measure(
        held,
        lambda texts: np.array([[float(text)] for text in texts], np.float32),
        lambda vector: [Hit(f"p{int(vector[0])}", "", "{}", 1.0)],
    )
    assert (figures.queries, figures.mrr_at_10, figures.ndcg_at_10) == (70, 1.0, 1.0)


def figures(ndcg: float, mrr: float, recall: float) -> QualityFigures:
    return QualityFigures("sentences", 10, ndcg, mrr, recall)


def test_a_loss_within_the_tolerance_passes_and_one_beyond_it_names_the_figure():
    old = figures(0.8, 0.8, 0.9)
    check(old, figures(0.79, 0.79, 0.89), 0.02)
    check(old, figures(1, 1, 1), 0.0)
    for new, name in (
        (figures(0.7, 0.8, 0.9), "nDCG@10 0.700 against 0.800"),
        (figures(0.8, 0.7, 0.9), "MRR@10 0.700"),
        (figures(0.8, 0.8, 0.8), "recall@100 0.800"),
    ):
        with pytest.raises(GateError, match=name) as caught:
            check(old, new, 0.02)
        assert "--force" in str(caught.value)
