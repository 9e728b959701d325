"""Links between real namespaces: what passes, what is lost, and that nothing stays behind."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from pathlib import Path as File

import psutil
import pytest

from benchmarks.regions import namespaces
from benchmarks.regions.delays import Path
from benchmarks.regions.links import PROJECT, Link
from benchmarks.regions.namespaces import Namespace
from trireme.errors import UnavailableError, UnsupportedError

pytestmark = pytest.mark.namespaces
PORT = 7000
# How long is waited for what must not come.
A_MOMENT_S = 0.2


@pytest.fixture
def resources():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def spaces(resources):
    return [resources.enter_context(closing(Namespace())) for _ in range(2)]


@pytest.fixture
def link(resources, spaces):
    return resources.enter_context(closing(Link(*spaces, Path(delay_ms=1))))


@pytest.fixture
def server(resources, spaces, link):
    with spaces[1].entered():
        return resources.enter_context(socket.create_server((link.far, PORT)))


def devices():
    return sorted(name for _, name in socket.if_nameindex())


def ping(spaces, link, server, timeout_s=30.0):
    """Whether a byte comes back from the far end."""
    with spaces[0].connect(link.far, PORT, timeout_s) as near, server.accept()[0] as far:
        near.sendall(b"a")
        far.sendall(far.recv(1))
        return near.recv(1) == b"a"


def test_bytes_pass_both_ways_and_the_threads_own_network_is_as_before(spaces, link, server):
    before = devices()
    assert ping(spaces, link, server)
    assert devices() == before
    assert not any(name.startswith("link") for name in before)
    with spaces[0].entered():
        assert devices() == ["link0", "lo"]
    assert devices() == before


def test_nothing_passes_a_cut_link_and_nothing_is_refused_until_it_is_healed(spaces, link, server):
    with spaces[0].connect(link.far, PORT) as near, server.accept()[0] as far:
        link.cut()
        near.sendall(b"a")
        with pytest.raises(TimeoutError):
            spaces[0].connect(link.far, PORT, A_MOMENT_S)
        far.settimeout(A_MOMENT_S)
        with pytest.raises(TimeoutError):
            far.recv(1)
        link.heal()
        # TCP sends it again.
        far.settimeout(60)
        assert far.recv(1) == b"a"


def test_a_link_tells_what_it_carried_and_lost(spaces, link, server):
    assert ping(spaces, link, server)
    link.cut()
    with pytest.raises(TimeoutError):
        spaces[0].connect(link.far, PORT, A_MOMENT_S)
    told = link.set(Path())
    assert told.carried >= 6
    assert told.lost >= 1


def test_bytes_pass_in_spite_of_loss(spaces, link, server):
    link.set(Path(delay_ms=1, jitter_ms=1, loss_percent=5))
    data = bytes(range(256)) * 1000
    with spaces[0].connect(link.far, PORT) as near, server.accept()[0] as far:
        near.settimeout(60)
        near.sendall(data)
        near.shutdown(socket.SHUT_WR)
        far.settimeout(60)
        received = b""
        while part := far.recv(1 << 16):
            received += part
    assert received == data


def test_a_namespace_may_have_links_to_several_others(resources, spaces, link):
    third = resources.enter_context(closing(Namespace()))
    other = resources.enter_context(closing(Link(spaces[0], third, Path())))
    assert len({link.near, link.far, other.near, other.far}) == 4
    with third.entered():
        server = resources.enter_context(socket.create_server((other.far, PORT)))
    with spaces[0].connect(other.far, PORT), server.accept()[0]:
        pass


def test_a_link_that_is_closed_takes_its_devices_along(spaces):
    link = Link(*spaces, Path())
    link.close()
    for one in spaces:
        with one.entered():
            assert devices() == ["lo"]
    with pytest.raises(UnavailableError, match="has ended"):
        link.cut()
    link.close()


def test_processes_run_within_a_namespace(spaces, link):
    script = "import socket; print(sorted(name for _, name in socket.if_nameindex()))"
    process = spaces[1].start([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.communicate()[0] == "['link0', 'lo']\n"


def test_what_is_killed_leaves_no_process_of_its_own(tmp_path):
    # It names its processes and waits until it is killed.
    script = """
import signal, sys
from benchmarks.regions import namespaces
from benchmarks.regions.delays import Path
from benchmarks.regions.links import Link
from benchmarks.regions.namespaces import Namespace
one, other = Namespace(), Namespace()
link = Link(one, other, Path())
sleeper = other.start(["sleep", "600"])
print(link.pid, sleeper.pid, flush=True)
signal.pause()
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(children) == 2
    space = network_of(children[1].pid)
    assert space not in (None, network_of(os.getpid()))
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert space not in map(network_of, psutil.pids())


def network_of(pid):
    """Which network a process has; None of one that has gone."""
    with suppress(OSError):
        return File(f"/proc/{pid}/ns/net").readlink()


def test_what_is_missing_for_links_is_named(monkeypatch, tmp_path):
    assert namespaces.find_hindrance() == ""
    monkeypatch.setattr(namespaces, "TUN_DEVICE", tmp_path / "tun")
    assert namespaces.find_hindrance() == f"{tmp_path / 'tun'}: No such file or directory"
    with pytest.raises(UnsupportedError, match="need root or user namespaces"):
        monkeypatch.setenv("REGIONS_STARTED_AGAIN", "1")
        namespaces.enter_own("no.module", [])
