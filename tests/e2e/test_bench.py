"""The benchmark's one-minute version against a real server: that it works, not how fast anything is."""

import subprocess
import sys

import psutil
import pytest
from stacks import ROOT


@pytest.mark.alone
def test_a_smoke_run_measures_ours_and_prints_every_bar():
    # In the checkout's own data folder, where perf_analyzer is kept once it is downloaded.
    command = [sys.executable, "-m", "benchmarks.encoders.run", "--smoke"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for words in (
        "c, 32 in flight: Trireme ",
        "rerank 20, 1 in flight: Trireme reranker",
        "Poisson",
        "search: ",
    ):
        assert words in done.stderr, done.stderr
    assert "failed" not in done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    measured = {row[1].strip() for row in rows if row[4].strip() != "not measured"}
    assert "a, 1 in flight: what Triton adds to a request, median" in measured
    assert "c: padding, of the tokens computed" in measured
    assert "search: the chain's own time, mean" in measured
    assert not [path for path in (ROOT / "docs").glob("*.tmp")]


def test_a_run_that_is_ended_leaves_no_process_behind():
    command = [sys.executable, "-m", "benchmarks.encoders.run", "--smoke"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    started = [psutil.Process(process.pid)]
    for line in process.stderr:
        if line.startswith("c, 32 in flight"):
            started += started[0].children(recursive=True)
            process.terminate()
            break
    assert "nothing was written" in process.stderr.read()
    assert process.wait(120) == 130
    process.stderr.close()
    assert len(started) > 3
    _, alive = psutil.wait_procs(started[1:], timeout=60)
    assert alive == []
