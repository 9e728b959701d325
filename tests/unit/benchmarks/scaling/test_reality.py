import threading

import pytest

from benchmarks.scaling import reality
from benchmarks.scaling.fleet import Timing
from benchmarks.scaling.load import Request
from benchmarks.scaling.policies import ours
from benchmarks.scaling.reality import KNOBS, RealFleet, make_load, predict, summarize
from benchmarks.scaling.service import Point, Service

SERVICE = Service("sleeper", (Point(1, 1000.0), Point(2, 2000.0)), 2, 200, 0, 0.0, 0, 9.0, "made up")


class Server:
    """A replica without a process: ready when it is told to be."""

    def __init__(self, folder, number):
        self.number, self.in_flight, self.began, self.ended, self.stopped = number, 0, 0.0, 0.0, False
        self.is_warm = threading.Event()

    def wait_until_ready(self):
        assert self.is_warm.wait(60)
        return 9.0

    def ask(self, milliseconds):
        return 1e12

    def count_waiting(self):
        return 3

    def stop(self):
        self.stopped = True


@pytest.fixture
def fleet(monkeypatch):
    monkeypatch.setattr(reality, "Replica", Server)
    monkeypatch.setattr(reality, "TIMING", Timing(least_drain_s=0.0))
    return RealFleet(None, SERVICE, Server(None, 0))


def finish(fleet):
    for one in fleet.all:
        one.is_warm.set()
    fleet.close()


def test_a_server_that_was_started_serves_when_it_is_ready(fleet):
    fleet.scale(3)
    assert (fleet.read(0.0).replicas, fleet.read(0.0).ready) == (3, 1)
    finish(fleet)
    assert (fleet.read(0.0).replicas, fleet.read(0.0).ready) == (3, 3)
    assert fleet.starts == [9.0, 9.0]


def test_a_server_that_is_to_go_leaves_before_it_ends(fleet):
    fleet.scale(2)
    fleet.all[1].is_warm.set()
    fleet._jobs[0].result()
    fleet.scale(1)
    assert fleet.read(0.0).replicas == 1
    finish(fleet)
    assert [one.stopped for one in fleet.all] == [False, True]


def test_the_metrics_are_the_servers_queues_and_the_work_that_was_sent(fleet):
    assert fleet.ask(Request(0.0, 600, 0)) > 0
    found = fleet.read(5.0)
    # 600 ms are 0.3 s of work of a replica with two places; three such wait.
    assert (found.waiting, found.offered, found.backlog) == (3, pytest.approx(0.3), pytest.approx(0.9))


def test_the_load_of_the_comparison_needs_all_servers_and_then_one():
    load = make_load(1)
    busy = [one for one in load.requests if reality.RATES[1][0] <= one.at < reality.RATES[2][0]]
    work = sum(SERVICE.work_of(one.inputs, 0) for one in busy) / (reality.RATES[2][0] - reality.RATES[1][0])
    assert 1.3 < work < reality.SERVERS * 0.8
    found = predict(ours(KNOBS), SERVICE, load)
    assert max(count for _, count in found.counts) >= 2 and found.counts[-1][1] < 3
    assert found.wait_p50 <= found.wait_p95 <= found.wait_p99


def test_one_side_is_told_by_its_waits_and_replicas():
    found = summarize([0.0, 0.0, 1.0, 3.0], 12.34, [(0.0, 1), (5.0, 3), (9.0, 2)])
    assert (found.late, found.wait_mean, found.wait_p50, found.wait_p99) == (0.25, 1.0, 0.0, 3.0)
    assert (found.replica_s, found.turns) == (12.3, 1)
