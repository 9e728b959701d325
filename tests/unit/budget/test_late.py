"""Rows of holds that expired."""

from dataclasses import replace

import pytest

from trireme.budget.late import row_as_charged
from trireme.budget.ledger import REVERSED, LedgerRow, decode_row, encode_row

ROW = LedgerRow(
    "a", "r", "acme", "ann", "k", "chat", "local", "llm", "local:llm", 5, input_tokens=100, nanos=1
)


def charged(kind, tokens, nanos, **changes):
    return decode_row(row_as_charged(encode_row(replace(ROW, **changes)), kind, tokens, nanos))


def test_a_settled_row_is_the_bills_byte_for_byte():
    assert row_as_charged(b'{"a": 1 }', "settled", 5, 5) == b'{"a": 1 }'


@pytest.mark.parametrize(("tokens", "split"), [(0, (0, 0)), (60, (60, 0)), (100, (100, 0)), (130, (100, 30))])
def test_an_expiry_is_charged_as_input_first(tokens, split):
    row = charged("expired", tokens, 9)
    assert (row.input_tokens, row.output_tokens, row.nanos) == (*split, 9)
    assert (row.attempt, row.tokens) == ("a.expired", tokens)


@pytest.mark.parametrize("tokens", [0, 60, 130])
def test_a_reversal_takes_back_every_class_of_an_expiry(tokens):
    expired = charged("expired", tokens, 9, cached_tokens=10, output_tokens=7, reasoning_tokens=3)
    back = charged("reversed", -tokens, -9, cached_tokens=10, output_tokens=7, reasoning_tokens=3)
    # By this name the usage knows it.
    assert back.attempt == f"a{REVERSED}"
    for name in ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "nanos", "tokens"):
        assert getattr(expired, name) + getattr(back, name) == 0


def test_all_else_stays_as_it_was_reserved():
    row = charged("expired", 5, 5)
    assert replace(row, attempt="a", input_tokens=100, output_tokens=0, nanos=1) == ROW


def test_a_row_that_cannot_be_read_stays_as_it_is():
    assert row_as_charged(b"{}", "expired", 5, 5) == b"{}"
