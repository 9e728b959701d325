import json
import lzma
import random

import pytest

from benchmarks.common.report import DOCS, RESULTS, Circumstances, read_record
from benchmarks.search.domain_sets import (
    PASSAGE_CHARACTERS,
    cut,
    make_corpora,
    read_articles,
    write_as_people_do,
)
from benchmarks.search.domains import FIGURES, DomainReport, DomainRow, format_section, write_folder
from trireme.quality import read_beir

SEEN = Circumstances("CPU", 2, ("avx2",), 4.0, 0.5, "Linux", {"numpy": "1"}, "2026-01-01", 7, "python x")


def row(domain, dense, text, hybrid, search):
    figures = {"dense": dense, "full text": text, "hybrid": hybrid, "search": search}
    return DomainRow(domain, 1000, 300, figures)


@pytest.fixture
def data(tmp_path):
    """A data folder with articles and pairs alone."""
    for folder in ("text", "pairs"):
        (tmp_path / folder).mkdir()
    with lzma.open(tmp_path / "text" / "wikinews.jsonl.xz", "wt") as file:
        for n in range(40):
            words = [
                f"Sentence {n} {m} is about the ship of number {n * 100 + m} in its harbour."
                for m in range(30)
            ]
            print(json.dumps({"title": f"Title {n}", "text": " ".join(words)}), file=file)
    pairs = tmp_path / "pairs" / "squad_question_sentence_from_train_articles.jsonl"
    pairs.write_text("".join(json.dumps({"a": f"who {n} ?", "b": f"he {n % 5} ."}) + "\n" for n in range(20)))
    return tmp_path


def test_the_same_seed_makes_the_same_corpora_and_what_is_not_there_is_left_out(data):
    first, again, other = (list(make_corpora(data, 10, seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert {name for corpus in first for name in corpus.domains} == {
        "wikinews, title",
        "wikinews, sentence",
        "question to sentence",
    }
    assert all(len(judged.queries) == 10 for corpus in first for judged in corpus.domains.values())


def test_a_query_finds_passages_of_the_corpus_and_none_of_its_own_id(data):
    for corpus in make_corpora(data, 10, 1):
        for judged in corpus.domains.values():
            assert judged.queries.keys() == judged.qrels.keys()
            assert not judged.queries.keys() & corpus.passages.keys()
            assert all(grades and grades.keys() <= corpus.passages.keys() for grades in judged.qrels.values())


def test_a_sentence_that_is_a_query_stands_in_no_passage(data):
    passages, domains = read_articles(data / "text" / "wikinews.jsonl.xz", random.Random(1))
    sentences = domains["wikinews, sentence"].queries.values()
    assert sentences
    assert not any(sentence in text for sentence in sentences for text in passages.values())


def test_passages_are_cut_at_lines_and_long_lines_at_sentences():
    lines = ["A line of text." * 1] * 3 + ["One sentence of many words here. " * 60]
    passages = cut("\n".join(lines))
    assert len(passages) > 2
    assert all(0 < len(passage) <= PASSAGE_CHARACTERS for passage in passages)
    assert " ".join(passages).split() == " ".join(lines).split()


def test_the_treebanks_spaces_and_brackets_are_taken_out():
    written = "the bank 's head -lrb- a man , 5 % -rrb- said `` no ''  ."
    assert write_as_people_do(written) == 'the bank\'s head (a man, 5%) said " no " .'


def test_a_corpus_is_written_as_ingestion_reads_it(data, tmp_path):
    corpus = next(iter(make_corpora(data, 10, 1)))
    write_folder(corpus, tmp_path / "made")
    (tmp_path / "made" / "qrels").mkdir()
    (tmp_path / "made" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta0p0\t1\n")
    (tmp_path / "made" / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n')
    assert read_beir(tmp_path / "made").corpus == corpus.passages


def test_means_and_the_loss_on_the_worst_domain():
    report = DomainReport((row("a", 0.5, 0.4, 0.6, 0.7), row("b", 0.3, 0.6, 0.5, 0.65)), SEEN)
    assert report.means == pytest.approx({"dense": 0.4, "full text": 0.5, "hybrid": 0.55, "search": 0.675})
    assert report.loss("hybrid") == pytest.approx(-0.1)
    assert report.loss("search") == pytest.approx(0.05)
    assert "| mean | | | 0.4000 | 0.5000 | 0.5500 | 0.6750 |" in format_section(report)


def test_the_page_says_what_was_measured():
    report = read_record(RESULTS / FIGURES, DomainReport)
    assert format_section(report).strip() in (DOCS / "retrieval.md").read_text(encoding="utf-8")
