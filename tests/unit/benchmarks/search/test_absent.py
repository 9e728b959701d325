import json
import random

import pytest

from benchmarks.common.report import PROJECT
from benchmarks.search.absent import read_lines, sample_corpus, squad_cases
from trireme.errors import NotFoundError


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")


def test_a_line_separator_inside_of_a_text_ends_no_record(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a\u2028b"}, ensure_ascii=False) + "\n", "utf-8")
    assert read_lines(tmp_path / "a.jsonl") == [{"text": "a\u2028b"}]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"b\.jsonl does not exist"):
        read_lines(tmp_path / "b.jsonl")


def test_of_each_article_as_many_are_asked_and_the_article_is_what_is_left_out(tmp_path):
    asked = [
        {"title": title, "question": f"{title}{n}?", "answers": ["x"], "answerable": n < 3}
        for title in ("A", "B")
        for n in range(4)
    ]
    write(tmp_path / "qa" / "squad_grounded_dev.jsonl", asked)
    corpus = [{"_id": "A#0"}, {"_id": "A#1"}, {"_id": "B#0"}]
    cases = squad_cases(tmp_path, "dev", corpus, 4, random.Random(1))
    assert sorted(case.question[0] for case in cases) == ["A", "A", "B", "B"]
    assert not any("3" in case.question for case in cases)
    for case in cases:
        assert case.left_out == ({"A#0", "A#1"} if case.question[0] == "A" else {"B#0"})
        assert case.answers == ("x",)


def test_the_sample_corpus_is_there():
    assert PROJECT / "docs" in sample_corpus()
    assert all(path.exists() for path in sample_corpus())
