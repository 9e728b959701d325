"""Rows of holds that expired: names of their own, so that a bill that comes late is recorded beside them."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from trireme.budget.ledger import decode_row, encode_row


def row_as_charged(row: bytes, kind: str, tokens: int, nanos: int) -> bytes:
    """The row that the ledger gets, with what was charged.

    kind: settled, the bill's, which stays as it is; expired, of what an expiry charged; reversed, which takes that
    back. The attempt of these two is ATTEMPT.KIND.

    A gateway whose budget store is away writes the bill's row to the ledger itself, before or after the expiry's:
    with three names the sum is the bill in any order. A row that cannot be read stays as it is.
    """
    if kind == "settled":
        return row
    try:
        found = decode_row(row)
    except msgspec.DecodeError:
        return row
    sign = -1 if kind == "reversed" else 1
    charged = sign * tokens
    input_tokens = min(found.input_tokens, charged)
    # Of classes that have prices of their own nothing is known before the bill.
    return encode_row(
        replace(
            found,
            attempt=f"{found.attempt}.{kind}",
            input_tokens=sign * input_tokens,
            cached_tokens=0,
            cache_write_tokens=0,
            output_tokens=sign * (charged - input_tokens),
            reasoning_tokens=0,
            nanos=nanos,
        )
    )
