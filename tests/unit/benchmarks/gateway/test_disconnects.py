import os
import time

import pytest

from benchmarks.gateway import disconnects
from benchmarks.gateway.disconnects import read_memory, read_running, soak, wait_until_clear
from benchmarks.gateway.measure import Upstream
from benchmarks.gateway.servers import Server
from benchmarks.gateway.upstream import Pace

PAGE = (
    "# TYPE trireme_gateway_requests_running gauge\n"
    'trireme_gateway_requests_running{endpoint="chat"} 2.0\n'
    'trireme_gateway_requests_running{endpoint="metrics"} 1.0\n'
    'trireme_gateway_requests_total{endpoint="chat"} 9.0\n'
)
CLEAR = PAGE.replace("2.0", "0.0")


@pytest.fixture
def upstream(tmp_path):
    made = Upstream(Pace(), tmp_path)
    yield made
    made.stop()


def test_chats_that_run_are_read_and_the_question_itself_is_not():
    assert read_running(PAGE) == 2.0
    assert read_running(CLEAR) == 0.0


def test_nothing_runs_once_the_gateway_says_so(monkeypatch):
    pages = iter([PAGE, PAGE, CLEAR])
    monkeypatch.setattr(disconnects, "fetch", lambda url: next(pages).encode())
    assert wait_until_clear(Server("x", 1), time.monotonic()) >= 0.02
    assert next(pages, None) is None


def test_what_runs_for_ever_is_told(monkeypatch):
    monkeypatch.setattr(disconnects, "fetch", lambda url: PAGE.encode())
    monkeypatch.setattr(disconnects, "CLEAR_S", 0.05)
    assert wait_until_clear(Server("x", 1), time.monotonic()) == -1.0


def test_streams_are_dropped_in_the_middle_and_the_others_are_whole(upstream, monkeypatch):
    monkeypatch.setattr(disconnects, "wait_until_clear", lambda server, since: 0.01)
    monkeypatch.setattr(disconnects, "SAMPLES", 4)
    server = Server("direct", upstream.server.port, pid=os.getpid())
    # A machine that does something else may begin no stream in the first seconds.
    for seconds in (3.0, 12.0, 48.0):
        found = soak(server, upstream, seconds, 1)
        assert found.failed == 0
        if 0 < found.dropped < found.streams and found.upstream_left:
            break
    assert 0 < found.dropped < found.streams
    # The provider sees a drop unless it came before the request was read or after the last byte was sent.
    assert 0 < found.upstream_left <= found.dropped
    assert len(found.rss_mib) == len(found.connections) == 5


def test_memory_is_resident_and_connections_are_counted():
    size, connections = read_memory(os.getpid())
    assert size > 10 and connections >= 0
