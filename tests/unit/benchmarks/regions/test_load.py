"""Calls at a steady rate: each is counted once, however it ends."""

import threading
from types import SimpleNamespace

import grpc
import pytest

from benchmarks.regions import load
from benchmarks.regions.load import Load
from trireme.errors import UnavailableError


class Call:
    """One of gRPC's that a test ends."""

    def __init__(self):
        self._ended = threading.Event()
        self._tell = None

    def add_done_callback(self, tell):
        self._tell = tell
        if self._ended.is_set():
            tell(self)

    def end(self, answer="eu", code=grpc.StatusCode.OK):
        self.result, self.code, self.details = lambda: answer, lambda: code, lambda: "as told"
        self._ended.set()
        if self._tell:
            self._tell(self)
        return self


def test_calls_begin_in_time_and_each_ends_with_who_answered_or_why_nobody_did():
    waiting = [Call().end("eu"), Call().end("us"), Call().end(code=grpc.StatusCode.UNAVAILABLE)]
    made = iter(waiting)
    outcomes = Load(lambda: next(made), lambda answer: answer, per_second=1000, calls=3).wait()
    assert [(one.region, one.error) for one in outcomes] == [
        ("eu", ""),
        ("us", ""),
        ("", "UNAVAILABLE: as told"),
    ]
    assert [one.began_s for one in outcomes] == sorted(one.began_s for one in outcomes)
    assert outcomes[2].began_s >= 0.002
    assert all(one.took_s >= 0 for one in outcomes)


def test_a_call_that_does_not_end_delays_no_other():
    calls = [Call() for _ in range(3)]
    made = iter(calls)
    running = Load(lambda: next(made), lambda answer: answer, per_second=1000, calls=3)
    begun = threading.Event()
    for one in calls[1:]:
        while one._tell is None:
            begun.wait(0.001)
        one.end()
    assert len(running.wait(lambda outcomes: len(outcomes) >= 2)) == 2
    calls[0].end("us")
    assert [one.region for one in running.wait()] == ["eu", "eu", "us"]


def test_a_load_that_is_stopped_ends_with_what_it_has_begun():
    begun = threading.Event()

    def start():
        begun.set()
        return Call().end()

    running = Load(start, lambda answer: answer, per_second=0.001, calls=1000)
    assert begun.wait(30)
    running.stop()
    assert len(running.wait()) == 1


def test_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(load, "_PATIENCE_S", 0.01)
    with pytest.raises(UnavailableError, match="no call has ended"):
        Load(Call, SimpleNamespace, per_second=1000, calls=1).wait()
