import itertools
import statistics

import pytest

from benchmarks.gateway.arrivals import make_arrivals, summarize


def test_arrivals_are_the_same_for_a_seed_and_rate_and_others_for_another():
    assert make_arrivals(50, 10, 1) == make_arrivals(50, 10, 1)
    assert make_arrivals(50, 10, 1) != make_arrivals(50, 10, 2)
    assert make_arrivals(50, 10, 1)[:5] != make_arrivals(60, 10, 1)[:5]


def test_arrivals_ascend_within_the_time_at_the_rate():
    moments = make_arrivals(200, 100, 3)
    assert moments == sorted(moments) and moments[0] > 0 and moments[-1] < 100
    assert len(moments) == pytest.approx(20_000, rel=0.05)


def test_pauses_between_arrivals_are_exponential():
    moments = make_arrivals(100, 200, 4)
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    # Mean and deviation of an exponential distribution are equal.
    assert statistics.mean(pauses) == pytest.approx(0.01, rel=0.05)
    assert statistics.stdev(pauses) == pytest.approx(0.01, rel=0.05)


def test_percentiles_are_times_that_occurred():
    times = summarize([float(number) for number in range(1, 1001)])
    assert (times.p50_ms, times.p90_ms, times.p99_ms, times.p999_ms, times.most_ms) == (
        500,
        900,
        990,
        999,
        1000,
    )
    assert summarize([7.0]).p999_ms == 7.0
