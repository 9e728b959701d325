"""The table of stubs, over processes that only look like stubs."""

import os
import signal
import subprocess
import sys
import time

import pytest

from trireme.triton import stubs
from trireme.triton.stubs import StubTable

# Argument 0 is what a stub's is; the model's folder is in the first argument.
PARENT = """
import subprocess, sys, time
sleep = ["-c", "import time; time.sleep(60)"]
names = ("/x/triton_python_backend_stub", sys.executable)
children = [subprocess.Popen([name, *sleep], executable=sys.executable) for name in names]
print(children[0].pid, children[1].pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family():
    """A parent, its stub and a child that is none."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    yield parent.pid, *pids
    for pid in (*pids, parent.pid):
        os.kill(pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_stubs_are_told_from_other_children(family):
    parent, stub, _ = family
    wait_until(lambda: StubTable(parent).stubs)
    table = StubTable(parent)
    assert [one.pid for one in table.stubs] == [stub]
    assert table.ended() == []
    assert table.resident_bytes() > 1_000_000


def test_a_stub_that_was_killed_is_told_though_nobody_reaps_it(family):
    parent, stub, _ = family
    wait_until(lambda: StubTable(parent).stubs)
    table = StubTable(parent)
    os.kill(stub, signal.SIGKILL)
    wait_until(table.ended)


def test_a_stub_that_stands_still_is_told_after_a_while_and_a_short_stop_is_not(family, monkeypatch):
    monkeypatch.setattr(stubs, "STOPPED_SECONDS", 0.2)
    parent, stub, _ = family
    wait_until(lambda: StubTable(parent).stubs)
    table = StubTable(parent)
    os.kill(stub, signal.SIGSTOP)
    wait_until(lambda: table._stopped_at or table.ended())
    os.kill(stub, signal.SIGCONT)
    wait_until(lambda: table.ended() == [] and not table._stopped_at)
    os.kill(stub, signal.SIGSTOP)
    wait_until(table.ended)


def test_a_server_that_is_gone_has_no_stubs():
    child = subprocess.Popen(["true"])
    child.wait()
    assert StubTable(child.pid).stubs == ()


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        (["stub", "/models/embedding/1/model.py", "region"], "embedding"),
        (["stub", "/models/my_0_model_1/3/model.py"], "my_0_model_1"),
        (["stub"], "of unknown name"),
    ],
)
def test_a_stub_is_named_by_its_models_folder(arguments, model):
    assert stubs._model_of(arguments) == model


def test_memory_that_a_second_server_would_share_is_not_its_own(family):
    parent, *_ = family
    table = StubTable(parent)
    assert 0 < table.own_bytes() < table.resident_bytes()
