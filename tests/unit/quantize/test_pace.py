import pytest

from trireme.quantize.pace import Pace


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


def advance_at(pace, clock, *seconds):
    for second in seconds:
        clock.now = 1000.0 + second
        pace.advance()


def test_nothing_is_said_before_a_part_is_done(clock):
    pace = Pace(4, clock)
    clock.now += 100
    assert pace.seconds_left() is None


def test_nothing_is_said_where_the_total_is_unknown(clock):
    pace = Pace(0, clock)
    advance_at(pace, clock, 5, 10)
    assert pace.seconds_left() is None


def test_after_the_first_part_its_time_stands_for_the_others(clock):
    pace = Pace(4, clock)
    advance_at(pace, clock, 60)
    assert pace.seconds_left() == 180


def test_from_the_second_part_on_what_came_once_no_longer_counts(clock):
    pace = Pace(10, clock)
    # 40 seconds of loading, then 20 s a layer.
    advance_at(pace, clock, 60, 80)
    assert pace.seconds_left() == 8 * 20
    advance_at(pace, clock, 100, 160)
    assert pace.seconds_left() == pytest.approx(6 * (160 - 60) / 3), "the mean of the parts, not the last one"


def test_between_two_parts_the_rest_shrinks_and_never_falls_below_zero(clock):
    pace = Pace(3, clock)
    advance_at(pace, clock, 10, 20)
    clock.now += 4
    assert pace.seconds_left() == 6
    clock.now += 100
    assert pace.seconds_left() == 0


def test_at_the_end_nothing_is_left(clock):
    pace = Pace(2, clock)
    advance_at(pace, clock, 10, 20)
    assert pace.seconds_left() == 0
