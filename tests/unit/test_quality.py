import json
import math
from pathlib import Path

import pytest

from trireme.errors import InvalidInputError, NotFoundError
from trireme.quality import compute_ndcg, compute_recall, compute_reciprocal_rank, evaluate, read_beir

SQUAD = Path(__file__).parents[3] / "shared" / "data" / "retrieval" / "squad"


def write_folder(folder: Path, **replaced: str) -> Path:
    """A tiny BEIR folder; a keyword replaces one file's text (corpus, queries or a split)."""
    files = {
        "corpus": '{"_id": "p1", "title": "Oars", "text": "Three banks."}\n{"_id": "p2", "text": "Sails."}\n',
        "queries": '{"_id": "q1", "text": "how many banks?"}\n{"_id": "q2", "text": "unjudged"}\n',
        "test": "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq1\tp2\t0\n",
        **replaced,
    }
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / f"{name}.jsonl" if name in ("corpus", "queries") else folder / "qrels" / f"{name}.tsv"
        path.write_text(text, encoding="utf-8")
    return folder


def test_a_title_stands_on_a_line_before_the_text(tmp_path):
    data = read_beir(write_folder(tmp_path / "tiny"))
    assert data.name == "tiny"
    assert data.corpus == {"p1": "Oars\nThree banks.", "p2": "Sails."}


def test_only_judged_queries_are_kept(tmp_path):
    data = read_beir(write_folder(tmp_path))
    assert data.queries == {"q1": "how many banks?"}
    assert data.qrels == {"q1": {"p1": 2, "p2": 0}}


def test_the_first_split_of_test_dev_train_is_taken(tmp_path):
    folder = write_folder(tmp_path, dev="q2\tp2\t1\n", train="q1\tp2\t1\n")
    assert list(read_beir(folder).qrels) == ["q1"]
    (folder / "qrels" / "test.tsv").unlink()
    assert read_beir(folder).qrels == {"q2": {"p2": 1}}
    assert read_beir(folder, split="train").qrels == {"q1": {"p2": 1}}


def test_a_missing_split_or_file_is_named(tmp_path):
    folder = write_folder(tmp_path)
    with pytest.raises(NotFoundError, match=r"dev\.tsv"):
        read_beir(folder, split="dev")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(NotFoundError, match=r"queries\.jsonl"):
        read_beir(folder)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"corpus": '{"_id": "p1", "text": "a"}\n{"_id": '}, r"corpus\.jsonl line 2: not JSON"),
        ({"corpus": '["p1"]\n'}, r"corpus\.jsonl line 1: must be a JSON object"),
        ({"corpus": '{"text": "a"}\n'}, r"corpus\.jsonl line 1: .*_id"),
        ({"corpus": '{"_id": "p1", "title": 3, "text": "a"}\n'}, r"corpus\.jsonl line 1: .*title"),
        ({"queries": '\n{"_id": "q1"}\n'}, r"queries\.jsonl line 2: .*text"),
        ({"test": "q1 p1 1\n"}, r"test\.tsv line 1: .*tabs"),
        ({"test": "query-id\tcorpus-id\tscore\nq1\tp1\tyes\n"}, r"test\.tsv line 2: .*'yes'"),
        ({"test": "q9\tp1\t1\n"}, r"test\.tsv line 1: .*'q9'"),
        ({"test": "query-id\tcorpus-id\tscore\n"}, r"test\.tsv holds no judgements"),
    ],
)
def test_a_broken_line_is_named_with_its_file(tmp_path, replaced, message):
    with pytest.raises(InvalidInputError, match=message):
        read_beir(write_folder(tmp_path, **replaced))


def test_a_file_that_is_not_utf8_is_named_with_its_line(tmp_path):
    folder = write_folder(tmp_path)
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "p1", "text": "a"}\n{"_id": "p2", "text": "\xff"}\n')
    with pytest.raises(InvalidInputError, match=r"corpus\.jsonl line 2: not UTF-8"):
        read_beir(folder)


def test_ndcg_has_linear_gain():
    # Ranked grades 1, 0, 2; the ideal order is 2, 1. DCG = 1/1 + 2/log2(4) = 2. IDCG = 2/1 + 1/log2(3).
    # With the exponential gain 2^grade - 1 it would be (1 + 3/2) / (3 + 1/log2(3)) = 0.6885.
    assert compute_ndcg(["b", "x", "a"], {"a": 2, "b": 1}) == pytest.approx(0.7601875, abs=1e-7)


