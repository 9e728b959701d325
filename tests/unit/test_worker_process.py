"""A worker as a child: killed, it is back at once; one that gives up is tried later and later."""

import itertools
import os
import subprocess
import sys
import time

import psutil
import pytest

from trireme.settings import Settings, environment
from trireme.worker_process import WorkerProcess

# Nothing listens there: the worker waits.
WAITS = environment(Settings(database_url="postgresql://127.0.0.1:1/none"))
GIVES_UP = WAITS | {"TRIREME_NO_SUCH_SETTING": "1"}


@pytest.fixture
def start(tmp_path):
    started = []

    def make(settings):
        started.append(WorkerProcess({**os.environ, **settings}, tmp_path / "logs" / "worker.log"))
        return started[-1]

    yield make
    for process in started:
        process.stop()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_is_killed_is_started_again(start):
    notices = []
    worker = start(WAITS)
    first = worker.pid
    psutil.Process(first).kill()
    wait_until(lambda: not worker.is_running())
    wait_until(lambda: worker.look_after(notices.append) or worker.is_running(), 5)
    assert worker.pid != first
    assert len(notices) == 1
    assert "worker.log" in notices[0]


def test_a_worker_that_gives_up_is_started_later_and_later(start, tmp_path):
    notices, starts = [], [time.monotonic()]
    worker = start(GIVES_UP)
    while len(starts) < 4:
        known = worker.pid
        wait_until(lambda: not worker.is_running())
        wait_until(lambda known=known: worker.look_after(notices.append) or worker.pid != known)
        starts.append(time.monotonic())
    pauses = [after - before for before, after in itertools.pairwise(starts)]
    assert pauses[2] > pauses[0] + 1.0
    assert (tmp_path / "logs" / "worker.log").read_text().count(
        "unknown setting TRIREME_NO_SUCH_SETTING"
    ) >= 3


def test_stopping_ends_the_process_and_may_be_done_twice(start):
    worker = start(WAITS)
    worker.stop()
    assert not worker.is_running()
    worker.stop()


def test_a_worker_ends_when_what_started_it_was_killed(tmp_path):
    script = (
        "import os, sys, time, pathlib\n"
        "from trireme.worker_process import WorkerProcess\n"
        "worker = WorkerProcess(dict(os.environ), pathlib.Path(sys.argv[1]))\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    log = tmp_path / "worker.log"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(log)],
        env={**os.environ, **WAITS},
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = psutil.Process(int(parent.stdout.readline()))
    wait_until(lambda: "Worker started" in log.read_text())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
