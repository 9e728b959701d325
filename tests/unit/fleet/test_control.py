"""What a fleet says of itself, and how it is asked to restart."""

import pytest

from trireme.errors import UnavailableError
from trireme.fleet.control import (
    MOST_KEPT,
    ControlFolder,
    FleetState,
    ReplicaState,
    RollState,
    latest,
    running_fleet,
)
from trireme.kept_server import SERVER_LOCK
from trireme.locks import try_lock
from trireme.settings import Settings

REPLICA = ReplicaState("1", "127.0.0.11", 8000, 8003, 8002, 8005, "serving")
STATE = FleetState((REPLICA,), "127.0.0.10:8002", {"a": RollState("failed", ("1",), error="why")})


@pytest.fixture
def control(tmp_path):
    folder = ControlFolder(tmp_path)
    folder.clear()
    return folder


def test_what_is_said_is_read(control):
    assert control.read() is None
    control.say(STATE)
    assert control.read() == STATE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"replicas": 1}', '{"replicas": [{}], "rolls": {}}'])
def test_what_cannot_be_read_is_nothing(control, text):
    (control.path / "state.json").write_text(text)
    assert control.read() is None
    (control.path / "restart.json").write_text(text)
    assert control.take_request() is None
    assert not (control.path / "restart.json").exists()


def test_a_request_is_taken_once(control):
    asked = control.ask_restart(12.5)
    taken = control.take_request()
    assert (taken.id, taken.drain_seconds) == (asked, 12.5)
    assert control.take_request() is None


def test_a_new_stack_forgets_what_the_last_one_said_and_was_asked(control):
    control.say(STATE)
    control.ask_restart(1.0)
    control.clear()
    assert control.read() is None
    assert control.take_request() is None


def test_a_request_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="cannot write into"):
        ControlFolder(tmp_path / "none").ask_restart(1.0)


def test_a_stack_that_is_gone_says_nothing(control, tmp_path):
    control.say(STATE)
    settings = Settings(data_dir=tmp_path)
    assert running_fleet(settings) is None
    with (tmp_path / SERVER_LOCK).open("ab") as lock:
        assert try_lock(lock)
        assert running_fleet(settings) == STATE
    assert running_fleet(settings) is None


def test_only_the_last_restarts_are_kept():
    rolls = {str(number): RollState("done") for number in range(MOST_KEPT + 2)}
    assert list(latest(rolls)) == [str(number) for number in range(2, MOST_KEPT + 2)]
