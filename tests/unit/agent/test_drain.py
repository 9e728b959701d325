"""A drain on a clock that the tests move: each sleep of the drain is one look at the server."""

import asyncio

import pytest

from trireme.agent import drain as module
from trireme.agent.drain import Drain
from trireme.agent.options import AgentOptions
from trireme.agent.replica import Replica
from trireme.triton.load import Load
from trireme.triton.probe import ServerLook

OPTIONS = AgentOptions(poll=0.5, settle=1.0, health_interval=0.5, health_failures=2)
AWAY = ServerLook("server_away", "no server answers")


def looked(*, pending=0, running=0, answered=0.0):
    return ServerLook(models=("a",), load=Load(pending, 0, running, answered, 0.0, {}, is_measured=False))


class Course:
    """What the server shows in look after look; the last one for ever."""

    def __init__(self, monkeypatch, *looks):
        self.now, self.looks, self.marks = 50.0, list(looks), 0
        self.replica = Replica(OPTIONS, lambda: self.now)
        self.drain = Drain(self.replica, OPTIONS, self._mark, lambda: self.now)
        self.replica.see(self.looks[0])
        monkeypatch.setattr(module.asyncio, "sleep", self._sleep)

    def _mark(self):
        self.marks += 1

    async def _sleep(self, seconds):
        self.now += seconds
        if len(self.looks) > 1:
            self.looks.pop(0)
        self.replica.see(self.looks[0])

    def wait(self, seconds=60.0):
        return asyncio.run(self.drain.wait(seconds))


def test_an_idle_server_is_held_for_the_checks_of_its_balancer(monkeypatch):
    course = Course(monkeypatch, looked())
    report = course.wait()
    assert report.is_empty
    assert report.waited == OPTIONS.hold


def test_it_waits_for_what_runs_and_then_for_silence(monkeypatch):
    busy = [looked(pending=2, running=1, answered=n) for n in range(8)]
    course = Course(monkeypatch, *busy, looked(answered=9))
    report = course.wait()
    assert report.is_empty
    # The eighth sleep shows the first idle look, the ninth one like it, from which silence counts.
    assert report.waited == 9 * OPTIONS.poll + OPTIONS.settle


def test_at_the_limit_it_says_what_is_left(monkeypatch):
    course = Course(monkeypatch, looked(pending=2, running=1))
    report = course.wait(4.2)
    assert not report.is_empty
    assert (report.pending, report.waiting, report.running) == (2, 0, 1)
    assert report.waited == pytest.approx(4.2)


def test_no_time_at_all_only_marks(monkeypatch):
    course = Course(monkeypatch, looked())
    assert course.wait(0.0).waited == 0.0
    assert course.replica.is_draining


def test_a_second_call_joins_the_first_one(monkeypatch):
    course = Course(monkeypatch, looked())
    assert not course.wait().was_draining
    again = course.wait()
    assert again.was_draining
    assert again.is_empty
    assert again.waited == 0.0
    assert course.marks == 1


def test_a_server_that_dies_amid_its_drain_has_nothing_left(monkeypatch):
    course = Course(monkeypatch, looked(running=1), looked(running=1), AWAY)
    report = course.wait()
    assert report.is_empty
    assert report.running == 0
