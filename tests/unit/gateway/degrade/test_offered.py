from itertools import pairwise

import pytest

from fakes.providers import Clock
from trireme.gateway.degrade.offered import Offered


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def offered(clock):
    return Offered(3.0, clock)


def test_the_rate_of_a_priority_is_its_own_and_that_of_higher_ones(offered):
    for priority, count in (("batch", 6), ("normal", 3), ("high", 3)):
        for _ in range(count):
            offered.note(priority)
    assert [offered.rate(one) for one in ("batch", "normal", "high")] == [4.0, 2.0, 1.0]
    assert [offered.rate_above(one) for one in ("batch", "normal", "high")] == [2.0, 1.0, 0.0]


def test_what_came_before_the_window_is_forgotten_part_by_part(offered, clock):
    for _ in range(12):
        offered.note("normal")
        clock.move(0.25)
    rates = []
    for _ in range(13):
        rates.append(offered.rate("normal"))
        clock.move(0.25)
    assert rates[0] == pytest.approx(11 / 3)
    assert all(left >= right for left, right in pairwise(rates))
    assert rates[-1] == 0


def test_a_load_of_hours_takes_no_more_memory_than_one_window(offered, clock):
    for _ in range(1000):
        for priority in ("batch", "high"):
            offered.note(priority)
        clock.move(0.1)
    assert len(offered._parts) <= 13
    assert offered.rate("batch") == pytest.approx(20, rel=0.1)
