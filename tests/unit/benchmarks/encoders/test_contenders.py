import json
import sys
from pathlib import Path

import pytest

from benchmarks.encoders import contenders
from benchmarks.encoders.contenders import (
    Load,
    Pace,
    Sample,
    ServerAddress,
    Task,
    TritonContender,
    WorkerContender,
    summarize,
)
from trireme.errors import UnavailableError
from trireme.tune.perf_analyzer import PerfFigures

# Answers as a worker does: it knows three texts a second and fails on the job "boom".
WORKER = """
import json, sys
for line in sys.stdin:
    job = json.loads(line)
    if job["do"] == "boom":
        reply = {"error": "ValueError: no"}
    elif job["do"] == "load":
        reply = {"versions": {"library": "1.0", "engine": job["engine"]}}
    elif job["do"] == "end":
        break
    else:
        reply = {"texts": job["call"] * 2, "seconds": 2.0, "cpu_s": 3.0, "calls_s": [0.5, 1.5]}
    print(json.dumps(reply), flush=True)
"""


@pytest.fixture
def task(tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps({"texts": [f"text {i}" for i in range(10)]}), encoding="utf-8")
    return Task("c", file, {"embedding": file}, {}, tokens=(10, 20, 10, 20))


@pytest.fixture
def worker(tmp_path, monkeypatch):
    (tmp_path / "fake_worker.py").write_text(WORKER, encoding="utf-8")
    monkeypatch.setattr(contenders, "WORKER", "fake_worker")
    monkeypatch.setattr(contenders, "PROJECT", tmp_path)
    made = WorkerContender(
        "lib",
        "what",
        python=Path(sys.executable),
        engine="lib/x",
        model=tmp_path,
        work=tmp_path,
        threads=2,
    )
    yield made
    made.stop()


def test_a_worker_tells_its_versions_and_measures_calls(worker, task):
    assert worker.start() == {"library": "1.0", "engine": "lib/x"}
    sample = worker.measure(task, Load(1, 4), 1.0)
    assert sample.texts_per_s == 4.0
    # Eight texts from the first on: the known lengths, and again.
    assert sample.tokens_per_s == 4.0 * 15
    assert (sample.p50_ms, sample.p95_ms, sample.requests) == (500.0, 1500.0, 2)
    assert sample.cpu_ms_per_text == 375.0


def test_a_workers_error_is_the_librarys_own_and_the_worker_goes_on(worker, task):
    worker.start()
    with pytest.raises(UnavailableError, match="ValueError: no"):
        worker.ask(do="boom")
    assert worker.measure(task, Load(1, 4), 1.0).requests == 2


@pytest.mark.parametrize(
    ("engine", "folder"),
    [
        ("sentence-transformers/onnx-int8", "embedder-onnx-int8"),
        ("sentence-transformers/openvino-int8-pairs", "embedder-openvino-int8"),
    ],
)
def test_a_library_that_exports_does_so_once(tmp_path, engine, folder):
    def make(engine):
        model = tmp_path / "embedder"
        return WorkerContender(
            "lib", "what", python=tmp_path, engine=engine, model=model, work=tmp_path, threads=1
        )

    assert not make(engine).is_exported()
    (tmp_path / folder).mkdir()
    (tmp_path / folder / ".done").touch()
    assert make(engine).is_exported()
    assert make("sentence-transformers/torch-bf16").is_exported()
    assert make("trireme/served").is_exported()


def test_a_worker_that_ends_is_named(worker):
    worker.start()
    with pytest.raises(UnavailableError, match="gave no answer to end"):
        worker.ask(do="end")
    with pytest.raises(UnavailableError, match="lib is not running"):
        worker.ask(do="count")


def test_an_environment_that_is_not_set_up_is_named(tmp_path):
    absent = tmp_path / "infinity" / "bin" / "python"
    worker = WorkerContender(
        "lib", "what", python=absent, engine="lib/x", model=tmp_path, work=tmp_path, threads=1
    )
    with pytest.raises(UnavailableError, match="environment is not set up"):
        worker.start()


def test_triton_is_probed_once_for_each_load_and_its_cost_is_counted(task, monkeypatch, tmp_path):
    runs = []

    def run(_tool, run, timeout_s):
        runs.append(run)
        return PerfFigures(run.model, run.concurrency, 90, 3, 50.0, 10.0, 20.0, 30.0, 0.1)

    monkeypatch.setattr(contenders, "run_perf_analyzer", run)
    monkeypatch.setattr(contenders, "read_metrics", lambda *_: "")
    address = ServerAddress(1, "127.0.0.1", "127.0.0.1:1", 1, {"trireme": "1"})
    ours = TritonContender("Trireme", "what", "embedding", address, tool=None)
    sample = ours.measure(task, Load(8, 2), 4.0)
    assert [(one.concurrency, one.batch, one.requests) for one in runs] == [(8, 2, 24), (8, 2, 208)]
    assert sample.texts_per_s == 100.0
    assert sample.tokens_per_s == 100.0 * 15
    ours.measure(task, Load(8, 2), 4.0)
    ours.measure(task, Load(8, 1, rate=35.0), 2.0)
    assert len(runs) == 4
    assert (runs[-1].request_rate, runs[-1].requests) == (35.0, 78)


def test_a_run_holds_two_waves_at_least():
    pace, task = Pace(), Task("c", Path("x"), {}, {})
    assert pace.choose(task, Load(1), 4.0) == contenders.PROBE_REQUESTS + 1
    assert pace.choose(task, Load(32), 4.0) == 96
    pace.learn(task, Load(32), 100.0)
    assert pace.choose(task, Load(32), 4.0) == 432


def test_a_summary_takes_medians_and_all_requests():
    samples = [Sample(10, rate, rate * 2, 5.0 + rate, 6.0, 7.0, 1.0) for rate in (1.0, 3.0, 2.0)]
    found = summarize(samples)
    assert (found.requests, found.texts_per_s, found.tokens_per_s, found.p50_ms) == (30, 2.0, 4.0, 7.0)


def test_a_perf_analyzer_that_never_ends_is_run_once_more(task, monkeypatch, capsys):
    tries = []

    def run(_tool, run, timeout_s):
        tries.append(timeout_s)
        if len(tries) == 1:
            raise UnavailableError("perf_analyzer took over 60 s")
        return PerfFigures(run.model, run.concurrency, 90, 3, 50.0, 10.0, 20.0, 30.0, 0.1)

    monkeypatch.setattr(contenders, "run_perf_analyzer", run)
    monkeypatch.setattr(contenders, "read_metrics", lambda *_: "")
    address = ServerAddress(1, "127.0.0.1", "127.0.0.1:1", 1, {"trireme": "1"})
    ours = TritonContender("Trireme", "what", "embedding", address, tool=None)
    assert ours.measure(task, Load(8, 2), 4.0).requests == 90
    assert len(tries) == 3
    assert "once more: perf_analyzer took over 60 s" in capsys.readouterr().err
