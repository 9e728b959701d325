import os
import signal
import subprocess
import sys
import time

from trireme.triton.process import end_process, has_ended, start_process


def start(tmp_path, code):
    return start_process([sys.executable, "-c", code], dict(os.environ), tmp_path / "log")


def test_both_streams_are_added_to_the_log_and_there_is_no_input(tmp_path):
    (tmp_path / "log").write_text("before\n")
    process = start(tmp_path, "import sys; print(repr(sys.stdin.read()), file=sys.stderr)")
    assert process.wait(60) == 0
    assert (tmp_path / "log").read_text() == "before\n''\n"


def test_a_process_leads_a_session_of_its_own_and_ends_when_told(tmp_path):
    process = start(tmp_path, "import time; time.sleep(60)")
    assert os.getsid(process.pid) == process.pid
    end_process(process, 20)
    assert process.returncode == -15
    end_process(process, 20)


def test_one_that_does_not_listen_is_killed(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    process = start(tmp_path, code)
    while "deaf" not in (tmp_path / "log").read_text():
        time.sleep(0.02)
    end_process(process, 0.2)
    assert process.returncode == -9


# Says the id of a child of its own, which outlives it.
TWO = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)


def test_a_group_has_ended_when_its_last_process_has_though_nobody_has_waited_for_its_leader():
    leader = subprocess.Popen(
        [sys.executable, "-c", TWO], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    child = int(leader.stdout.readline())
    assert not has_ended(leader.pid)
    leader.kill()
    # It stays a zombie until it is waited for.
    os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOWAIT)
    assert not has_ended(leader.pid)
    os.kill(child, signal.SIGKILL)
    while not has_ended(leader.pid):
        time.sleep(0.01)
    leader.communicate()


def test_a_group_that_nobody_is_in_has_ended(tmp_path):
    process = start(tmp_path, "pass")
    process.wait(60)
    assert has_ended(process.pid)
