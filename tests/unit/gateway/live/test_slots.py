import math
import random

import pytest

from trireme.gateway.live.slots import (
    COUNTS,
    SERIES,
    Slot,
    merge,
    percentile,
    range_of,
    times_of,
    values_of,
)


def ranges(times):
    slot = Slot()
    for milliseconds in times:
        slot.total[range_of(milliseconds)] += 1
    return slot.total


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_percentile_is_within_a_fortieth_of_the_exact_one(share):
    source = random.Random(7)
    times = sorted(source.lognormvariate(5, 1.5) for _ in range(999))
    exact = times[math.ceil(share * len(times)) - 1]
    assert percentile(ranges(times), share) == pytest.approx(exact, rel=0.026)


def test_a_percentile_of_nothing_is_not_known():
    assert math.isnan(percentile({}, 0.5))


@pytest.mark.parametrize("milliseconds", [0.0, 0.05, 1e9])
def test_any_time_has_a_range(milliseconds):
    assert percentile(ranges([milliseconds]), 0.5) == pytest.approx(max(milliseconds, 0.1), rel=0.05)


def test_values_are_those_of_the_series_in_their_order():
    slot = Slot(requests=3, succeeded=2, nanos=1_500_000_000)
    slot.first[range_of(100)] += 1
    named = dict(zip(SERIES, values_of(slot), strict=True))
    assert (named["requests"], named["succeeded"], named["dollars"]) == (3, 2, 1.5)
    assert named["first_ms_p50"] == pytest.approx(100, rel=0.03)
    assert math.isnan(named["wait_ms_p95"])


def test_slots_together_are_the_sum_of_their_counts_and_the_percentile_of_all_their_times():
    slots = [Slot(**dict.fromkeys(COUNTS, 2), nanos=1, saved_nanos=5) for _ in range(3)]
    for slot, milliseconds in zip(slots, (10, 10, 1000), strict=True):
        slot.total[range_of(milliseconds)] += 10
        slot.waited[range_of(milliseconds)] += 1
    whole = merge(slots)
    assert [getattr(whole, name) for name in COUNTS] == [6] * len(COUNTS)
    assert (whole.nanos, whole.saved_nanos) == (3, 15)
    found = times_of(whole)
    assert found["total_ms_p50"] == pytest.approx(10, rel=0.03)
    assert found["total_ms_p95"] == pytest.approx(1000, rel=0.03)
    assert found["wait_ms_p95"] == pytest.approx(1000, rel=0.03)


def test_a_slot_in_which_only_money_was_spent_is_not_empty():
    assert Slot().is_empty
    assert not Slot(nanos=1).is_empty
