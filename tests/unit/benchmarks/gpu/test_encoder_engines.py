import numpy as np
import pytest

from benchmarks.gpu import encoder_engines
from benchmarks.gpu.encoder_engines import SINGLES, answer


class FakeEngine:
    """Two ways, 300 rows; remembers which rows were asked for."""

    ways = ("ids", "texts")

    def __init__(self, work):
        self.work, self.rows, self.asked = work, {"short": list(range(300))}, []

    def vectors(self, way, model, load, part):
        self.asked.append((way, part))
        return np.ones((len(self.rows[load][part]), 4), np.float16)

    def measure_more(self, model, load):
        return {"more": f"{model} {load}"}


@pytest.fixture
def engine(tmp_path):
    return FakeEngine(tmp_path)


def ask(engine, do):
    return answer(engine, {"do": do, "engine": "packed", "model": "minilm", "load": "short"})


def test_an_engine_that_is_loaded_says_so(engine):
    assert ask(engine, "load") == {"ready": True}


def test_a_pass_is_timed_in_every_way_and_a_warm_up_comes_before_it(engine):
    assert set(ask(engine, "time")["seconds"]) == {"ids", "texts"}
    assert len(engine.asked) == 2
    ask(engine, "warm")
    assert len(engine.asked) == 2 + 4


def test_vectors_that_are_checked_go_to_a_file_as_float32(engine, tmp_path):
    assert ask(engine, "check") == {}
    vectors = np.load(tmp_path / "vectors-packed-minilm-short.npy")
    assert (vectors.shape, vectors.dtype) == ((encoder_engines.CHECKED, 4), np.float32)


def test_single_texts_are_asked_one_by_one(engine):
    assert ask(engine, "single")["single_ms"] > 0
    assert engine.asked == [("texts", slice(i, i + 1)) for i in range(SINGLES)]


def test_more_figures_are_the_engines_own(engine):
    assert ask(engine, "extra") == {"more": "minilm short"}
