"""What is said of a budget that leaves too little."""

from datetime import UTC, datetime

import pytest

from trireme.budget.caps import Cap
from trireme.budget.port import Refusal
from trireme.budget.prices import Price
from trireme.errors import ResourceExhaustedError
from trireme.gateway.spending.refusals import amount, check_price, refusal_error

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()


def refusal(window="day", unit="tokens", cap=1_000_000, **more):
    fields = {"spent": 900_000, "held": 95_000, "resets_at": int(NOON + 30) * 1000} | more
    return Refusal("tenant", window, unit, cap, **fields, left_tokens=5_000, left_nanos=None)


def test_the_message_says_all_that_a_person_wants_to_know():
    error = refusal_error(refusal(), 6_000, 0, NOON)
    assert str(error) == (
        "the tenant's budget of this day leaves too little: 1,000,000 tokens in all, 900,000 tokens spent, "
        "95,000 tokens held for running requests, and this one may need 6,000 tokens; it begins anew at "
        "2026-11-30T12:00:30Z; a smaller max_tokens needs less"
    )
    assert (error.retry_after, error.resets_at) == (0.0, int(NOON + 30) * 1000)


def test_money_is_told_in_dollars_to_the_last_nano():
    error = refusal_error(refusal(unit="nanos", cap=2_500_000_000), 6_000, 1_000_000_001, NOON)
    assert "2.5 US dollars in all" in str(error) and "may need 1.000000001 US dollars" in str(error)


@pytest.mark.parametrize(
    ("window", "tokens", "wait"),
    [("minute", 6_000, 30.0), ("minute", 1_000_001, 0.0), ("day", 6_000, 0.0), ("month", 6_000, 0.0)],
)
def test_only_a_minute_that_helps_is_waited_for(window, tokens, wait):
    assert refusal_error(refusal(window), tokens, 0, NOON).retry_after == wait


def test_a_minute_that_is_just_over_is_waited_for_a_second():
    assert refusal_error(refusal("minute"), 1, 0, NOON + 40).retry_after == 1.0


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (10**9, "1"), (1, "0.000000001"), (12 * 10**8, "1.2")]
)
def test_amounts_of_money(number, text):
    assert amount(number, "nanos") == f"{text} US dollars"


def test_a_price_is_needed_where_a_level_is_budgeted_in_money_alone():
    money, tokens = Cap("acme", "", "day", nanos=5), Cap("acme", "", "month", tokens=5)
    of_user = Cap("acme", "ann", "month", tokens=5)
    check_price("a:m", None, ())
    check_price("a:m", None, (tokens,))
    check_price("a:m", None, (money, tokens))
    check_price("a:m", Price(1, 1, 1, 1, "x"), (money,))
    for caps in ((money,), (money, of_user)):
        with pytest.raises(ResourceExhaustedError, match=r'prices."a:m" in gateway\.toml'):
            check_price("a:m", None, caps)
