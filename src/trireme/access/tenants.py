"""The port that lists tenants: nobody makes one, so they are known by their keys, their budgets and their use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TenantQuery:
    """Tenants whose names hold `part`, ASCII letters in either case, by name, after the name `after`; `limit`
    at most.

    since: what they use is counted from then on (milliseconds, Unix).
    """

    since: int
    part: str = ""
    after: str = ""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class TenantInfo:
    """keys: in force. budgets: its own and its users', not those that are set for each. requests: different ones
    since the query's time; tokens and nanos (billionths of a US dollar) of all their attempts."""

    tenant: str
    keys: int = 0
    budgets: int = 0
    requests: int = 0
    tokens: int = 0
    nanos: int = 0


class TenantList(Protocol):
    """Safe to use from several threads. Every verb blocks and raises UnavailableError."""

    def find(self, query: TenantQuery) -> Sequence[TenantInfo]:
        """Who has a key, in force or revoked, a budget, or a request since the query's time."""
        ...

    def close(self) -> None:
        """Free the connections. Idempotent; a later verb opens new ones."""
        ...
