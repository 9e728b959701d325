"""The embedded Valkey: started, shared, taken over, restarted, with what survives."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from trireme.errors import UnavailableError
from trireme.local.valkey import running_urls, start_valkey

pytestmark = pytest.mark.e2e

START_AND_LEAVE = """
import os, sys
from pathlib import Path
from trireme.local.valkey import start_valkey
running = start_valkey(Path(sys.argv[1]))
print(running.budget_url, flush=True)
sys.stdin.read()
if sys.argv[2] == "stop":
    running.stop()
os._exit(0)
"""


@pytest.fixture
def data_dir():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def ask(url, *words):
    """The raw reply of one command."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(url.removeprefix("unix://"))
        parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        client.sendall(f"*{len(words)}\r\n{parts}".encode())
        return client.recv(65536).decode()


def pid_of(data_dir, name):
    return int((data_dir / "valkey" / name / "pid").read_text())


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def other_process(data_dir, ending):
    command = [sys.executable, "-c", START_AND_LEAVE, str(data_dir), ending]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_budgets_are_there_after_a_stop_and_cached_answers_need_not_be(data_dir):
    assert running_urls(data_dir) is None
    with start_valkey(data_dir) as running:
        assert running_urls(data_dir) == (running.budget_url, running.cache_url)
        ask(running.budget_url, "SET", "kept", "42")
        ask(running.cache_url, "SET", "kept", "42")
    assert running_urls(data_dir) is None
    with start_valkey(data_dir) as again:
        assert "42" in ask(again.budget_url, "GET", "kept")
        assert ask(again.cache_url, "GET", "kept") == "$-1\r\n"


def test_each_server_has_its_own_policy_and_neither_listens_on_tcp(data_dir):
    with start_valkey(data_dir, cache_bytes=10 << 20) as running:
        assert "noeviction" in ask(running.budget_url, "CONFIG", "GET", "maxmemory-policy")
        assert "allkeys-lfu" in ask(running.cache_url, "CONFIG", "GET", "maxmemory-policy")
        assert str(10 << 20) in ask(running.cache_url, "CONFIG", "GET", "maxmemory")
        for url in (running.budget_url, running.cache_url):
            assert "\r\n0\r\n" in ask(url, "CONFIG", "GET", "port")
            assert Path(url.removeprefix("unix://")).parent.stat().st_mode & 0o077 == 0


def test_a_killed_budget_server_is_back_at_its_url_with_all_it_was_told(data_dir):
    with start_valkey(data_dir) as running:
        ask(running.budget_url, "SET", "spent", "7")
        killed = pid_of(data_dir, "budget")
        cache = pid_of(data_dir, "cache")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not running.is_running())
        running.restart()
        assert running.is_running()
        assert "7" in ask(running.budget_url, "GET", "spent")
        assert pid_of(data_dir, "budget") != killed
        assert pid_of(data_dir, "cache") == cache
        running.restart()
        assert pid_of(data_dir, "cache") == cache


def test_a_torn_end_of_the_budget_file_costs_that_end_alone(data_dir):
    with start_valkey(data_dir) as running:
        ask(running.budget_url, "SET", "spent", "7")
        os.kill(pid_of(data_dir, "budget"), signal.SIGKILL)
        wait_until(lambda: not running.is_running())
        (part,) = (data_dir / "valkey" / "budget" / "appendonlydir").glob("*.incr.aof")
        with part.open("ab") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$5\r\nspe")
        running.restart()
        assert "7" in ask(running.budget_url, "GET", "spent")


def test_two_processes_share_the_servers_and_the_last_one_stops_them(data_dir):
    other = other_process(data_dir, "stop")
    url = other.stdout.readline().strip()
    with start_valkey(data_dir) as running:
        assert running.budget_url == url
        pid = pid_of(data_dir, "budget")
        other.communicate(timeout=30)
        assert running.is_running()
    assert not is_alive(pid)


