"""Rows of the ledger, from exchanges and what their attempts used."""

from __future__ import annotations

import secrets
from dataclasses import replace

from trireme.budget.amounts import clamp
from trireme.budget.ledger import LedgerRow, encode_row
from trireme.budget.port import Bill
from trireme.budget.prices import Price
from trireme.gateway.exchange import Exchange
from trireme.gateway.spending.counting import Used


def new_attempt_id() -> str:
    """Unique for ever."""
    return f"att_{secrets.token_hex(16)}"


def open_row(
    exchange: Exchange, attempt: str, asked: str, label: str, price: Price | None, *, release: str = ""
) -> LedgerRow:
    """The row of an attempt that begins. label: provider:model. What it uses is not in it yet."""
    key = exchange.caller
    return LedgerRow(
        attempt=attempt,
        request=exchange.request_id,
        tenant=key.tenant,
        user=key.user,
        key=key.id,
        endpoint=exchange.endpoint,
        provider=label.partition(":")[0],
        asked=asked,
        served=label,
        at=0,
        prices=price.version if price is not None else "",
        release=release,
    )


def with_used(row: LedgerRow, used: Used, price: Price | None) -> LedgerRow:
    """The row with what was used, and what that costs: 0 where no price is known, MOST where it is above that."""
    tokens = used.tokens
    return replace(
        row,
        input_tokens=tokens.input,
        cached_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
        reasoning_tokens=used.reasoning,
        counted_by=used.counted_by,
        nanos=clamp(price.cost(tokens)) if price is not None else 0,
    )


def bill_of(row: LedgerRow) -> Bill:
    """What the budget store is told at the end."""
    return Bill(row.attempt, row.tokens, row.nanos, encode_row(row), row.tenant, row.user)
