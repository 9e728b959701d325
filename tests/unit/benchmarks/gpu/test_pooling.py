"""The run over processes that answer at once; the engines and the models behind it without a GPU."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.gpu import pooling, pooling_engines, pooling_models
from benchmarks.gpu.pooling import Contestant, Run
from benchmarks.gpu.pooling_engines import compare, judge_scores, open_engine
from benchmarks.gpu.pooling_models import RERANKER
from benchmarks.gpu.pooling_page import format_section

SCORES = {"rank_correlation": 0.99, "score_difference": 0.01}
REPLIES = {
    "check": {
        **SCORES,
        "cosine_min": 0.995,
        "cosine_median": 0.9999,
        "centred_min": 0.9,
        "between_texts_median": 0.5,
    },
    "probe": {"probe_cosine_min": 0.999},
    "kill": {"waiting_run": "UnavailableError: gone", "waiting_run_s": 0.1, "answers_again_s": 2.0},
}


class Answering:
    """A contestant whose passes take 2, 1, 4, ... seconds, or one that never starts."""

    def __init__(self, pair):
        self.pair, self.passes, self.is_ended = pair, [2.0, 2.0, 1.0, 1.0, 4.0, 4.0, 4.0], False

    def hear(self, seconds):
        return {"error": "no answer"} if self.pair[0] == "embeddinggemma-300m" else {"ready_s": 3.0}

    def ask(self, within, **job):
        return {"seconds": self.passes.pop(0)} if job["do"] == "pass" else REPLIES[job["do"]]

    def end(self):
        self.is_ended = True


@pytest.fixture
def work(tmp_path, monkeypatch):
    for name in pooling_models.NAMES:
        for part in ("source", "ours-vllm"):
            (tmp_path / name / part).mkdir(parents=True)
        (tmp_path / name / "source" / "config.json").write_text('{"vocab_size": 100}')
    for module in (pooling, pooling_engines, pooling_models):
        monkeypatch.setattr(module, "WORK", tmp_path)
    monkeypatch.setattr(pooling, "OUT", tmp_path)
    return tmp_path


def test_a_run_writes_medians_agreement_failures_and_a_death(work, monkeypatch):
    made = []

    def start(pair):
        made.append(Answering(pair))
        return made[-1]

    monkeypatch.setattr(pooling, "Contestant", start)
    pooling.main()
    said = json.loads((work / "pool.json").read_text())
    ours = said["models"]["bge-m3"]["ours-vllm"]
    assert ours["passes_s"] == [2.0, 1.0, 1.0]
    assert ours["tokens_per_s"] == said["rows"]["tokens"] / 1.0
    assert said["models"]["bge-m3"]["vllm"]["embed_s"] == [1.0, 4.0, 4.0]
    assert ours["within_bounds"] and ours["probe_cosine_min"] == 0.999
    assert ours["death"]["answers_again_s"] == 2.0
    assert said["models"]["embeddinggemma-300m"]["vllm"] == {"error": "no answer"}
    assert all(one.is_ended for one in made) and len(made) == 8
    scored = said["models"][RERANKER]["ours-vllm"]
    assert scored["within_bounds"] and scored["score_difference"] == 0.01
    assert said["models"][RERANKER]["vllm"]["embed_s"] == []
    assert "UnavailableError: gone after 0.1 s" in format_section(said)


def test_a_process_answers_jobs_in_turn_and_says_when_it_has_ended(work):
    one = Contestant(("bge-m3", "ours-abacus"))
    try:
        assert "engine must be one of" in one.hear(60)["error"]
        assert "IndexError" in one.ask(60, do="pass")["error"]
    finally:
        one.end()
    assert one.hear(20) == {"error": "its process has ended"}


def test_rows_are_the_same_in_every_process_and_within_their_lengths(work):
    rows = pooling_models.draw_rows("bge-m3")
    assert rows == pooling_models.draw_rows("bge-m3")
    lengths = [len(row) for row in rows]
    assert min(lengths) >= pooling_models.SHORTEST and max(lengths) <= pooling_models.MAX_LENGTH


def test_agreement_of_scores_is_that_of_their_order_and_spread():
    reference = np.array([[0.0], [1.0], [4.0]])
    found = judge_scores(np.array([0.0, 2.0, 4.0]), reference)
    assert found == {"rank_correlation": pytest.approx(1.0), "score_difference": pytest.approx(0.25)}


def test_agreement_is_that_of_the_rows_and_of_what_they_have_apart():
    reference = np.array([[10.0, 1.0], [10.0, -1.0], [10.0, 0.5]])
    found = compare(reference * 3, reference)
    assert found["cosine_min"] == pytest.approx(1.0)
    assert found["centred_median"] == pytest.approx(1.0)
    assert found["between_texts_median"] > 0.97
    moved = compare(reference[[1, 0, 2]], reference)
    assert moved["cosine_min"] > 0.97 and moved["centred_min"] < 0


@pytest.mark.parametrize("name", pooling_models.NAMES)
def test_a_models_files_are_those_that_both_sides_read(name, tmp_path, monkeypatch):
    from trireme.encode.pooling_files import read_pooling_files

    monkeypatch.setattr(pooling_models, "WORK", tmp_path)
    monkeypatch.setattr(pooling_models, "IS_TINY", True)
    monkeypatch.setattr(pooling_models, "ROWS", 3)
    monkeypatch.setattr(pooling_models, "CHECKED", 2)
    monkeypatch.setattr(pooling_models, "PROBE_TEXTS", 3)
    monkeypatch.setattr(sys, "argv", ["pooling_models", name])
    pooling_models.main()
    files = read_pooling_files(tmp_path / name / "ours-vllm")
    is_reranker = name == RERANKER
    assert len(files.outputs) == (sum(files.groups) if is_reranker else 3)
    head = tmp_path / name / "source-head"
    assert head.is_dir() == is_reranker
    if is_reranker:
        told = json.loads((head / "config.json").read_text())
        assert told["architectures"] == ["Qwen3ForSequenceClassification"]
        score = load_file(head / "score.safetensors")["score.weight"]
        assert np.allclose(score, files.answers[1:] - files.answers[:1])
    assert np.load(tmp_path / name / "reference.npy").shape[0] == 2
    assert (tmp_path / name / "ours-torch").is_dir() == (name == "bge-m3")


def test_an_unknown_job_of_an_engine_that_is_not_open_is_an_error(monkeypatch, work):
    monkeypatch.setattr(sys, "argv", ["pooling_engines", "bge-m3", "vllm"])
    with pytest.raises(IndexError):
        open_engine()({"do": "pass"})


def test_a_run_with_no_time_left_ends_what_did_not_start(work, monkeypatch):
    monkeypatch.setattr(pooling, "Contestant", Answering)
    run = Run()
    live = run.start()
    assert {name for name, _ in live} == {"bge-m3", "qwen3-embedding-0.6b", RERANKER}
