"""A worker as a child: killed, it is back at once; one that gives up is tried later and later."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from trireme.child_process import DEFAULT_TIMING, ChildProcess, RestartTiming
from trireme.settings import Settings, environment

# Nothing listens there: the worker waits.
WAITS = environment(Settings(database_url="postgresql://127.0.0.1:1/none"))
GIVES_UP = WAITS | {"TRIREME_NO_SUCH_SETTING": "1"}


class Clock:
    """Time that passes only where the test says so."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def start(tmp_path, clock):
    started = []

    def make(settings, timing=DEFAULT_TIMING):
        log = tmp_path / "logs" / "worker.log"
        started.append(ChildProcess("worker", {**os.environ, **settings}, log, timing, clock))
        return started[-1]

    yield make
    for process in started:
        process.stop()


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_worker_that_is_killed_is_started_again(start, clock):
    notices = []
    worker = start(WAITS)
    first = worker.pid
    psutil.Process(first).kill()
    wait_until(lambda: not worker.is_running())
    worker.look_after(notices.append)
    clock.now += RestartTiming().pause
    worker.look_after(notices.append)
    assert worker.is_running()
    assert worker.pid != first
    assert len(notices) == 1
    assert "worker.log" in notices[0]


def test_a_worker_that_gives_up_is_started_later_and_later(start, clock, tmp_path):
    worker = start(GIVES_UP)
    pauses = [starts_after(worker, clock) for _ in range(4)]
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    wait_until(lambda: not worker.is_running())
    log = (tmp_path / "logs" / "worker.log").read_text()
    assert log.count("unknown setting TRIREME_NO_SUCH_SETTING") == 5


def test_a_worker_that_gives_up_is_waited_for_no_longer_than_the_longest_pause(start, clock):
    worker = start(GIVES_UP, RestartTiming(longest_pause=1.5))
    assert [starts_after(worker, clock) for _ in range(3)] == [1.0, 1.5, 1.5]


def test_a_worker_that_lived_long_is_started_again_soon(start, clock):
    worker = start(GIVES_UP)
    assert starts_after(worker, clock) == 1.0
    clock.now += RestartTiming().long_life
    assert starts_after(worker, clock) == 0.5


def starts_after(worker, clock):
    """Seconds from the end of the worker until it is started again."""
    known, ended = worker.pid, None
    wait_until(lambda: not worker.is_running())
    while worker.pid == known:
        worker.look_after(lambda notice: None)
        ended = clock.now if ended is None else ended
        if worker.pid == known:
            clock.now += 0.25
    return clock.now - ended


def test_stopping_ends_the_process_and_may_be_done_twice(start):
    worker = start(WAITS)
    worker.stop()
    assert not worker.is_running()
    worker.stop()


def test_a_worker_ends_when_what_started_it_was_killed(tmp_path):
    script = (
        "import os, sys, time, pathlib\n"
        "from trireme.child_process import ChildProcess\n"
        "worker = ChildProcess('worker', dict(os.environ), pathlib.Path(sys.argv[1]))\n"
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
