"""A ledger in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from trireme.budget.ledger import (
    MOST_FOUND,
    MOST_MODELS,
    NOT_SERVED,
    OTHER,
    REVERSED,
    LedgerRow,
    Recorded,
    Sum,
    SumQuery,
    UsageQuery,
    UsageRow,
)
from trireme.errors import InvalidInputError

TIMES = {"minute": "%Y-%m-%dT%H:%MZ", "day": "%Y-%m-%d", "month": "%Y-%m"}
FIELDS = {"model": "served", "user": "user", "tenant": "tenant", "outcome": "outcome", "tier": "tier"}


class MemoryLedger:
    """A Ledger. Several processes with one database are one object here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rows: dict[str, Recorded] = {}

    def record(self, rows: Sequence[Recorded]) -> int:
        """See Ledger.record."""
        with self._lock:
            before = len(self.rows)
            for one in rows:
                self.rows.setdefault(one.row.attempt, one)
            return len(self.rows) - before

    def usage(self, query: UsageQuery) -> list[UsageRow]:
        """See Ledger.usage."""
        if query.by not in TIMES and query.by not in FIELDS:
            raise InvalidInputError(f"no usage by {query.by!r}", "by")
        groups: dict[str, list[LedgerRow]] = {}
        rows = [one.row for one in self._scope(query)]
        known = known_models(rows)
        for row in rows:
            name = _name(row, query.by)
            groups.setdefault(OTHER if query.by == "model" and name not in known else name, []).append(row)
        found = [_sum(name, group) for name, group in sorted(groups.items())]
        if query.by not in TIMES:
            found.sort(key=lambda row: (-row.nanos, -row.input_tokens - row.output_tokens))
        return found

    def sum(self, query: SumQuery) -> Sum:
        """See Ledger.sum."""
        rows = [one.row for one in self._scope(query) if one.epoch != query.epoch or one.seq <= query.seq]
        return Sum(sum(row.tokens for row in rows), sum(row.nanos for row in rows))

    def find(self, request: str, tenant: str = "", user: str = "") -> list[LedgerRow]:
        """See Ledger.find."""
        with self._lock:
            rows = [one.row for one in self.rows.values() if one.row.request == request]
        rows = [row for row in rows if tenant in ("", row.tenant) and user in ("", row.user)]
        return sorted(rows, key=lambda row: (row.at, row.attempt))[-MOST_FOUND:]

    def close(self) -> None:
        """See Ledger.close."""

    def _scope(self, query: UsageQuery | SumQuery) -> Iterator[Recorded]:
        with self._lock:
            rows = list(self.rows.values())
        for one in rows:
            is_theirs = query.tenant in ("", one.row.tenant) and query.user in ("", one.row.user)
            if is_theirs and query.start <= one.row.at < query.end:
                yield one


def known_models(rows: Iterable[LedgerRow]) -> set[str]:
    """The models that have a group of their own."""
    found: dict[str, list[LedgerRow]] = {}
    for row in rows:
        found.setdefault(row.served, []).append(row)
    sums = [
        (-sum(row.nanos for row in group), -sum(row.tokens for row in group), name)
        for name, group in found.items()
        if any(row.outcome != NOT_SERVED for row in group) or sum(row.nanos for row in group)
    ]
    return {name for *_, name in sorted(sums)[:MOST_MODELS]}


def _name(row: LedgerRow, by: str) -> str:
    if by in TIMES:
        return datetime.fromtimestamp(row.at // 1000, UTC).strftime(TIMES[by])
    return str(getattr(row, FIELDS[by]))


def _sum(name: str, rows: Sequence[LedgerRow]) -> UsageRow:
    return UsageRow(
        name,
        len({(row.tenant, row.request) for row in rows}),
        sum(-1 if row.attempt.endswith(REVERSED) else 1 for row in rows),
        sum(row.input_tokens for row in rows),
        sum(row.cached_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        sum(row.nanos for row in rows),
        sum(row.saved_nanos for row in rows),
    )
