import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trireme.errors import ArtifactError, SettingError, UnavailableError
from trireme.generate.engine import EngineOptions, EngineRequest, Sampling, StructuredOutput

pytest.importorskip("openvino_genai")
sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))

from tiny_llm import write_tiny_llm

from trireme.generate.openvino import OpenVinoEngine, _Process

LONG = Sampling(max_tokens=400, temperature=0.0, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    write_tiny_llm(made)
    return made


def options(folder, **changes):
    values = {"model_dir": folder, "eos_token_ids": (1,), "max_model_len": 512, "kv_cache_gb": 0.05}
    return EngineOptions(**(values | {"threads": 1} | changes))


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_process_fails_what_runs_and_the_engine_starts_again(folder):
    engine = OpenVinoEngine(options(folder, max_num_seqs=1))
    chunks = []
    consumer = threading.Thread(target=lambda: [chunks.extend(made) for made in engine.stream()])
    consumer.start()
    engine.submit(EngineRequest("running", (5, 6, 7), LONG))
    engine.submit(EngineRequest("waiting", (5, 6), LONG))
    wait_until(lambda: chunks)
    os.kill(engine.worker_pid, signal.SIGKILL)
    wait_until(lambda: sum(chunk.is_last for chunk in chunks) == 2)
    errors = [chunk.error for chunk in chunks if chunk.is_last]
    assert all(isinstance(error, UnavailableError) and "starts again" in str(error) for error in errors)
    wait_until(lambda: engine.stats().is_ready)
    assert engine.stats().restarts == 1
    engine.submit(EngineRequest("later", (5, 6), Sampling(max_tokens=3, temperature=0.0, ignore_eos=True)))
    wait_until(lambda: any(chunk.request_id == "later" and chunk.is_last for chunk in chunks))
    assert [chunk.finish_reason for chunk in chunks if chunk.is_last][-1] == "length"
    engine.close()
    consumer.join(60)
    assert not consumer.is_alive()


def test_requests_wait_for_room_in_the_kv_cache_instead_of_being_thrown_out(folder):
    # 2 layers x 2 heads x 16 x 2 values; 20 blocks of 32 tokens hold one request of 512 and a short one.
    engine = OpenVinoEngine(options(folder, kv_cache_gb=0.0061, max_num_seqs=8))
    chunks = []
    consumer = threading.Thread(target=lambda: [chunks.extend(made) for made in engine.stream()])
    consumer.start()
    sampling = Sampling(max_tokens=200, temperature=0.0, ignore_eos=True)
    for number in range(6):
        engine.submit(EngineRequest(f"r{number}", tuple(range(5, 105)), sampling))
    wait_until(lambda: sum(chunk.is_last for chunk in chunks) == 6)
    assert {chunk.finish_reason for chunk in chunks if chunk.is_last} == {"length"}
    engine.close()
    consumer.join(60)


def test_a_kv_cache_too_small_for_one_request_is_refused_with_the_number_needed(folder):
    with pytest.raises(SettingError, match=r"kv_cache_gb is 0.0001.*needs"):
        OpenVinoEngine(options(folder, kv_cache_gb=0.0001))


def test_a_folder_without_a_model_is_refused(folder, tmp_path):
    with pytest.raises(ArtifactError, match=r"config.json"):
        OpenVinoEngine(options(tmp_path))
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ArtifactError, match="OpenVINO cannot load the model"):
        OpenVinoEngine(options(tmp_path))


def test_half_a_line_of_a_killed_process_ends_its_reports_and_no_thread():
    process = _Process.__new__(_Process)
    code = 'import os; os.write(1, b\'{"steps": [], "kv": 0}\\n{"steps": [[1, [5\'); os.kill(os.getpid(), 9)'
    process._process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert list(process.reports()) == [{"steps": [], "kv": 0}]
    process._process.wait()


def test_a_report_that_cannot_be_taken_starts_the_engine_again(folder, monkeypatch):
    engine = OpenVinoEngine(options(folder))
    chunks = []
    consumer = threading.Thread(target=lambda: [chunks.extend(made) for made in engine.stream()])
    consumer.start()
    broken = iter([ValueError("no report")])

    def deliver(made, whole=engine._table.deliver):
        for error in broken:
            raise error
        whole(made)

    monkeypatch.setattr(engine._table, "deliver", deliver)
    engine.submit(EngineRequest("lost", (5, 6, 7), LONG))
    wait_until(lambda: any(chunk.is_last for chunk in chunks))
    assert isinstance(chunks[-1].error, UnavailableError)
    wait_until(lambda: engine.stats().is_ready and engine.stats().restarts == 1)
    engine.close()
    consumer.join(60)


def test_a_process_that_knows_no_request_is_not_stuck_while_forms_are_tried(folder, monkeypatch):
    monkeypatch.setattr("trireme.generate.openvino.WATCH_SECONDS", 0.02)
    monkeypatch.setattr("trireme.generate.openvino.STUCK_SECONDS", 0.1)
    engine = OpenVinoEngine(options(folder))
    looks = []
    is_stopped = engine._worker.is_stopped
    monkeypatch.setattr(engine._forms, "ask", lambda request: looks.clear())
    monkeypatch.setattr(engine._worker, "is_stopped", lambda: looks.append(None) or is_stopped())
    form = Sampling(max_tokens=3, structured=StructuredOutput("regex", "a"))

    engine.submit(EngineRequest("tried", (5, 6), form))
    wait_until(lambda: len(looks) > 30)

    assert (engine.stats().running, engine.stats().restarts, engine.stats().is_ready) == (1, 0, True)
    engine.close()
