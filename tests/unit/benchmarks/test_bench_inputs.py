import json

import bench_inputs
import pytest
from bench_inputs import write_inputs

from trireme.errors import NotFoundError


def write_beir(folder, passages=30, queries=5):
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"p{i}", "text": f"passage number {i} about oars and sails"} for i in range(passages)]
    asked = [{"_id": f"q{i}", "text": f"question {i} about oars"} for i in range(queries)]
    for name, records in (("corpus", corpus), ("queries", asked)):
        text = "\n".join(json.dumps(record) for record in records)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    judged = "".join(f"q{i}\tp{i}\t1\n" for i in range(queries))
    (folder / "qrels" / "test.tsv").write_text(judged, encoding="utf-8")
    return folder


def make_inputs(folder, data, seed=1):
    folder.mkdir()
    return write_inputs(folder, data, entries=50, passages=20, seed=seed)


def read_entries(path):
    return json.loads(path.read_text(encoding="utf-8"))["data"]


def test_inputs_do_not_repeat(tmp_path):
    inputs = make_inputs(tmp_path / "out", write_beir(tmp_path / "data"))
    for model, name in (("embedding", "text"), ("search", "query")):
        texts = [entry[name][0] for entry in read_entries(inputs.files[model])]
        assert len(texts) == 50
        assert len(set(texts)) == 50


def test_the_same_seed_gives_the_same_inputs(tmp_path):
    data = write_beir(tmp_path / "data")
    first, again, other = (make_inputs(tmp_path / str(i), data, seed) for i, seed in enumerate((1, 1, 2)))
    for model in ("embedding", "reranker", "search"):
        assert first.files[model].read_bytes() == again.files[model].read_bytes()
        assert first.files[model].read_bytes() != other.files[model].read_bytes()


def test_the_reranker_gets_twenty_passages_with_priors_best_first(tmp_path):
    inputs = make_inputs(tmp_path / "out", write_beir(tmp_path / "data"))
    entries = read_entries(inputs.files["reranker"])
    assert len(entries) == 10
    for entry in entries:
        assert entry["passages"]["shape"] == [20]
        assert len(set(entry["passages"]["content"])) == 20
        assert entry["prior"]["content"] == sorted(entry["prior"]["content"], reverse=True)
    assert inputs.shapes["reranker"] == ("passages:20", "prior:20")


def test_the_corpus_is_cut_to_the_wanted_size(tmp_path):
    inputs = make_inputs(tmp_path / "out", write_beir(tmp_path / "data"))
    lines = (inputs.corpus / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == inputs.passages == 20
    assert len({json.loads(line)["_id"] for line in lines}) == 20


def test_without_a_data_set_the_docs_serve(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_inputs, "DOCS", tmp_path)
    (tmp_path / "quality.md").write_text("generated " * 50, encoding="utf-8")
    with pytest.raises(NotFoundError, match="--data"):
        make_inputs(tmp_path / "none", None)
    page = "\n\n".join(
        f"Paragraph {i} says how the batcher waits for more requests to come." for i in range(8)
    )
    (tmp_path / "page.md").write_text(f"# Title\n\n{page}", encoding="utf-8")
    inputs = make_inputs(tmp_path / "out", None)
    queries = [entry["query"][0] for entry in read_entries(inputs.files["search"])]
    assert len(set(queries)) == 50
    assert "generated" not in " ".join(inputs.texts)