def test_ndcg_sees_ten_places_and_the_ideal_has_ten_too():
    filler = [f"x{i}" for i in range(9)]
    assert compute_ndcg([*filler, "a"], {"a": 1}) == pytest.approx(1 / math.log2(11))
    assert compute_ndcg([*filler, "x9", "a"], {"a": 1}) == 0.0
    many = {f"r{i}": 1 for i in range(30)}
    assert compute_ndcg(list(many)[:10], many) == pytest.approx(1.0)


def test_a_negative_grade_gains_nothing():
    assert compute_ndcg(["bad", "a"], {"a": 1, "bad": -1}) == pytest.approx(1 / math.log2(3))
    assert compute_reciprocal_rank(["bad", "a"], {"a": 1, "bad": -1}) == 0.5


def test_the_reciprocal_rank_ends_at_ten():
    filler = [f"x{i}" for i in range(9)]
    assert compute_reciprocal_rank(["x", "a", "b"], {"a": 1, "b": 3}) == 0.5
    assert compute_reciprocal_rank([*filler, "a"], {"a": 1}) == pytest.approx(0.1)
    assert compute_reciprocal_rank([*filler, "x9", "a"], {"a": 1}) == 0.0


def test_recall_counts_relevant_passages_within_a_hundred():
    ranking = [f"x{i}" for i in range(99)]
    assert compute_recall([*ranking, "a", "b"], {"a": 1, "b": 1, "c": 0}) == 0.5
    assert compute_recall(["c"], {"c": 0}) == 0.0


def test_the_figures_are_means_over_all_judged_queries():
    # q1: relevant first: 1, 1, 1. q2: relevant second of three relevant: recall 1/3, nDCG
    # (1/log2 3) / (1 + 1/log2 3 + 1/2) = 0.6309298 / 2.1309298 = 0.2960819, RR 1/2. q3: nothing returned: 0.
    qrels = {"q1": {"a": 1}, "q2": {"a": 1, "b": 1, "c": 1}, "q3": {"a": 1}}
    run = {"q1": ["a", "b"], "q2": ["x", "b"], "unjudged": ["a"]}
    figures = evaluate("tiny", run, qrels)
    assert (figures.dataset, figures.queries) == ("tiny", 3)
    assert figures.ndcg_at_10 == pytest.approx((1 + 0.2960819 + 0) / 3, abs=1e-7)
    assert figures.mrr_at_10 == pytest.approx((1 + 0.5) / 3)
    assert figures.recall_at_100 == pytest.approx((1 + 1 / 3) / 3)


def test_a_passage_listed_twice_counts_once():
    assert evaluate("d", {"q": ["x", "x", "a", "a"]}, {"q": {"a": 1}}).mrr_at_10 == 0.5
    assert evaluate("d", {"q": ["a", "a"]}, {"q": {"a": 1, "b": 1}}).recall_at_100 == 0.5


def test_the_query_itself_is_left_out_unless_it_is_relevant():
    assert evaluate("d", {"q": ["q", "a"]}, {"q": {"a": 1}}).mrr_at_10 == 1.0
    assert evaluate("d", {"q": ["q", "a"]}, {"q": {"a": 1, "q": 1}}).ndcg_at_10 == pytest.approx(1.0)


def test_no_judged_query_is_an_error():
    with pytest.raises(InvalidInputError, match="tiny"):
        evaluate("tiny", {}, {})


def test_an_integer_id_and_a_null_title_are_read(tmp_path):
    corpus = json.dumps({"_id": 7, "title": None, "text": "a"})
    assert read_beir(write_folder(tmp_path, corpus=corpus)).corpus == {"7": "a"}


@pytest.mark.shared_data
@pytest.mark.skipif(not SQUAD.is_dir(), reason=f"no data folder at {SQUAD}")
def test_the_shared_data_set_reads():
    data = read_beir(SQUAD)
    assert set(data.queries) == set(data.qrels)
    perfect = {query_id: list(grades) for query_id, grades in data.qrels.items()}
    assert evaluate(data.name, perfect, data.qrels).ndcg_at_10 == pytest.approx(1.0)
