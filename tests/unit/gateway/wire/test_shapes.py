from typing import Literal

import msgspec
import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire.shapes import shape


class Row(msgspec.Struct, forbid_unknown_fields=True):
    count: int
    inner: list["Row"] | None = None


@pytest.mark.parametrize(
    ("value", "text", "param"),
    [
        ({}, "count is missing", "count"),
        ({"count": "x"}, "count: expected int, got str", "count"),
        ({"count": 1, "inner": [{}]}, "inner[0].count is missing", "inner[0].count"),
        ({"count": 1, "x": 1}, "x is no field here; leave it out", "x"),
        ([], "the body: expected object, got array", ""),
    ],
)
def test_an_error_names_the_field_and_what_is_wrong_with_it(value, text, param):
    with pytest.raises(InvalidInputError) as caught:
        shape(value, Row)
    assert (str(caught.value), caught.value.param) == (text, param)


class Choice(msgspec.Struct):
    mode: Literal["fast", "right"] | None = None
    inner: "Choice | None" = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"mode": "x"}, "mode: invalid enum value 'x'; it is one of fast, right"),
        ({"inner": {"mode": "x"}}, "inner.mode: invalid enum value 'x'"),
    ],
)
def test_an_error_names_the_words_that_a_field_takes(value, text):
    with pytest.raises(InvalidInputError) as caught:
        shape(value, Choice)
    assert str(caught.value) == text


def test_the_place_of_a_part_stands_before_its_field():
    with pytest.raises(InvalidInputError) as caught:
        shape({"count": None}, Row, "messages[2]")
    assert caught.value.param == "messages[2].count"


def test_what_fits_comes_back_typed():
    assert shape({"count": 1, "inner": [{"count": 2}]}, Row) == Row(1, [Row(2)])
