import pytest

from trireme.observe.metric import Metric


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("a_seconds", "seconds"),
        ("a_seconds_total", "seconds"),
        ("a_memory_bytes", "bytes"),
        ("a_cost_dollars_total", "dollars"),
        ("a_spent_nanos_total", "nanodollars"),
        ("a_tokens_total", "tokens"),
        ("a_requests_total", "count"),
        ("total", "count"),
    ],
)
def test_a_unit_that_is_not_said_is_what_the_name_ends_with(name, unit):
    assert Metric(name, "gauge", "help").unit == unit


def test_a_unit_that_nobody_knows_is_refused_by_name():
    with pytest.raises(ValueError, match="'parsec' of far is none of seconds"):
        Metric("far", "gauge", "help", unit="parsec")
