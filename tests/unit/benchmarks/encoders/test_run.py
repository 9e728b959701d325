import contextlib
import json

import pytest

from benchmarks.common.report import Circumstances
from benchmarks.common.workloads import Workload
from benchmarks.encoders import run as bench
from benchmarks.encoders.lineup import RERANKED, Bench, read_lock_versions, start_contenders, write_tasks
from benchmarks.encoders.models import EMBEDDING, PAIR_RANKER, RERANKER, BenchModels
from benchmarks.encoders.results import INFINITY, BenchReport
from benchmarks.encoders.scenarios import FULL
from trireme.errors import UnavailableError
from trireme.settings import Settings


def test_an_empty_repository_ends_with_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("TRIREME_MODEL_REPOSITORY", str(tmp_path / "models"))
    monkeypatch.setenv("TRIREME_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(bench, "prepare_tool", lambda _: None)
    assert bench.main(["--smoke"]) == 1
    assert "error: " in capsys.readouterr().err


def test_a_smoke_run_has_no_rivals(monkeypatch):
    asked = []

    def stop(options, words):
        asked.append((options.rivals, words))
        raise UnavailableError("that is all")

    monkeypatch.setattr(bench, "run_all", stop)
    for words in (["--smoke"], [], ["--no-rivals"]):
        assert bench.main(words) == 1
    assert asked == [(False, ["--smoke"]), (True, []), (False, ["--no-rivals"])]


def test_a_result_is_named_by_day_and_machine():
    seen = Circumstances("AMD EPYC (R)", 2, (), 4.0, 0.5, "Linux", {}, "2026-01-02 10:00 UTC", 7, "python x")
    report = BenchReport((), (), (), (), (), {}, {}, {}, (), None, (), 1.0, seen)
    assert bench.name_result(report) == "2026-01-02-amd-epyc-r-2-cores.json"


@pytest.fixture
def run(tmp_path):
    models = BenchModels(tmp_path, tmp_path, tmp_path, {})
    return Bench(Settings(), FULL, models, tmp_path, tmp_path, None, 1)


def test_every_model_has_its_inputs(run):
    drawn = [Workload(name, "words", tuple(f"{name} {i}" for i in range(200)), (4,) * 200) for name in "abc"]
    tasks = write_tasks(run, drawn, reranked=3)
    assert set(tasks) == {"a", "b", "c", *RERANKED}
    for name in "abc":
        assert {EMBEDDING, "plain"} <= set(tasks[name].perf_files)
        assert len(tasks[name].tokens) == len(json.loads(tasks[name].file.read_text())["texts"])
    task = tasks["rerank 20"]
    assert task.texts_per_item == 20
    assert task.shapes == {PAIR_RANKER: ("passages:20",), RERANKER: ("passages:20", "prior:20")}


class Startable:
    what = "a fake"

    def __init__(self, name, error=None):
        self.name, self.error, self.is_stopped = name, error, False

    def start(self):
        if self.error:
            raise UnavailableError(self.error)
        return {"library": "1.0"}

    def pause(self, paused):
        assert paused

    def stop(self):
        self.is_stopped = True


def test_one_that_does_not_start_is_an_entrant_with_its_error(run, monkeypatch):
    monkeypatch.setattr("benchmarks.encoders.lineup.read_failure", lambda _: "")
    fine, broken = Startable("Trireme"), Startable(f"{INFINITY} torch", "no port")
    with contextlib.ExitStack() as resources:
        ready, entrants = start_contenders([fine, broken], run, resources)
    assert list(ready) == ["Trireme"]
    assert [(one.name, one.error) for one in entrants] == [("Trireme", ""), (f"{INFINITY} torch", "no port")]
    assert fine.is_stopped
    assert broken.is_stopped


def test_an_installation_that_failed_is_what_is_told(run, monkeypatch):
    monkeypatch.setattr("benchmarks.encoders.lineup.read_failure", lambda name: f"{name}: no wheel came")
    with contextlib.ExitStack() as resources:
        _, entrants = start_contenders([Startable(f"{INFINITY} torch", "not set up")], run, resources)
    assert entrants[0].error == "infinity: no wheel came"


def test_infinitys_versions_are_those_of_its_lock_file():
    found = read_lock_versions("infinity", ("infinity_emb", "absent"))
    assert found == {"infinity_emb": "0.0.77"}
