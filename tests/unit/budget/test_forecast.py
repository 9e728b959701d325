import random
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from trireme.budget.caps import Cap
from trireme.budget.forecast import Forecast, forecast
from trireme.budget.periods import DAY, MINUTE, window_end
from trireme.budget.port import Counter

HOUR = 3_600_000


def at(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


START = at("2026-11-29")


def counter(tokens=0, nanos=0, window="day", start=START):
    return Counter("tenant", window, start, tokens, 0, nanos, 0)


def cap(tokens=None, nanos=None, window="day"):
    return Cap("acme", "", window, tokens, nanos)


def test_a_budget_that_is_half_spent_in_a_quarter_of_the_day_ends_at_noon():
    found = forecast(cap(tokens=1_000), counter(500), START + 6 * HOUR)
    assert found == Forecast("tokens", Fraction(1, 2), 2_000, START + 12 * HOUR, START + DAY)


def test_a_budget_that_lasts_has_no_end():
    found = forecast(cap(tokens=1_000), counter(250), START + 6 * HOUR)
    assert found == Forecast("tokens", Fraction(1, 4), 1_000, None, START + DAY)


def test_the_first_twentieth_of_a_window_says_nothing():
    first = START + DAY // 20
    assert forecast(cap(tokens=1_000), counter(900), first - 1).at_end is None
    assert forecast(cap(tokens=1_000), counter(900), first - 1).exhausted_at is None
    assert forecast(cap(tokens=1_000), counter(900), first).at_end == 18_000


def test_what_is_spent_is_exhausted_now_also_at_the_windows_first_instant():
    assert forecast(cap(tokens=10), counter(11), START).exhausted_at == START
    assert forecast(cap(tokens=0), counter(0), START + HOUR).exhausted_at == START + HOUR
    assert forecast(cap(tokens=0), counter(0), START + HOUR).used == 1


def test_the_unit_that_ends_first_is_told():
    spent = counter(tokens=500, nanos=900)
    assert forecast(cap(tokens=1_000, nanos=1_000), spent, START + 12 * HOUR).unit == "nanos"
    assert forecast(cap(tokens=600, nanos=9_000), spent, START + 12 * HOUR).unit == "tokens"
    # None ends: the fuller one.
    assert forecast(cap(tokens=9_000, nanos=2_000), spent, START + 12 * HOUR).unit == "nanos"


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("minute", "2026-11-29T12:34", "2026-11-29T12:35"),
        ("day", "2026-11-30", "2026-12-01"),
        ("month", "2026-02-01", "2026-03-01"),
        ("month", "2028-02-01", "2028-03-01"),
        ("month", "2026-12-01", "2027-01-01"),
        ("month", "2026-01-01", "2026-02-01"),
    ],
)
def test_windows_end_where_the_next_begins(window, start, end):
    assert window_end(window, at(start)) == at(end)


def test_a_clock_that_is_beside_the_window_counts_as_its_end_or_start():
    spent = counter(30, window="minute")
    before = forecast(cap(tokens=100, window="minute"), spent, START - 5)
    behind = forecast(cap(tokens=100, window="minute"), spent, START + MINUTE + 5)
    assert (before.at_end, behind.at_end) == (None, 30)


def test_a_budget_without_limits_is_no_budget():
    with pytest.raises(ValueError, match="never"):
        forecast(cap(), counter(), START)


@pytest.mark.parametrize("seed", range(200))
def test_at_the_forecast_time_the_straight_line_has_reached_the_budget(seed):
    chance = random.Random(seed)
    most, spent = chance.randrange(1, 10**15), chance.randrange(10**15)
    passed = chance.randrange(DAY // 20, DAY)
    found = forecast(cap(nanos=most), counter(nanos=spent), START + passed)
    if found.exhausted_at is None:
        assert spent * DAY <= (most + 1) * passed
    elif spent < most:
        line = Fraction(spent, passed)
        assert line * (found.exhausted_at - START) >= most > line * (found.exhausted_at - START - 1)
        assert START + passed <= found.exhausted_at <= found.ends_at
