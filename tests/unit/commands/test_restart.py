"""`trireme restart` against what a stack says in its files."""

import argparse
import threading
import time

import pytest

from trireme.commands.restart import _restart, restart
from trireme.errors import SettingError, UnavailableError
from trireme.fleet.control import ControlFolder, FleetState, RollState
from trireme.kept_server import SERVER_LOCK
from trireme.locks import try_lock
from trireme.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path)


@pytest.fixture
def control(settings):
    folder = ControlFolder(settings.data_dir)
    folder.clear()
    return folder


@pytest.fixture
def lock(settings):
    """Held as by a running stack, until it is closed."""
    with (settings.data_dir / SERVER_LOCK).open("ab") as file:
        assert try_lock(file)
        yield file


class Stack:
    """Takes one request and says these states, one after the other; `taken` is the request."""

    def __init__(self, control, states, then=lambda: None):
        control.say(FleetState((), "127.0.0.10:8002"))
        self._control, self._states, self._then = control, states, then
        self.taken = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while (request := self._control.take_request()) is None:
            time.sleep(0.01)
        self.taken = request
        for state in self._states:
            self._control.say(FleetState((), "127.0.0.10:8002", {request.id: state}))
            time.sleep(0.3)
        self._then()

    def join(self):
        self._thread.join()


def test_it_tells_of_each_replica_and_returns_when_all_are_done(settings, control, lock):
    stack = Stack(control, [RollState("running", ("1",), "2"), RollState("done", ("1", "2"))])
    told = []
    assert restart(settings, 7.5, told.append) == ("1", "2")
    stack.join()
    assert told == ["Replica 1 was restarted.", "Replica 2 was restarted."]
    assert stack.taken.drain_seconds == 7.5


def test_a_restart_that_failed_says_why(settings, control, lock):
    stack = Stack(control, [RollState("failed", ("1",), error="replica 2: no weights")])
    told = []
    with pytest.raises(UnavailableError, match="replica 2: no weights"):
        restart(settings, 1.0, told.append)
    stack.join()
    assert told == ["Replica 1 was restarted."]


def test_a_stack_that_ends_meanwhile_is_told(settings, control, lock):
    stack = Stack(control, [RollState("running")], then=lock.close)
    with pytest.raises(UnavailableError, match="the stack ended"):
        restart(settings, 1.0, lambda _: None)
    stack.join()


def test_where_no_stack_runs_none_is_asked(settings, control):
    control.say(FleetState((), "127.0.0.10:8002"))
    with pytest.raises(UnavailableError, match=r"no stack runs with the data in .*; see TRIREME_DATA_DIR"):
        restart(settings, 1.0, lambda _: None)
    assert control.take_request() is None


def test_a_stack_without_replicas_says_how_to_have_some(settings, control, lock):
    with pytest.raises(UnavailableError, match="serve with --replicas 2"):
        restart(settings, 1.0, lambda _: None)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_that_are_none_are_refused(settings, seconds):
    with pytest.raises(SettingError, match="--drain-seconds"):
        _restart(argparse.Namespace(drain_seconds=seconds), settings, None)
