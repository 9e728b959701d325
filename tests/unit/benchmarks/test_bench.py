import dataclasses

import bench
import pytest
from bench import QUICK, choose_requests, copy_repository, find_models
from bench_inputs import Inputs

from trireme.artifacts.config_writer import CONFIG_FILE
from trireme.serve import Stack
from trireme.settings import Settings
from trireme.triton.perf_analyzer import PerfFigures

ENCODER = """kind = "text_encoder"
[checkpoint]
source = "a/b"
[serving]
max_batch_size = 64
dynamic_batching = true
response_cache = true
"""
RETRIEVER = """kind = "retriever"
[serving]
embedder = "embedding"
"""


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    for name, recipe in (("embedding", ENCODER), ("retriever", RETRIEVER)):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "recipe.toml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.mark.parametrize("dynamic_batching", [True, False])
def test_a_copied_repository_differs_in_batching_and_has_no_cache(repository, tmp_path, dynamic_batching):
    copy_repository(repository, tmp_path / "copy", dynamic_batching=dynamic_batching)
    config = (tmp_path / "copy" / "embedding" / CONFIG_FILE).read_text(encoding="utf-8")
    assert ("dynamic_batching" in config) is dynamic_batching
    assert "response_cache" not in config
    assert "max_batch_size: 64" in config
    assert (tmp_path / "copy" / "embedding" / "1").resolve() == repository / "embedding" / "1"
    assert (tmp_path / "copy" / "retriever" / CONFIG_FILE).is_file()


def test_the_source_repository_is_left_as_it_was(repository, tmp_path):
    before = sorted(repository.rglob("*"))
    copy_repository(repository, tmp_path / "copy", dynamic_batching=False)
    assert sorted(repository.rglob("*")) == before


def test_a_model_that_is_not_built_is_left_out_with_a_line(repository, capsys):
    assert find_models(repository) == ()
    (repository / "embedding" / "1" / "manifest.json").touch()
    assert find_models(repository) == ("embedding",)
    assert "reranker: not in models, left out" in capsys.readouterr().err


def test_a_slow_model_gets_two_waves_and_a_fast_one_three_windows():
    assert choose_requests(QUICK, 1, rate=0.1) == bench.PROBE_REQUESTS
    assert choose_requests(QUICK, 8, rate=2.0) == 16
    assert choose_requests(QUICK, 8, rate=70.0) == 210


def test_an_empty_repository_ends_with_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("TRIREME_MODEL_REPOSITORY", str(tmp_path / "models"))
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(bench, "prepare_tool", lambda _: None)
    assert bench.main(["--quick"]) == 1
    assert "make models" in capsys.readouterr().err


def test_what_the_time_does_not_suffice_for_is_named(monkeypatch, capsys, tmp_path):
    figures = PerfFigures("embedding", 1, 9, 3, 2.0, 500.0, 500.0, 500.0, 0.1)
    monkeypatch.setattr(bench, "measure", lambda *_: figures)
    inputs = Inputs({"embedding": tmp_path / "in.json"}, {}, tmp_path, 1, ("text",))
    stacks = {True: Stack(Settings())}
    late = dataclasses.replace(QUICK, budget_s=-1.0)
    assert list(bench.measure_models(None, stacks, ["embedding"], inputs, late)) == []
    assert "embedding, 8 in flight: left out, the time is up" in capsys.readouterr().err
