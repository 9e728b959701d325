"""The ledger's port and its row: one for each attempt, appended and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

# provider: its own count. counted: by the gateway, from what was streamed. bound: an upper bound of the input.
# expired: what was last reported before the process died. cached: of the answer that a cache gave.
CountedBy = Literal["provider", "counted", "bound", "expired", "cached"]
# What stands behind the attempt of a row that takes back what its expiry charged: the bill came, with its own row.
REVERSED = ".reversed"
# How an attempt ends whose answer was shown.
ANSWERED = ("ok", "stopped")
# How an attempt ends at a name that nobody serves.
NOT_SERVED = "not_found"
# By model, so many groups have a name, the dearest; all others are one. So is, however many there are, what nobody
# serves: clients of our own Triton name what they ask for. A model that only fails has its name.
MOST_MODELS = 100
OTHER = "other"
# Rows of one request that are looked up at most: a client may give every request the same name.
MOST_FOUND = 1_000
UsageBy = Literal["minute", "day", "month", "model", "user", "tenant", "outcome", "tier"]


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What one attempt was and cost. Tokens are whole counts; input_tokens includes cached and cache_write.

    attempt: unique. endpoint: as keys are limited to. asked, served: the model that the client named, and
    provider:model. tier: the cache tier that answered, "" for none. step: of a cascade, "" for none. prices:
    version of the price table, "" where no price is known (then nanos is 0). nanos: billionths of a US dollar.
    saved_nanos: what a cache hit spared. outcome: ok, stopped (early, on purpose), escalated (its cascade asked the
    next step), cut, client_gone, expired, or the kind of the fault.
    first_ms, total_ms: milliseconds until the first content (-1: none came) and the end. at: when it was
    reserved, milliseconds (Unix) of the budget store's clock, or the gateway's without one. release: of the
    gateway, "" in rows of versions that had none.
    """

    attempt: str
    request: str
    tenant: str
    user: str
    key: str
    endpoint: str
    provider: str
    asked: str
    served: str
    at: int
    tier: str = ""
    step: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    counted_by: CountedBy = "bound"
    prices: str = ""
    nanos: int = 0
    saved_nanos: int = 0
    held_tokens: int = 0
    held_nanos: int = 0
    outcome: str = ""
    first_ms: int = -1
    total_ms: int = 0
    release: str = ""

    @property
    def tokens(self) -> int:
        """What counts against a budget of tokens."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Recorded:
    """A row with its place in the budget store's order; epoch "" for one that no store counted."""

    row: LedgerRow
    epoch: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Whose usage, from when to before when (milliseconds, Unix), grouped by what. tenant "": all tenants."""

    start: int
    end: int
    by: UsageBy
    tenant: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group. name: of the group; a time is written as ISO 8601 (UTC). requests: different ones.

    attempts: rows, less two for each that takes back an expiry: expiry, reversal and bill are one attempt.
    """

    name: str
    requests: int
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    nanos: int
    saved_nanos: int


@dataclass(frozen=True, slots=True)
class SumQuery:
    """Rows of a scope (as `BudgetStore.read` has it) reserved from start to before end (milliseconds, Unix).

    Those of `epoch` whose place is above `seq` are left out.
    """

    tenant: str
    user: str
    start: int
    end: int
    epoch: str
    seq: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Tokens and nano-dollars of a scope's rows in one window."""

    tokens: int
    nanos: int


class Ledger(Protocol):
    """All rows, for good. Safe to use from several threads and processes. Every verb raises UnavailableError."""

    def record(self, rows: Sequence[Recorded]) -> int:
        """Append rows; an attempt that is there already is passed over. Returns how many were new. All or none."""
        ...

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        """Groups in the order of their names; by model, user, tenant, tier, outcome: the dearest first.

        By model at most MOST_MODELS and OTHER; a model is named that has a bill, or an attempt that ended otherwise
        than with NOT_SERVED.
        """
        ...

    def sum(self, query: SumQuery) -> Sum:
        """All rows that the query takes in."""
        ...

    def find(self, request: str, tenant: str = "", user: str = "") -> list[LedgerRow]:
        """The rows of the requests of this name, by rising `at`; of more than MOST_FOUND the latest. tenant and
        user: "" for all."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...


def encode_row(row: LedgerRow) -> bytes:
    """As the budget store keeps it."""
    return msgspec.json.encode(row)


def decode_row(raw: bytes) -> LedgerRow:
    """The reverse. Raises msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=LedgerRow)
