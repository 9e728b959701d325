"""make scale-demo, in short: what it prints when its output is no terminal."""

import re
import subprocess
import sys

import pytest
from stacks import ROOT

LINE = re.compile(
    r" *(?P<at>\d+) s  (?P<phase>all is well|eu has vanished|eu is back): "
    r"eu (?P<eu>\d+)/s(?: p50 \d+ ms)? \((?P<own>\w+, \w+)\), us (?P<us>\d+)/s(?: p50 \d+ ms)? \(\w+, \w+\); "
    r"failed (?P<failed>\d+), slowest \d+\.\d\d s; order eu, us"
)
SECONDS = 6


def run(*words):
    command = [sys.executable, "-m", "benchmarks.regions.demo", "--seconds", str(SECONDS), *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "words", [pytest.param((), marks=pytest.mark.namespaces), ("--loopback",)], ids=["links", "loopback"]
)
def test_each_second_says_who_serves_while_a_region_vanishes_and_comes_back(words):
    done = run(*words, "--per-second", "30")
    assert done.returncode == 0, done.stderr
    first, *lines, last = done.stdout.splitlines()
    if words:
        assert (
            first == "All is on the loopback of this machine, without delay; eu's replicas will be stopped."
        )
        first, *lines = lines
    assert first == "30 idempotent calls a second to the Envoy of eu; us is the next region."
    seconds = [LINE.fullmatch(line) for line in lines]
    assert all(seconds), done.stdout
    assert [int(one["at"]) for one in seconds] == [*range(1, SECONDS + 1)]
    phases = [one["phase"] for one in seconds]
    assert phases == ["all is well"] * 2 + ["eu has vanished"] * 2 + ["eu is back"] * 2
    assert re.fullmatch(rf"\d+ of {30 * SECONDS} calls failed; the slowest took \d+\.\d\d s\.", last)
    served = [sum(int(one[region]) for one in seconds) for region in ("eu", "us")]
    assert min(served) > 0


def test_a_demonstration_that_is_too_short_to_show_anything_is_refused():
    command = [sys.executable, "-m", "benchmarks.regions.demo", "--seconds", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --seconds must be at least 6, got 2\n"
