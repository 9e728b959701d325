"""Our own wire of what one request was: /v1/requests/{id}."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from trireme.budget.dollars import write_dollars
from trireme.budget.ledger import ANSWERED, MOST_FOUND, REVERSED, LedgerRow
from trireme.budget.periods import write_time

# After the end of an attempt without an answer: what follows it has a row by then, or is long under way.
QUIET_MS = 5_000


def is_complete(rows: Sequence[LedgerRow], now: float | None = None) -> bool:
    """Whether no further row of the request is to be expected. now: seconds (Unix); None: the clock's.

    Each attempt has its row when it ends: one that fell through to the next comes before that one's.
    """
    if any(row.outcome in ANSWERED for row in rows):
        return True
    seconds = time.time() if now is None else now
    return bool(rows) and seconds * 1000 > max(row.at + row.total_ms for row in rows) + QUIET_MS


def request_body(rows: Sequence[LedgerRow]) -> dict[str, Any]:
    """The answer to GET /v1/requests/{id}: attempts by rising time, of one tenant, at least one.

    is_priced: whether each attempt has a price; without one it is written down at 0. has_more: earlier attempts
    of the same name are left out, of a client that names many requests alike.
    """
    first, shown = rows[0], _without_reversed(rows)
    return {
        "object": "request",
        "id": first.request,
        "tenant": first.tenant,
        "user": first.user,
        "model": first.asked,
        "at": write_time(first.at),
        "attempts": [_attempt(row) for row in shown],
        "total": {
            "attempts": len(shown),
            "input_tokens": sum(row.input_tokens for row in rows),
            "output_tokens": sum(row.output_tokens for row in rows),
            "dollars": write_dollars(sum(row.nanos for row in rows)),
            "saved_dollars": write_dollars(sum(row.saved_nanos for row in rows)),
        },
        "is_complete": is_complete(rows),
        "is_priced": all(row.prices for row in shown),
        "has_more": len(rows) >= MOST_FOUND,
    }


def _without_reversed(rows: Sequence[LedgerRow]) -> list[LedgerRow]:
    """An expiry that was taken back, and what takes it back, are together nothing: the bill is a row of its own."""
    back = {row.attempt.removesuffix(REVERSED) for row in rows if row.attempt.endswith(REVERSED)}
    return [row for row in rows if row.attempt.removesuffix(REVERSED) not in back]


def _attempt(row: LedgerRow) -> dict[str, Any]:
    return {
        "served": row.served,
        "step": row.step,
        "tier": row.tier,
        "outcome": row.outcome,
        "input_tokens": row.input_tokens,
        "cached_tokens": row.cached_tokens,
        "output_tokens": row.output_tokens,
        "reasoning_tokens": row.reasoning_tokens,
        "counted_by": row.counted_by,
        "dollars": write_dollars(row.nanos),
        "saved_dollars": write_dollars(row.saved_nanos),
        "is_priced": bool(row.prices),
        "first_ms": row.first_ms if row.first_ms >= 0 else None,
        "total_ms": row.total_ms,
        "release": row.release,
    }
