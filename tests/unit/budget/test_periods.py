import pytest

from trireme.budget.periods import read_period, write_time
from trireme.errors import InvalidInputError

# 2026-11-29T12:34:56.789Z
NOW = 1_795_955_696.789


def period(since="", until=""):
    return tuple(write_time(at) for at in read_period(since, until, NOW))


def test_without_times_it_is_this_month_until_the_end_of_this_minute():
    assert period() == ("2026-11-01T00:00:00Z", "2026-11-29T12:35:00Z")
    assert read_period("", "")[0] > 1_700_000_000_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-02", "2026-11-02T00:00:00Z"),
        ("2026-11-02T03:04", "2026-11-02T03:04:00Z"),
        ("2026-11-02T03:04:05.678Z", "2026-11-02T03:04:05.678Z"),
        ("2026-11-02T03:04:05+02:00", "2026-11-02T01:04:05Z"),
        ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ],
)
def test_a_time_is_of_utc_unless_it_says_otherwise(text, at):
    assert period(since=text)[0] == at
    assert period(since="1900-01-01", until=text)[1] == at


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-13-01",
        "29.11.2026",
        "2026-11-02T25:00",
        "1",
        "0001-01-01T00:00+14:00x",
        # In UTC they are of the years 0 and 10000.
        "0001-01-01T00:00+14:00",
        "9999-12-31T23:59-12:00",
    ],
)
def test_what_is_no_time_is_refused_by_name(name, text):
    with pytest.raises(InvalidInputError, match="ISO 8601") as caught:
        period(**{name: text})
    assert caught.value.param == name


@pytest.mark.parametrize("until", ["2026-11-01", "2026-11-02"])
def test_a_period_that_is_over_before_it_begins_is_refused(until):
    with pytest.raises(InvalidInputError, match="before until"):
        period("2026-11-02", until)
