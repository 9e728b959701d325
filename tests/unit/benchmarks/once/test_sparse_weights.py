import argparse

from benchmarks.common.report import read_circumstances
from benchmarks.once.sparse_weights import SparseReport, WayRow, draw, format_report, score
from trireme.quality import BeirData


def beir(queries, corpus):
    texts = {query: f"text of {query}" for query in queries}
    return BeirData("set", corpus, texts, {query: {f"p{query[1:]}": 1} for query in queries})


def test_all_passages_of_the_questions_are_there_and_none_is_learned_from():
    corpus = {f"p{n}": f"passage {n}" for n in range(20)}
    dev, other = beir([f"q{n}" for n in range(5)], corpus), beir([f"q{n}" for n in range(5, 20)], corpus)
    options = argparse.Namespace(passages=6, queries=3, learned=4, seed=1)
    held, learned, rows = draw(dev, other, options)
    assert len(held) == 3 and len(learned) == 4 and len(rows) == 11
    assert rows.keys() >= {f"p{n}" for n in range(5)}
    assert {f"p{name[1:]}" for name in learned} <= rows.keys() - {f"p{n}" for n in range(5)}


def test_a_ranking_counts_by_the_place_of_what_answers():
    data = beir(["q1", "q2"], {})
    assert score({"q1": ["p1", "p2"], "q2": ["p1"]}, data) == 0.5


def test_the_page_has_a_row_for_each_way_and_the_cost():
    rows = (WayRow("vectors", 0.5, 1.5, 2.5), WayRow("words", 0.75, 3.0, 0.0))
    seen = read_circumstances("benchmarks.once.sparse_weights", [], 1)
    page = format_report(SparseReport(100, 10, 20, 30.4, 256, 1540, 900, 2000, 2.0, 1.0, 0.99, rows, seen))
    assert "| vectors | 0.5000 | 1.5 | 2.5 |" in page
    assert "| words | 0.7500 | 3.0 |  |" in page
    assert "| weights | 256 |" in page
    assert "By the index of weights 0.990" in page
