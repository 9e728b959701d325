"""What a fleet refuses, and what it ends of the one before; tests/e2e has the whole of it."""

import subprocess
import sys

import pytest

from trireme.errors import SettingError
from trireme.fleet import fleet as fleet_module
from trireme.fleet.control import ControlFolder, RollState
from trireme.fleet.fleet import Fleet, check_memory
from trireme.fleet.leftovers import end_leftovers, envoy_note
from trireme.fleet.replica import Replica
from trireme.kept_server import KeptServer
from trireme.settings import Settings

GB = 10**9


def test_memory_that_does_not_carry_the_replicas_is_refused_with_the_numbers():
    with pytest.raises(SettingError) as refusal:
        check_memory(4 * GB, 4, 9 * GB)
    told = str(refusal.value)
    assert "--replicas 4 needs 12.0 GB beside the first server's 4.0 GB, and 9.0 GB are free" in told
    assert "at most --replicas 3 fits" in told


@pytest.mark.parametrize(("count", "free"), [(1, 0), (3, 8 * GB)])
def test_memory_that_carries_them_is_enough(count, free):
    check_memory(4 * GB, count, free)


@pytest.fixture
def left(tmp_path):
    """A process that is called like Envoy, of a supervisor that is gone."""
    program = tmp_path / "envoy"
    program.symlink_to(sys.executable)
    script = "import time; print('here', flush=True); time.sleep(600)"
    process = subprocess.Popen(
        [str(program), "-c", script],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    # Before it runs, the kernel does not say what it is called.
    assert process.stdout.readline() == b"here\n"
    yield process
    process.kill()
    process.communicate()


def test_an_envoy_whose_supervisor_was_killed_is_ended(tmp_path, left):
    note = envoy_note(tmp_path)
    note.parent.mkdir(parents=True)
    note.write_text(str(left.pid))
    end_leftovers(tmp_path)
    assert left.wait(60) != 0


def test_a_process_that_only_has_the_number_of_a_server_is_left_alone(tmp_path, left):
    for note in (tmp_path / "tritonserver.pid", tmp_path / "replicas" / "3" / "tritonserver.pid"):
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(str(left.pid))
    end_leftovers(tmp_path)
    assert left.poll() is None
    assert not (tmp_path / "tritonserver.pid").exists()


class Restarts:
    """Rolling restarts that end when the test says so."""

    made: list["Restarts"] = []

    def __init__(self, replicas, chosen, seen, *, drain_seconds, publish, notice):
        self.names, self.drain_seconds = [one.name for one in chosen], drain_seconds
        self.state, self.is_over = RollState("running"), False
        Restarts.made.append(self)

    def start(self):
        pass

    def is_alive(self):
        return not self.is_over

    def end(self, state):
        self.state, self.is_over = state, True


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Two replicas of which nothing is started."""
    Restarts.made = []
    monkeypatch.setattr(fleet_module, "Roll", Restarts)
    monkeypatch.setattr(Replica, "look_after", lambda replica, notice: None)
    (tmp_path / "models").mkdir()
    made = Fleet(Settings(data_dir=tmp_path, model_repository=tmp_path / "models"), 2)
    ControlFolder(tmp_path).clear()
    (tmp_path / "fleet" / "endpoints").mkdir()
    return made


def test_a_restart_that_was_asked_for_is_begun_and_its_end_is_said(fleet, tmp_path):
    control = ControlFolder(tmp_path)
    asked = control.ask_restart(9.0)
    fleet.look_after(pytest.fail)
    (roll,) = Restarts.made
    assert (roll.names, roll.drain_seconds) == (["1", "2"], 9.0)
    assert control.read().rolls[asked].outcome == "running"
    second = control.ask_restart(9.0)
    fleet.look_after(pytest.fail)
    assert control.read().rolls[second] == RollState("failed", error="a restart is under way")
    # It ends, and another one is asked for before anybody looked.
    roll.end(RollState("done", ("1", "2")))
    third = control.ask_restart(9.0)
    fleet.look_after(pytest.fail)
    rolls = control.read().rolls
    assert (rolls[asked].outcome, rolls[third].outcome) == ("done", "running")


def test_a_replica_that_has_grown_is_restarted_alone_and_not_again_at_once(fleet, monkeypatch):
    monkeypatch.setattr(KeptServer, "growth", lambda kept: 3 << 30)
    notices = []
    fleet.look_after(notices.append)
    assert notices == ["Replica 1 has grown; restarting it."]
    assert Restarts.made[0].names == ["1"]
    Restarts.made[0].end(RollState("failed", error="busy"))
    fleet.look_after(pytest.fail)
    assert len(Restarts.made) == 1


def test_replicas_that_do_not_serve_are_draining_to_envoy(fleet, tmp_path):
    fleet.look_after(pytest.fail)
    said = (tmp_path / "fleet" / "endpoints" / "models.json").read_text()
    assert said.count('"DRAINING"') == 2
    assert [one.state for one in ControlFolder(tmp_path).read().replicas] == ["starting", "starting"]
