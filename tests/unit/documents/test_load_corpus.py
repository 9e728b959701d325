import json

import pytest

from trireme.documents.load import Skipped, load


@pytest.mark.parametrize("name", ["", "corpus.jsonl"])
def test_a_beir_corpus_gives_whole_documents_under_their_own_ids(tmp_path, name, documents_of):
    rows = [
        {"_id": "d1", "title": "T", "text": "one"},
        {"_id": 7, "text": "seven", "metadata": {}},
        {"_id": "d3", "title": "only a title", "text": ""},
    ]
    bad = ["{torn", "[]", json.dumps({"_id": "x"}), json.dumps({"_id": "y", "text": ""}), '"\\ud800"']
    lines = [*map(json.dumps, rows), "", *bad]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    (tmp_path / "queries.jsonl").write_text("{}")
    skipped = Skipped()
    documents = documents_of(tmp_path / name, skipped)
    assert [(d.id, d.title, d.text, d.whole) for d in documents] == [
        ("d1", "T", "one", True),
        ("7", "", "seven", True),
        ("d3", "only a title", "", True),
    ]
    assert [name for name, _ in skipped.files] == [f"corpus.jsonl:{n}" for n in range(5, 10)]


def test_text_that_no_database_stores_is_cleaned(tmp_path, documents_of):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "x\\u0000y\\ud800z"}')
    assert documents_of(tmp_path)[0].text == "xy?z"


def test_the_digest_of_a_corpus_line_is_its_own(tmp_path):
    def digests(*texts: str) -> list[str]:
        lines = [json.dumps({"_id": str(n), "text": text}) for n, text in enumerate(texts)]
        (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
        return [source.digest for source in load(tmp_path)]

    first, second = digests("a", "b"), digests("a", "c")
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_the_metadata_of_a_corpus_line_is_kept(tmp_path, documents_of):
    rows = [
        {"_id": "a", "text": "t", "metadata": {"year": 2024, "x\u0000": "\ud800"}},
        {"_id": "b", "text": "t", "metadata": {"year": float("nan")}},
        {"_id": "c", "text": "t", "metadata": "words"},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skipped = Skipped()
    documents = documents_of(tmp_path, skipped)
    assert [document.extra for document in documents] == [{"year": 2024, "x": "?"}, {"metadata": "words"}]
    assert skipped.files == [("corpus.jsonl:2", "it is not JSON")]


def test_a_duplicate_id_in_a_corpus_names_both_lines_and_the_first_one_stays(tmp_path, documents_of):
    rows = [{"_id": identity, "text": f"text {n}"} for n, identity in enumerate(["a", "b", "a", 7, "7", "c"])]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    skipped = Skipped()
    assert [(d.id, d.text) for d in documents_of(tmp_path, skipped)] == [
        ("a", "text 0"),
        ("b", "text 1"),
        ("7", "text 3"),
        ("c", "text 5"),
    ]
    assert [name for name, _ in skipped.files] == ["corpus.jsonl:3", "corpus.jsonl:5"]
    assert "line 1 already" in skipped.files[0][1]


def test_a_corpus_line_too_long_to_hold_is_named_and_the_next_one_is_read(tmp_path, documents_of):
    lines = [
        {"_id": "a", "text": "x" * 9_000_000},
        {"_id": "b", "text": "text"},
        {"_id": "i" * 3000, "text": "t"},
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    skipped = Skipped()
    assert [document.id for document in documents_of(tmp_path, skipped)] == ["b"]
    assert [name for name, _ in skipped.files] == ["corpus.jsonl:1", "corpus.jsonl:3"]


def test_only_the_first_of_many_bad_lines_are_kept_by_name(tmp_path, documents_of):
    (tmp_path / "corpus.jsonl").write_text("{torn\n" * 1500)
    skipped = Skipped()
    assert documents_of(tmp_path, skipped) == []
    assert skipped.count == 1500
    assert len(skipped.files) == 1000
    assert "500 more" in skipped.lines()
