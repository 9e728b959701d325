import random
from decimal import Decimal

import pytest

from trireme.budget.caps import MOST
from trireme.budget.dollars import NANOS, read_dollars, write_dollars
from trireme.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "nanos", "written"),
    [
        ("0", 0, "0.00"),
        ("5", 5 * NANOS, "5.00"),
        ("2.50", 2_500_000_000, "2.50"),
        ("0.1", 100_000_000, "0.10"),
        ("0.000000001", 1, "0.000000001"),
        ("1.230000000", 1_230_000_000, "1.23"),
        ("007.5", 7_500_000_000, "7.50"),
        ("9007199.254740991", MOST, "9007199.254740991"),
    ],
)
def test_dollars_become_nano_dollars_without_rounding_and_come_back(text, nanos, written):
    assert read_dollars(text) == nanos
    assert write_dollars(nanos) == written
    assert read_dollars(written) == nanos


def test_every_amount_is_the_one_that_a_decimal_number_has():
    choose = random.Random(1)
    for _ in range(2_000):
        nanos = choose.randint(0, MOST)
        written = write_dollars(nanos)
        assert Decimal(written) * NANOS == nanos
        assert read_dollars(written) == nanos


@pytest.mark.parametrize(
    "text",
    ["", " 5", "5 ", "$5", "-1", "+1", "1e3", "1,5", "1_0", "5.", ".5", "0.0000000001", "NaN", "٣", "5\n"],
)
def test_what_is_no_decimal_number_is_refused_with_how_to_write_one(text):
    with pytest.raises(InvalidInputError, match=r"such as 2\.50") as caught:
        read_dollars(text)
    assert caught.value.param == "dollars"


@pytest.mark.parametrize("text", ["9007199.254740992", "9007200", "9" * 20, "9" * 400])
def test_more_than_a_counter_holds_is_refused(text):
    with pytest.raises(InvalidInputError):
        read_dollars(text)
    with pytest.raises(InvalidInputError, match=r"at most 9007199\.254740991"):
        read_dollars(text[:20])


def test_what_is_owed_is_written_with_its_sign():
    assert write_dollars(-1_500_000_000) == "-1.50"
