import os
import resource
import shutil
import subprocess
import sys

import pytest

from trireme.triton import fences
from trireme.triton.fences import STACK_BYTES, deepen_stacks, keep_to_cores, lock_protocols

PRINT_LIMIT = "import resource; print(resource.getrlimit(resource.RLIMIT_STACK)[0])"


def test_a_started_command_has_deep_stacks_and_keeps_its_process(monkeypatch):
    if shutil.which("prlimit") is None:
        pytest.skip("needs prlimit of util-linux")
    monkeypatch.setattr(fences, "OVERCOMMIT", fences.Path("/nonexistent"))
    if resource.getrlimit(resource.RLIMIT_STACK)[1] not in (resource.RLIM_INFINITY,):
        pytest.skip("this account may not have deeper stacks")
    command = deepen_stacks([sys.executable, "-c", PRINT_LIMIT + "; import os; print(os.getpid())"])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    limit, pid = process.communicate(timeout=30)[0].split()
    assert (int(limit), int(pid)) == (STACK_BYTES, process.pid)


def test_where_promised_memory_is_counted_stacks_stay_as_they_are(monkeypatch, tmp_path):
    (tmp_path / "overcommit").write_text("2\n")
    monkeypatch.setattr(fences, "OVERCOMMIT", tmp_path / "overcommit")
    assert deepen_stacks(["tritonserver", "--x"]) == ["tritonserver", "--x"]


def test_without_prlimit_stacks_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(fences.shutil, "which", lambda _: None)
    assert deepen_stacks(["tritonserver"]) == ["tritonserver"]


def test_each_start_locks_with_a_value_of_its_own():
    assert lock_protocols() != lock_protocols()
    for option in lock_protocols():
        assert "shared-memory,trace,logging:trireme-locked=" in option


def test_shared_memory_is_open_where_that_was_asked_for():
    for option in lock_protocols(opens_shared_memory=True):
        assert "=trace,logging:trireme-locked=" in option


def test_a_command_and_what_it_starts_keep_to_their_cores():
    if shutil.which("taskset") is None:
        pytest.skip("needs taskset of util-linux")
    core = max(os.sched_getaffinity(0))
    command = keep_to_cores([sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"], [core])
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == [str(core)]


def test_a_command_without_cores_of_its_own_stays_as_it_is(monkeypatch):
    assert keep_to_cores(["tritonserver"], ()) == ["tritonserver"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert keep_to_cores(["tritonserver"], (0, 1)) == ["tritonserver"]
