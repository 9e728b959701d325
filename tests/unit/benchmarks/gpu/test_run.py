import argparse
import json
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import run as script


@pytest.fixture
def run(tmp_path):
    options = {
        "site": tmp_path,
        "triton": tmp_path,
        "whole": [],
        "cards": [],
        "signals": [],
        "streams": "2",
        "rounds": "3",
    }
    return script.Run(argparse.Namespace(work=tmp_path / "work", seconds=60, measure_seconds=0.5, **options))


def notes(run):
    return [json.loads(line) for line in (run.work / "results.jsonl").read_text().splitlines()]


def is_running(number):
    """Whether the process is there and not only its exit status, which nobody has asked for."""
    try:
        return (Path("/proc") / str(number) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_process_that_is_too_slow_is_ended_with_its_children(run, tmp_path):
    child = tmp_path / "child"
    code = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(child)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    process = run.start("slow", [sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not (child.exists() and child.read_text()) and time.monotonic() < until:
        time.sleep(0.01)
    assert not run.collect("slow", process, run.tokens)
    assert process.poll() is not None
    assert not is_running(int(child.read_text()))
    (note,) = notes(run)
    assert (note["name"], note["failed"], note["seconds"]) == ("slow", -1, 0.5)
    assert note["tokens"] == 2 * (1 + 3 * 3) * 128, "the warm-up and three repetitions"


def test_what_is_ended_while_it_measures_something_else_says_no_speed(run):
    assert not run.collect("slow", run.start("slow", ["sleep", "60"]))
    (note,) = notes(run)
    assert "tokens" not in note


def test_results_are_noted_and_other_lines_are_not(run):
    run.measure_seconds = 20
    code = "print('noise'); print('RESULT {\"rate\": 3}')"
    assert run.collect("quick", run.start("quick", [sys.executable, "-c", code]), run.tokens)
    (note,) = notes(run)
    assert (note["name"], note["rate"]) == ("quick", 3)
    assert "failed" not in note


def test_a_process_that_is_slow_to_leave_after_its_result_was_measured(run):
    run.measure_seconds = 3
    code = "import time; print('RESULT {\"rate\": 3}', flush=True); time.sleep(60)"
    assert run.collect("slow", run.start("slow", [sys.executable, "-c", code]), run.tokens)
    (note,) = notes(run)
    assert note["rate"] == 3
    assert "tokens" not in note


def test_the_servers_links_are_made_once_before_the_first_server(run, tmp_path, monkeypatch):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton" / "env.sh").write_text(f'echo "$T_PP" >> {tmp_path}/sourced\n')
    (tmp_path / "config.json").write_text("{}")
    began = []

    class Server:
        def __init__(self, run, name, checkpoint, number):
            assert (tmp_path / "sourced").read_text() == f"{run.server_path}\n"
            self.name = name
            began.append(name)

    monkeypatch.setattr(script, "Server", Server)
    pairs = [(name, str(tmp_path)) for name in ("default-a", "default-b")]
    assert len(script.start_servers(run, pairs)) == len(began) == 2


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        (None, ("none", 16, 0)),
        ({"quant_method": "awq", "bits": 4, "group_size": 32}, ("awq", 4, 32)),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128}, ("gptq", 8, 128)),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("bnb-int8", 8, 0)),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ("bnb-nf4", 4, 0)),
    ],
)
def test_a_checkpoint_is_described_by_its_config(tmp_path, stated, expected):
    config = {"quantization_config": stated} if stated else {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = script.describe("default-x", tmp_path)
    assert (found["method"], found["bits"], found["group_size"]) == expected
    assert found["model"] == "SmolLM2-135M-Instruct"
