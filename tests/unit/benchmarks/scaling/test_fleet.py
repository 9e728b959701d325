"""The model of replicas, in cases that a person can follow."""

import math

import pytest

from benchmarks.scaling.fleet import Fleet, Timing
from benchmarks.scaling.load import Load, Request
from benchmarks.scaling.service import Point, Service
from fakes.scaling import ONE

TWO = Service("two", (Point(1, 10.0), Point(2, 15.0)), 2, 10, 0, 0.0, 0, 30.0, "made up")
AT_ONCE = Timing(delay_s=0.0)


def load_of(*times, tokens=10):
    return Load("made up", tuple(Request(at, tokens, 0) for at in times), max(times))


def serve(service, load, initial, replicas, timing=AT_ONCE):
    """replicas: a number, or times and what is wanted from then on."""
    steps = [(0, replicas)] if isinstance(replicas, int) else replicas
    fleet = Fleet(service, load, initial, timing)
    return fleet.run(lambda now, samples, have, ready: [count for at, count in steps if at <= now][-1])


def test_one_replica_serves_in_the_order_of_arrival():
    assert serve(ONE, load_of(0, 0, 0), 1, 1).waits == pytest.approx((0, 1, 2))


def test_a_request_goes_to_the_replica_with_the_fewest():
    assert serve(ONE, load_of(0, 0, 0, 0), 2, 2).waits == pytest.approx((0, 0, 1, 1))


def test_requests_side_by_side_share_the_measured_rate():
    # 20 tokens at 15 a second: the third begins at 1.33 s.
    assert serve(TWO, load_of(0, 0, 0), 1, 1).waits == pytest.approx((0, 0, 4 / 3))
    # The second comes when the first has 5 tokens left, which then take 2/3 s; the third begins there.
    assert serve(TWO, load_of(0, 0.5, 0.6), 1, 1).waits == pytest.approx((0, 0, 0.5 + 2 / 3 - 0.6))


def test_a_cold_replica_serves_nothing_and_what_waits_elsewhere_stays_there():
    # 40 s of work wait when the second replica is made at 0; it is warm at 30, and takes what comes then.
    found = serve(ONE, load_of(*[0] * 40, 29.5, 30.5), 1, 2)
    assert found.waits[:40] == pytest.approx(range(40))
    assert found.waits[40] == pytest.approx(40 - 29.5)
    assert found.waits[41] == 0
    ready = [(one.at, one.replicas, one.ready) for one in found.samples]
    assert ready[:4] == [(0, 1, 1), (15, 2, 1), (30, 2, 2), (45, 2, 2)] or ready[2] == (30, 2, 1)


def test_a_cold_replica_is_paid_for():
    found = serve(ONE, load_of(0, 20), 1, 2)
    assert found.end == pytest.approx(21)
    assert found.lives == ((0, found.end), (0, found.end))


def test_a_replica_that_leaves_ends_what_it_has_takes_nothing_new_and_costs_until_then():
    # Both have 30 requests when one is to leave at 15 s: it ends them at 30 s.
    found = serve(ONE, load_of(*[0] * 60, 16), 2, [(0, 2), (15, 1)])
    assert max(found.waits[:60]) == pytest.approx(29)
    assert found.waits[60] == pytest.approx(30 - 16)
    assert sorted(ends for _, ends in found.lives) == pytest.approx([30, 31])


def test_an_idle_replica_stays_while_the_balancer_forgets_it():
    found = serve(ONE, load_of(0, 100), 2, [(0, 2), (30, 1)], Timing(delay_s=0.0, least_drain_s=15.0))
    assert min(ends for _, ends in found.lives) == 45


def test_of_those_that_go_the_cold_are_first():
    found = serve(ONE, load_of(0, 100), 1, [(0, 1), (15, 3), (30, 2), (90, 1)])
    # Made at 15: one went cold at 30, the other, the youngest of the warm ones, at 90 and after its drain.
    assert found.lives == ((0, 101), (15, 30), (15, 101))
    assert serve(ONE, load_of(0, 200), 1, [(0, 1), (15, 3), (30, 2), (90, 1)]).lives[2] == (15, 105)


def test_a_full_cache_of_keys_and_values_lets_fewer_run():
    roomy = Service("kv", TWO.points, 2, 10, 0, 0.0, 20, 30.0, "made up")
    tight = Service("kv", TWO.points, 2, 10, 0, 0.0, 19, 30.0, "made up")
    assert serve(roomy, load_of(0, 0), 1, 1).waits == pytest.approx((0, 0))
    assert serve(tight, load_of(0, 0), 1, 1).waits == pytest.approx((0, 1))
    # A request that is larger than the cache runs alone.
    assert serve(tight, load_of(0, 0, tokens=40), 1, 1).waits == pytest.approx((0, 4))


def test_what_an_hour_after_the_last_arrival_still_waits_was_never_served():
    found = serve(ONE, load_of(*[0] * 3700), 1, 1)
    assert sum(math.isinf(wait) for wait in found.waits) == 99
    assert found.end == 3600


def test_metrics_say_what_arrived_waits_and_runs():
    found = serve(ONE, load_of(*[0.5] * 20, 14), 1, 1)
    one = found.samples[1]
    # At 15 s 14 were answered and one runs: six wait, of 21 s of work in all.
    assert (one.at, one.running, one.waiting, one.input_waiting) == (15, 1, 6, 60)
    assert (one.offered, one.backlog) == pytest.approx((21, 6))
    assert sum(one.latencies) == 14


def test_a_look_sees_the_metrics_late():
    seen = []

    def look(now, samples, replicas, ready):
        seen.append((now, samples[-1].at if samples else None))
        return replicas

    Fleet(ONE, load_of(0, 60), 1, Timing(delay_s=30.0)).run(look)
    assert seen == [(0, None), (15, None), (30, 0), (45, 15), (60, 30)]


def test_without_a_replica_requests_wait_for_the_first_that_is_warm():
    assert serve(ONE, load_of(10), 0, [(0, 0), (15, 1)]).waits == pytest.approx((35,))


def test_no_request_is_lost_while_replicas_come_and_go():
    times = [at * 0.37 for at in range(3000)]
    found = serve(TWO, load_of(*times), 3, [(at, 2 + at // 15 % 5) for at in range(0, 1200, 15)])
    assert len(found.waits) == 3000 and all(0 <= wait < math.inf for wait in found.waits)
    paid = sum(ends - begins for begins, ends in found.lives)
    assert paid >= 3000 * TWO.work_of(10, 0)
