"""Numbers of texts, in digits and in words."""

import pytest

from trireme.cache.numbers import read_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("two hundred and five dogs", ["205"]),
        ("1,500 or fifteen hundred", ["1500", "1500"]),
        ("twenty-five", ["25"]),
        ("nineteen eighty four", ["19", "84"]),
        ("World War II, World War 2", ["2", "2"]),
        ("Louis XIV", ["14"]),
        ("Which one is it? Can I go?", []),
        ("5 million people", ["5000000"]),
        ("$2.5 million", ["2500000"]),
        ("a hundred", ["100"]),
        ("10k users", ["10000"]),
        ("the first president, the 1st", ["1", "1"]),
        ("2020-01-02", ["2020", "1", "2"]),
        ("Python 3.11.2", ["3.11.2"]),
        ("the 1990s", ["1990"]),
        (".5 mg, 0.50 mg", ["0.5", "0.5"]),
        ("two million three hundred", ["2000300"]),
        ("half a dozen", ["0.5", "12"]),
        ("ten-year-old", ["10"]),
        ("12345678901234567890123456789012", ["12345678901234567890123456789012"]),
        ("", []),
    ],
)
def test_a_number_has_one_form_however_it_is_written(text, numbers):
    assert read_numbers(text) == numbers
