import dataclasses

import numpy as np
import pytest

from benchmarks.encoders.quality import compare_vectors, measure_quality, rank
from benchmarks.encoders.results import FP32_IN_PROCESS, OURS, OURS_IN_PROCESS
from benchmarks.encoders.scenarios import FULL, Runner
from trireme.errors import UnavailableError
from trireme.quality import BeirData

WORDS = ("oars", "sails", "masts")
BEIR = BeirData(
    "boats",
    {f"p{i}": word for i, word in enumerate(WORDS)},
    {"q0": "oars", "q1": "sails"},
    {"q0": {"p0": 1}, "q1": {"p1": 1}},
)


class FakeEmbedder:
    """One dimension a word; `turned` puts every vector into the next one."""

    def __init__(self, turned=0, error=None):
        self.turned, self.error = turned, error

    def embed(self, texts):
        if self.error:
            raise UnavailableError(self.error)
        return np.stack([np.roll(np.eye(3)[WORDS.index(text)], self.turned) for text in texts])

    def pause(self, paused):
        pass


class Late(FakeEmbedder):
    def embed(self, texts):
        vectors = super().embed(texts)
        vectors[len(BEIR.corpus) :] = np.roll(vectors[len(BEIR.corpus) :], 1, axis=1)
        return vectors


def test_the_right_passage_first_is_a_perfect_score_and_the_wrong_ones_are_not():
    assert rank("x", FakeEmbedder(), BEIR).ndcg_at_10 == 1.0
    assert rank("x", Late(), BEIR).ndcg_at_10 < 1.0


def test_vectors_are_compared_with_those_of_fp32():
    ready = {
        FP32_IN_PROCESS: FakeEmbedder(),
        "same": FakeEmbedder(),
        "other": FakeEmbedder(1),
        "broken": FakeEmbedder(error="no"),
        "Trireme reranker": FakeEmbedder(error="not asked"),
    }
    assert compare_vectors(ready, WORDS) == {"same": pytest.approx(1.0), "other": pytest.approx(0.0)}
    assert compare_vectors({"same": FakeEmbedder()}, WORDS) == {}


def test_ours_and_libraries_are_ranked_apart_and_a_broken_one_is_left_out(monkeypatch):
    monkeypatch.setattr("benchmarks.encoders.quality.read_beir", lambda *_: BEIR)
    bench = type("Bench", (), {"data": "folder"})
    ready = {
        OURS_IN_PROCESS: FakeEmbedder(),
        FP32_IN_PROCESS: FakeEmbedder(),
        "sentence-transformers onnx-int8": FakeEmbedder(error="no"),
        "sentence-transformers openvino-int8": FakeEmbedder(),
        "Infinity torch": FakeEmbedder(),
    }
    runner = Runner(ready, {}, FULL, lambda _: None)
    figures = measure_quality(bench, ready, runner, rivals=False)
    assert {figure.engine for figure in figures} == {OURS, FP32_IN_PROCESS}
    figures = measure_quality(bench, ready, runner, rivals=True)
    assert {figure.engine for figure in figures} == {"sentence-transformers openvino-int8"}
    late = Runner(ready, {}, dataclasses.replace(FULL, budget_s=-1.0), lambda _: None)
    assert measure_quality(bench, ready, late, rivals=False) == []
    assert f"nDCG@10 of {OURS}" in late.left_out
