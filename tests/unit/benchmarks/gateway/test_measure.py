import dataclasses

import pytest

from benchmarks.gateway import measure as measuring
from benchmarks.gateway.arrivals import Times
from benchmarks.gateway.load import NUMBER
from benchmarks.gateway.measure import (
    Plan,
    Search,
    compute_added_p99,
    make_job,
    measure,
    measure_rounds,
)
from benchmarks.gateway.measure import settle as wait
from benchmarks.gateway.page import DIRECT, STREAMED, WHOLE, Sample
from benchmarks.gateway.servers import Server
from trireme.errors import UnavailableError

UPSTREAM, GATEWAY = Server(DIRECT, 1), Server("Trireme", 2, {"authorization": "Bearer x"})


class FakeLoad:
    """Answers at once: the gateway adds 10 ms to the first content and, above `limit` a second, 500 to the end."""

    def __init__(self, limit=100.0, disturbed=()):
        self.limit, self.disturbed = limit, list(disturbed)
        self.jobs = []

    def run(self, job):
        self.jobs.append(job)
        is_slow = job.port == GATEWAY.port and job.rate > self.limit
        if job.port == GATEWAY.port and job.rate in self.disturbed:
            self.disturbed.remove(job.rate)
            is_slow = True
        first = 60.0 + 10.0 * (job.port == GATEWAY.port)
        total = first + 500.0 * is_slow
        streams = {"first_ms": [first] * 10 if job.body["stream"] else []}
        return {
            "requests": 10,
            "sent": 20,
            "failed": 0,
            "late": 0,
            "errors": {},
            "total_ms": [total] * 10,
            **streams,
        }


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    found = []
    monkeypatch.setattr(measuring, "settle", lambda server, _look_s: found.append(server.name))
    return found


def test_a_sample_has_the_percentiles_and_the_server_is_quiet_after_it(settled):
    one = measure(FakeLoad(), GATEWAY, Plan(STREAMED, 50.0, 5.0, 1), 2)
    assert (one.way, one.mode, one.rate, one.round) == ("Trireme", STREAMED, 50.0, 2)
    assert one.total.p99_ms == one.first.p50_ms == 70.0
    assert settled == ["Trireme"]


def test_the_moments_of_a_round_are_the_same_for_all_ways_and_the_order_alternates():
    load = FakeLoad()
    rounds = [[Plan(WHOLE, 50.0, 5.0, seed)] for seed in (1, 2)]
    samples = measure_rounds(load, [UPSTREAM, GATEWAY], rounds)
    assert [one.way for one in samples] == [DIRECT, "Trireme", "Trireme", DIRECT]
    assert [one.round for one in samples] == [0, 0, 1, 1]
    assert [job.seed for job in load.jobs] == [1, 1, 2, 2]


def test_every_way_gets_the_same_body_and_its_own_key():
    plan = Plan(STREAMED, 50.0, 5.0, 1)
    direct, through = make_job(UPSTREAM, plan), make_job(GATEWAY, plan)
    assert direct.body == through.body and direct.body["stream"] is True
    assert (direct.headers, through.headers) == ({}, GATEWAY.headers)
    assert make_job(UPSTREAM, Plan(WHOLE, 50.0, 5.0, 1)).body["stream"] is False


def test_a_varied_way_gets_bodies_of_the_same_length_with_a_number():
    plan = Plan(WHOLE, 50.0, 5.0, 1)
    plain = make_job(GATEWAY, plan).body["messages"][0]["content"]
    varied = make_job(dataclasses.replace(GATEWAY, is_varied=True), plan).body["messages"][0]["content"]
    assert varied.endswith(NUMBER) and len(varied) == len(plain)


def test_the_highest_rate_is_found_and_the_direct_way_is_measured_once_a_rate():
    load = FakeLoad(limit=100.0)
    found = Search(load, UPSTREAM, 1, 8.0, 50.0).find(GATEWAY, WHOLE, [25.0, 50.0, 100.0, 200.0])
    assert found.rate == 100.0
    direct = [job.rate for job in load.jobs if job.port == UPSTREAM.port]
    assert len(direct) == len(set(direct))
    assert {probe.rate: probe.held for probe in found.probes}[200.0] is False


def test_one_disturbed_run_does_not_decide():
    load = FakeLoad(limit=1000.0, disturbed=[50.0])
    found = Search(load, UPSTREAM, 1, 8.0, 50.0).find(GATEWAY, WHOLE, [25.0, 50.0])
    assert found.rate == 50.0
    assert [probe.held for probe in found.probes if probe.rate == 50.0] == [False, True]


def test_slow_rates_are_tried_for_longer_and_none_for_ever():
    load = FakeLoad()
    Search(load, UPSTREAM, 1, 8.0, 50.0).find(GATEWAY, WHOLE, [5.0, 20.0, 200.0])
    assert {job.rate: job.seconds for job in load.jobs} == {5.0: 40.0, 20.0: 20.0, 200.0: 8.0}


def test_of_a_stream_the_first_content_or_the_end_counts_whichever_is_later():
    def one(first, total):
        made = [Times(*[value] * 5) for value in (total, first)]
        return Sample("x", STREAMED, 1.0, 0, 1, 0, 0, *made, 0.0, 0.0, {})

    assert compute_added_p99(one(70.0, 200.0), one(60.0, 160.0)) == 40.0
    assert compute_added_p99(one(90.0, 162.0), one(60.0, 160.0)) == 30.0


class Busy:
    """A server whose processor time grows by the given shares, one each look; the last one stays."""

    name, port, pid, headers = "x", 1, 7, {}

    def __init__(self, *shares):
        self.shares, self.spent, self.is_second = list(shares), 0.0, False

    def read_cpu_s(self):
        if self.is_second:
            share = self.shares.pop(0) if len(self.shares) > 1 else self.shares[0]
            self.spent += share * measuring.LOOK_S
        self.is_second = not self.is_second
        return self.spent


@pytest.fixture
def quick(monkeypatch):
    asked = []
    monkeypatch.setattr(measuring, "fetch", lambda url, *_, **__: asked.append(url))
    monkeypatch.setattr(measuring, "LOOK_S", 0.001)
    return asked


def test_a_server_is_quiet_once_it_answers_and_its_processes_rest(quick):
    wait(Busy(0.9, 0.5, 0.01), measuring.LOOK_S)
    assert len(quick) == 3


def test_a_server_that_never_rests_is_named(quick, monkeypatch):
    monkeypatch.setattr(measuring, "SETTLE_S", 0.05)
    with pytest.raises(UnavailableError, match="x does not come to rest"):
        wait(Busy(0.9), measuring.LOOK_S)
