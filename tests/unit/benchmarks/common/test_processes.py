import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.common.processes import (
    JsonProcess,
    end_session,
    find_session,
    list_family,
    make_flags,
    read_family_time,
    read_named_times,
    read_others_time,
    read_session_time,
    read_session_waits,
    read_shared_memory,
    read_status,
    wait_for_page,
)
from trireme.errors import UnavailableError

ANSWERS = """
import sys, time
for line in sys.stdin:
    if "late" in line:
        time.sleep(60)
    print('{"error": "ValueError: no"}' if "boom" in line else line.strip(), flush=True)
"""


def test_options_are_named_as_on_a_command_line():
    assert make_flags(http_port=1, model="x") == ["--http-port", "1", "--model", "x"]


@pytest.fixture
def process(tmp_path):
    made = JsonProcess("it", [sys.executable, "-c", ANSWERS], tmp_path / "log", os.environ, tmp_path)
    yield made
    made.stop()


def test_a_process_answers_each_job_and_goes_on_after_an_error(process):
    assert process.ask({"do": "a"}, 20) == {"do": "a"}
    with pytest.raises(UnavailableError, match="ValueError: no"):
        process.ask({"do": "boom"}, 20)
    assert process.ask({"do": "b"}, 20) == {"do": "b"}


def test_one_that_is_late_is_named_and_ended(process):
    with pytest.raises(UnavailableError, match="it gave no answer to late within 0 s"):
        process.ask({"do": "late"}, 0.2)
    assert not process.is_running()


def test_one_that_has_ended_has_no_page():
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not wait_for_page("http://127.0.0.1:9/", ended, 60)


def find_alive(group):
    """Ids of the processes of a group that are more than remains."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == str(group) and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


def test_a_stopped_process_and_its_children_are_ended():
    sleep = "import time; time.sleep(60)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleep!r}])"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    deadline = time.monotonic() + 60
    while len(find_alive(process.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    end_session(process, patience_s=5.0)
    assert process.returncode is not None
    while find_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert find_alive(process.pid) == []


def test_children_that_outlive_their_parent_are_ended():
    sleep = "import time; time.sleep(60)"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}])"
    process = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    process.wait()
    assert len(find_alive(process.pid)) == 1
    end_session(process)
    deadline = time.monotonic() + 60
    while find_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert find_alive(process.pid) == []


@pytest.fixture
def write_process(tmp_path, monkeypatch):
    """A /proc of our own. Ticks: of the process itself, and of its children that ended."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    monkeypatch.setattr(psutil, "process_iter", lambda: [psutil.Process(pid) for pid in psutil.pids()])
    (tmp_path / "stat").write_text("cpu  200 0 50 900 7 0 0 3 0 0\ncpu0 1\nbtime 5\n", encoding="utf-8")

    def write(pid, name, parent, own, ended=0):
        (tmp_path / str(pid)).mkdir()
        fields = ["S", str(parent), *["0"] * 9, str(own), "0", str(ended), *["0"] * 30]
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n", encoding="utf-8")

    return write


TICK = os.sysconf("SC_CLK_TCK")


def test_processor_time_is_summed_over_a_session(write_process, monkeypatch):
    sessions = {1: 7, 2: 7, 3: 8}
    monkeypatch.setattr(os, "getsid", lambda pid: sessions[pid])
    for pid, name, ticks in ((1, "server", 200), (2, "a (stub) x", 100), (3, "other", 9)):
        write_process(pid, name, 0, ticks)
    assert read_session_time(7) == pytest.approx(300 / TICK)
    assert read_named_times("a (")["a (stub) x:2"] == pytest.approx(100 / TICK)


def test_the_time_of_others_leaves_out_a_process_and_all_below_it(write_process):
    for pid, parent, own, ended in ((10, 1, 5, 20), (11, 10, 30, 0), (12, 11, 40, 0), (13, 1, 100, 0)):
        write_process(pid, "a b", parent, own, ended)
    assert [process.pid for process in list_family(10)] == [10, 11, 12]
    assert read_family_time(10) == pytest.approx(95 / TICK)
    assert read_others_time(10) == pytest.approx((253 - 95) / TICK)


def test_this_machine_can_be_read():
    assert read_session_time(os.getsid(0)) > 0
    assert os.getpid() in [process.pid for process in list_family(os.getppid())]
    assert read_family_time(os.getpid()) > 0 and read_others_time(os.getpid()) > 0
    found = read_status(os.getpid(), "VmRSS", "VmHWM", "absent")
    assert set(found) == {"VmRSS", "VmHWM"} and 0 < found["VmRSS"] <= found["VmHWM"]
    assert read_shared_memory(psutil.Process().name()) > 0


def test_the_session_of_a_listener_is_found_by_its_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert find_session(port) == os.getsid(0)
    assert find_session(port) == 0


def test_how_long_threads_ran_and_waited_is_read_of_a_session():
    ran, waited = read_session_waits(os.getsid(0))
    assert ran > 0 and waited >= 0
    assert read_session_waits(2**30) == (0.0, 0.0)
