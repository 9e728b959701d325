import numpy as np
import pytest

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record, write_json
from benchmarks.search.quality import (
    QualityReport,
    QualityRow,
    format_document,
    format_rows,
    measure_embedding,
    sample_queries,
    write_document,
)
from benchmarks.search.ranking import rank_by_cosine
from trireme.errors import InvalidInputError
from trireme.quality import BeirData
from trireme.types import QualityFigures

SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")
WORDS = ("oar", "sail", "rope")


def make_data(queries=3):
    return BeirData(
        name="tiny",
        corpus={"p1": "oar oar", "p2": "sail", "p3": "rope", "blank": "  "},
        queries={f"q{i}": WORDS[i % 3] for i in range(queries)},
        qrels={f"q{i}": {f"p{i % 3 + 1}": 1} for i in range(queries)},
    )


def embed(texts, kind):
    assert kind in ("query", "passage")
    assert all(text.strip() for text in texts)
    counts = np.array([[text.count(word) for word in WORDS] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def make_report(dataset="tiny"):
    figures = QualityFigures(dataset, 3, 0.5, 0.25, 1.0)
    return QualityReport(dataset, 1484, (QualityRow("search", figures, 12.3),), SEEN)


def test_the_same_seed_draws_the_same_queries():
    data = make_data(queries=50)
    first, again, other = (sample_queries(data, 10, seed) for seed in (1, 1, 2))
    assert first == again
    assert set(first.queries) != set(other.queries)
    assert set(first.queries) == set(first.qrels)
    assert first.corpus == data.corpus


def test_a_count_above_the_queries_takes_all_and_below_one_is_refused():
    data = make_data()
    assert sample_queries(data, 99, 1) is data
    assert sample_queries(data, None, 1) is data
    with pytest.raises(InvalidInputError, match="--queries"):
        sample_queries(data, 0, 1)


def test_passages_are_ranked_by_cosine_in_every_block():
    passages = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    queries = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    ranked = rank_by_cosine(queries, passages, ["a", "b", "c"], depth=2, block=2)
    assert ranked == [["a", "b"], ["c", "b"], ["b", "c"]]


def test_an_embedding_that_finds_every_passage_scores_one():
    advanced = []
    row = measure_embedding("words", make_data(), embed, advanced.append)
    assert (row.name, row.figures.queries) == ("words", 3)
    assert row.figures.ndcg_at_10 == pytest.approx(1.0)
    assert sum(advanced) == 6


def test_a_row_shows_four_digits():
    assert "| search | 0.5000 | 0.2500 | 1.0000 | 3 | 12 |" in format_rows(make_report().rows)


def test_the_page_has_a_section_for_each_data_set(tmp_path):
    for dataset in ("b", "a"):
        write_json(tmp_path / f"quality-{dataset}.json", make_report(dataset))
    write_document(tmp_path, tmp_path / "docs" / "quality.md")
    page = (tmp_path / "docs" / "quality.md").read_text(encoding="utf-8")
    assert page.index("## a, 1,484 passages") < page.index("## b, 1,484 passages")
    assert "seed 7: `python x`" in page
    assert page == format_document([make_report("a"), make_report("b")])


def test_a_report_reads_as_it_was_written(tmp_path):
    write_json(tmp_path / "quality-tiny.json", make_report())
    assert read_record(tmp_path / "quality-tiny.json", QualityReport) == make_report()


def test_a_file_that_is_no_report_is_named(tmp_path):
    path = tmp_path / "quality-x.json"
    path.write_text('{"dataset": "x"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"quality-x\.json"):
        read_record(path, QualityReport)


def test_the_committed_page_is_made_of_the_committed_figures(tmp_path):
    write_document(RESULTS, tmp_path / "quality.md")
    assert (tmp_path / "quality.md").read_text() == (DOCS / "quality.md").read_text()
