"""Service curves of a running server, and the servers that the scaling model is compared with."""

import pytest

from benchmarks.scaling import measure, reality
from benchmarks.scaling.load import Request
from benchmarks.scaling.reality import RealFleet, first_replica
from benchmarks.scaling.service import Point, Service

pytestmark = pytest.mark.e2e


def test_the_curve_of_a_served_encoder_is_measured(settings, monkeypatch):
    monkeypatch.setattr(measure, "RUNS", 1)
    url = f"{settings.host}:{settings.grpc_port}"
    job = measure.Job(url, "embedding", (1, 2), 20, 0, 0.3, 1)
    found = measure.measure(job, "embedding", 5.0, 2, "this test")
    # About a token a word, and the two around them.
    assert 20 <= found.inputs <= 40
    assert [point.in_flight for point in found.points] == [1, 2]
    assert found.work_of(found.input_per_s, 0) == pytest.approx(1.0)


def test_a_real_server_joins_the_fleet_serves_and_leaves():
    service = Service("sleeper", (Point(1, 1000.0), Point(2, 2000.0)), 2, 200, 0, 0.0, 0, 9.0, "made up")
    with first_replica() as (folder, first, started):
        fleet = RealFleet(folder, service, first)
        fleet.all = started
        first.wait_until_ready()
        assert fleet.ask(Request(0.0, 50, 0)) >= 0
        fleet.scale(2)
        fleet._jobs[0].result()
        assert fleet.read(0.0).ready == 2
        assert started[1].ask(1) > started[1].began
        assert started[1].count_waiting() == 0
        fleet.scale(1)
        fleet.close()
        assert fleet.read(0.0).replicas == 1 and not started[1].server.is_running()
        assert first.ask(1) > first.began
    assert not first.server.is_running()
    assert len(fleet.starts) == 1 and reality.PLACES == 2
