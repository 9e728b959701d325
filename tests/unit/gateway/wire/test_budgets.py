"""JSON of budgets and usage."""

import pytest

from trireme.budget.caps import MOST, Cap
from trireme.budget.ledger import UsageQuery, UsageRow
from trireme.budget.port import Counter
from trireme.errors import InvalidInputError
from trireme.gateway.wire.budgets import (
    MOST_MINUTES,
    USAGE_BY,
    budget_body,
    read_budget,
    read_usage,
    read_window,
    usage_body,
)


@pytest.mark.parametrize(
    ("body", "cap"),
    [
        ({"window": "day", "tokens": 0}, Cap("", "", "day", tokens=0)),
        ({"window": "day", "tokens": MOST}, Cap("", "", "day", tokens=MOST)),
        (
            {"window": "month", "tenant": "acme", "dollars": "2.50"},
            Cap("acme", "", "month", nanos=2_500_000_000),
        ),
        ({"window": "month", "tenant": "acme", "dollars": 3}, Cap("acme", "", "month", nanos=3_000_000_000)),
        (
            {"window": "minute", "tenant": "*", "user": "*", "tokens": 5, "dollars": "0.000000001"},
            Cap("*", "*", "minute", 5, 1),
        ),
        (
            {"window": "day", "tenant": "acme", "user": None, "tokens": None, "dollars": "0"},
            Cap("acme", "", "day", nanos=0),
        ),
    ],
)
def test_a_body_is_a_cap(body, cap):
    assert read_budget(body) == cap


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"window": None}, "window", "window"),
        ({"window": "week"}, "window", "week"),
        ({"tokens": MOST + 1}, "tokens", "9007199254740991"),
        ({"tokens": 2**70}, "tokens", "tokens"),
        ({"tokens": -1}, "tokens", ">= 0"),
        ({"tokens": 1.5}, "tokens", "int"),
        ({"tokens": "5"}, "tokens", "int"),
        ({"tokens": True}, "tokens", "int"),
        ({"dollars": 2.5}, "dollars", "2.50"),
        ({"dollars": True}, "dollars", "2.50"),
        ({"dollars": "9007199.254740992"}, "dollars", "at most 9007199.254740991"),
        ({"dollars": 9_007_200}, "dollars", "at most"),
        ({"dollars": 10**60}, "dollars", "dollars"),
        ({"dollars": -1}, "dollars", "decimal number"),
        ({"dollars": "1e3"}, "dollars", "decimal number"),
        ({"dollars": ["1"]}, "dollars", "2.50"),
        ({"tenant": ""}, "tenant", "length"),
        ({"user": ""}, "user", "length"),
        ({"tenant": 5}, "tenant", "str"),
        ({"tokens": None}, "tokens", "DELETE"),
        ({"limit": 5}, "limit", "no field here"),
    ],
)
def test_a_body_that_cannot_be_one_names_the_field(change, param, words):
    with pytest.raises(InvalidInputError) as caught:
        read_budget({"window": "day", "tokens": 1, **change})
    assert caught.value.param == param
    assert words in str(caught.value)


def test_a_body_without_a_window_says_that_it_is_missing():
    with pytest.raises(InvalidInputError, match="window is missing"):
        read_budget({"tokens": 1})


def test_a_window_is_one_of_three():
    assert read_window({"window": "day"}) == "day"
    for query in ({}, {"window": "year"}):
        with pytest.raises(InvalidInputError, match="minute, day, month"):
            read_window(query)


def test_usage_is_by_day_unless_it_says_otherwise():
    query = {"since": "2026-11-01", "until": "2026-11-02"}
    assert read_usage(query, "t", "u") == UsageQuery(1_793_491_200_000, 1_793_577_600_000, "day", "t", "u")
    for by in USAGE_BY:
        assert read_usage({**query, "by": by}, "", "").by == by
    with pytest.raises(InvalidInputError, match="by must be one of minute, day"):
        read_usage({**query, "by": "key"}, "", "")


def test_minutes_of_more_than_a_week_are_too_many_for_one_answer():
    week = {"by": "minute", "since": "2026-11-01", "until": "2026-11-08"}
    read_usage(week, "", "")
    with pytest.raises(InvalidInputError, match=f"{MOST_MINUTES} minutes"):
        read_usage({**week, "until": "2026-11-08T00:01"}, "", "")


def test_a_budget_says_what_is_spent_and_held_where_that_is_known():
    cap = Cap("acme", "", "day", tokens=5, nanos=1)
    body = budget_body(cap)
    assert body == {
        "object": "budget",
        "level": "tenant",
        "tenant": "acme",
        "user": None,
        "window": "day",
        "tokens": 5,
        "dollars": "0.000000001",
    }
    counters = {("acme", "", "day"): Counter("tenant", "day", 0, 1, 2, 3, 0)}
    six = 6 * 3_600_000
    assert budget_body(cap, counters, six) == {
        **body,
        "spent": {"tokens": 1, "dollars": "0.000000003"},
        "held": {"tokens": 2, "dollars": "0.00"},
        "forecast": {
            "unit": "dollars",
            "used": 3.0,
            "at_end": "0.000000012",
            "exhausted_at": "1970-01-01T06:00:00Z",
            "ends_at": "1970-01-02T00:00:00Z",
        },
    }
    assert budget_body(cap, {}) == {**body, "spent": None, "held": None, "forecast": None}


def test_a_budget_of_tokens_that_lasts_is_told_in_tokens():
    cap = Cap("acme", "", "day", tokens=5)
    counters = {("acme", "", "day"): Counter("tenant", "day", 0, 1, 0, 0, 0)}
    assert budget_body(cap, counters, 12 * 3_600_000)["forecast"] == {
        "unit": "tokens",
        "used": 0.2,
        "at_end": 2,
        "exhausted_at": None,
        "ends_at": "1970-01-02T00:00:00Z",
    }


def test_usage_has_a_total_in_which_a_request_counts_once():
    rows = [UsageRow("a", 1, 2, 3, 4, 5, 6, 7), UsageRow("b", 1, 20, 30, 40, 50, 60, 70)]
    body = usage_body(UsageQuery(0, 60_000, "model", "acme"), rows, 1)
    assert (body["since"], body["until"]) == ("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z")
    assert (body["by"], body["tenant"], body["user"]) == ("model", "acme", None)
    assert [one["name"] for one in body["data"]] == ["a", "b"]
    assert body["total"] == {
        "name": "total",
        "requests": 1,
        "attempts": 22,
        "input_tokens": 33,
        "cached_tokens": 44,
        "output_tokens": 55,
        "dollars": "0.000000066",
        "saved_dollars": "0.000000077",
    }
