"""What a fleet refuses, and what it ends of the one before; tests/e2e has the whole of it."""

import subprocess
import sys

import pytest

from trireme.errors import SettingError
from trireme.fleet.fleet import check_memory
from trireme.fleet.leftovers import end_leftovers, envoy_note

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
    process = subprocess.Popen(
        [str(program), "-c", "import time; time.sleep(600)"], start_new_session=True, stdin=subprocess.DEVNULL
    )
    yield process
    process.kill()
    process.wait()


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
