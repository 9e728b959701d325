import json
import subprocess
import sys

import pytest

from benchmarks.common.report import PROJECT
from benchmarks.rivals import worker
from benchmarks.rivals.worker import Worker


class FakeEngine:
    def versions(self):
        return {"library": "1.0"}

    def count(self, texts):
        return [len(text) for text in texts]

    def embed(self, texts):
        return [[float(len(text))] for text in texts]

    def rerank(self, query, passages, prior):
        return list(prior)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.json"
    path.write_text(json.dumps({"texts": ["a", "bb", "ccc"]}), encoding="utf-8")
    return str(path)


def test_texts_come_in_order_and_again_from_the_first(file):
    assert worker.read_job_texts({"file": file, "start": 2, "count": 4}) == ["ccc", "a", "bb", "ccc"]
    assert worker.read_job_texts({"file": file}) == ["a", "bb", "ccc"]


def test_a_job_ends_when_its_texts_are_done(file):
    said = Worker(FakeEngine()).answer({"do": "embed", "file": file, "call": 2, "seconds": 9.0})
    assert (said["texts"], len(said["calls_s"])) == (3, 2)


def test_a_job_whose_time_is_short_makes_one_call(file, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(worker.time, "perf_counter", lambda: next(clock))
    said = Worker(FakeEngine()).answer({"do": "embed", "file": file, "call": 1, "seconds": 0.5})
    assert len(said["calls_s"]) == said["texts"] == 1


def test_pairs_are_counted_by_their_passages(tmp_path):
    path = tmp_path / "queries.json"
    queries = [{"query": "q", "passages": ["a", "b"], "prior": [0.2, 0.1]}] * 3
    path.write_text(json.dumps({"queries": queries}), encoding="utf-8")
    said = Worker(FakeEngine()).answer({"do": "rerank", "file": str(path), "seconds": 9.0, "call": 1})
    assert (said["texts"], len(said["calls_s"])) == (6, 3)


def test_tokens_are_counted_text_by_text(file):
    assert Worker(FakeEngine()).answer({"do": "count", "file": file}) == {"tokens": [1, 2, 3]}


def test_an_unknown_engine_is_named(tmp_path):
    with pytest.raises(ValueError, match="no engine named 'x/y'"):
        worker.load_engine("x/y", tmp_path, tmp_path, 1)


def test_errors_are_answers_and_no_line_of_a_library_is_taken_for_one():
    jobs = '{"do": "count"}\n{"do": "load", "engine": "x/y", "model": "m", "work": "w", "threads": 1}\nnonsense\n'
    command = [sys.executable, "-m", "benchmarks.rivals.worker"]
    done = subprocess.run(command, input=jobs, capture_output=True, text=True, check=True, cwd=PROJECT)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == 3
    assert replies[0]["error"] == "ValueError: the first job must be load"
    assert "no engine named" in replies[1]["error"]
    assert replies[2]["error"].startswith("JSONDecodeError")