def test_servers_that_were_stopped_and_restarted_are_a_use_again_that_stop_ends(data_dir):
    with start_valkey(data_dir) as running:
        running.stop()
        running.restart()
        assert running_urls(data_dir) is not None
        with start_valkey(data_dir):
            running.stop()
            assert running_urls(data_dir) is not None, "somebody else uses them"
            running.restart()
        assert running_urls(data_dir) is not None
    assert running_urls(data_dir) is None


def test_servers_of_a_killed_process_are_taken_over(data_dir):
    other = other_process(data_dir, "leave")
    url = other.stdout.readline().strip()
    ask(url, "SET", "kept", "1")
    pid = pid_of(data_dir, "budget")
    other.kill()
    other.communicate(timeout=30)
    with start_valkey(data_dir) as running:
        assert pid_of(data_dir, "budget") == pid
        assert "1" in ask(running.budget_url, "GET", "kept")
    assert not is_alive(pid)


def test_servers_whose_sockets_were_deleted_are_replaced_with_what_they_were_told(data_dir):
    with start_valkey(data_dir) as running:
        ask(running.budget_url, "SET", "spent", "7")
        pids = [pid_of(data_dir, name) for name in ("budget", "cache")]
        shutil.rmtree(Path(running.budget_url.removeprefix("unix://")).parent)
        assert not running.is_running()
        running.restart()
        assert running.is_running()
        assert "7" in ask(running.budget_url, "GET", "spent")
        assert not any(is_alive(pid) for pid in pids)


def test_another_size_of_the_cache_holds_for_servers_that_run_already(data_dir):
    with (
        start_valkey(data_dir, cache_bytes=10 << 20),
        start_valkey(data_dir, cache_bytes=20 << 20) as running,
    ):
        assert str(20 << 20) in ask(running.cache_url, "CONFIG", "GET", "maxmemory")


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(data_dir):
    with start_valkey(data_dir):
        pass
    with subprocess.Popen(["sleep", "30"]) as bystander:
        (data_dir / "valkey" / "budget" / "pid").write_text(str(bystander.pid))
        with start_valkey(data_dir) as running:
            assert running.is_running()
        assert bystander.poll() is None
        bystander.kill()


def test_a_server_that_cannot_start_says_why(data_dir):
    with start_valkey(data_dir) as running:
        ask(running.budget_url, "SET", "kept", "1")
    (data_dir / "valkey" / "budget" / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(UnavailableError, match=r"Valkey \(budget\) did not start: .*(AOF|manifest)"):
        start_valkey(data_dir)


@pytest.mark.parametrize("removed", [False, True])
def test_stopping_twice_or_without_its_files_ends_the_servers(data_dir, removed):
    running = start_valkey(data_dir)
    pids = [pid_of(data_dir, name) for name in ("budget", "cache")]
    if removed:
        shutil.rmtree(data_dir / "valkey")
    running.stop()
    running.stop()
    wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert not Path(running.budget_url.removeprefix("unix://")).parent.exists()


def test_a_folder_with_spaces_and_quotes_holds_servers_too(data_dir):
    with start_valkey(data_dir / 'it\'s "my" data') as running:
        ask(running.budget_url, "SET", "kept", "42")
        assert "42" in ask(running.budget_url, "GET", "kept")


def test_a_place_that_cannot_be_written_to_is_named(data_dir):
    (data_dir / "valkey").mkdir()
    (data_dir / "valkey" / "budget").write_text("a file")
    with pytest.raises(UnavailableError, match=r"Valkey \(budget\) did not start: .*valkey/budget"):
        start_valkey(data_dir)


def test_not_even_a_zombie_is_left_of_what_was_stopped(data_dir):
    running = start_valkey(data_dir)
    pids = [pid_of(data_dir, name) for name in ("budget", "cache")]
    running.stop()
    assert not any(psutil.pid_exists(pid) for pid in pids)
