"""Cost books and logs of releases in memory, for tests: nothing outlives the process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from fakes.memory_ledger import MemoryLedger, known_models
from trireme.budget.ledger import OTHER, REVERSED, LedgerRow
from trireme.cost.machines import GAP_SECONDS, Span, cut
from trireme.cost.port import COST_BY, GOOD, NEUTRAL, Beat, Charge, CostGroup, CostQuery, Own
from trireme.cost.releases import Deploy, check_note
from trireme.errors import InvalidInputError, NotFoundError

HOUR = 3_600_000
FIELDS = {"tenant": "tenant", "model": "served", "step": "step", "tier": "tier", "release": "release"}


class MemoryCosts:
    """A CostBook over a ledger in memory. clock: milliseconds (Unix)."""

    def __init__(self, ledger: MemoryLedger, clock: Callable[[], int] = lambda: 0) -> None:
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self.kept: list[Span] = []

    def groups(self, query: CostQuery) -> list[CostGroup]:
        """See CostBook.groups."""
        if query.by not in COST_BY:
            raise InvalidInputError(f"no cost by {query.by!r}", "by")
        found: dict[str, list[LedgerRow]] = {}
        rows = list(self._rows(query.start, query.end, query.tenant, query.user))
        known = known_models(rows)
        for row in rows:
            name = _name(row, query.by)
            found.setdefault(OTHER if query.by == "model" and name not in known else name, []).append(row)
        groups = [_group(name, rows, query.own) for name, rows in sorted(found.items())]
        if query.by != "day":
            groups.sort(
                key=lambda one: (-one.own_nanos - one.provider_nanos, -one.input_tokens - one.output_tokens)
            )
        return groups

    def charges(
        self, start: int, end: int, own: Own, tenant: str, take: Callable[[Sequence[Charge]], None]
    ) -> None:
        """See CostBook.charges."""
        found: dict[tuple, list[LedgerRow]] = {}
        for row in self._rows(start, end, tenant, ""):
            key = (
                *(row.at - row.at % HOUR, row.tenant, row.user, row.endpoint, row.provider, row.asked),
                *(row.served, row.tier, row.step, row.release, row.prices, _is_own(row, own)),
            )
            found.setdefault(key, []).append(row)
        for key, rows in sorted(found.items()):
            one = _group("", rows, own)
            counts = (one.requests, one.attempts, one.input_tokens, one.cached_tokens, one.output_tokens)
            take([Charge(*key, *counts, one.own_nanos + one.provider_nanos, one.saved_nanos)])

    def spans(self, start: int, end: int) -> list[Span]:
        """See CostBook.spans."""
        with self._lock:
            return sorted(cut(self.kept, start, end), key=lambda span: (span.start, span.machine))

    def beat(self, beat: Beat) -> None:
        """See CostBook.beat."""
        with self._lock:
            now = self._clock() if beat.at is None else beat.at
            began = now
            own = [span for span in self.kept if span.machine == beat.machine]
            if own:
                last = max(own, key=lambda span: span.end)
                is_near = now - last.end <= GAP_SECONDS * 1000
                if is_near and (last.kind, last.release) == (beat.kind, beat.release):
                    self.kept[self.kept.index(last)] = replace(last, end=max(now, last.end))
                    return
                began = last.end if is_near else now
            self.kept.append(Span(beat.machine, beat.kind, beat.release, began, max(now, began)))

    def close(self) -> None:
        """See CostBook.close."""

    def _rows(self, start: int, end: int, tenant: str, user: str) -> Iterator[LedgerRow]:
        for one in list(self._ledger.rows.values()):
            row = one.row
            if tenant in ("", row.tenant) and user in ("", row.user) and start <= row.at < end:
                yield row


class MemoryReleases:
    """A ReleaseLog. clock: milliseconds (Unix)."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self.entries: list[Deploy] = []

    def deploy(self, deploy: Deploy) -> bool:
        """See ReleaseLog.deploy."""
        made = [one for one in self.entries if not one.note]
        if made and replace(made[-1], at=deploy.at) == replace(deploy, note=""):
            return False
        self.entries.append(replace(deploy, at=self._clock(), note=""))
        return True

    def note(self, release: str, text: str) -> Deploy:
        """See ReleaseLog.note."""
        text = check_note(text)
        made = [one for one in self.entries if not one.note and release in ("", one.release)]
        if not made:
            raise NotFoundError(f"no release {release!r}" if release else "no release was deployed yet")
        self.entries.append(replace(made[-1], at=self._clock(), models={}, note=text))
        return self.entries[-1]

    def find(self) -> list[Deploy]:
        """See ReleaseLog.find."""
        return list(self.entries)

    def close(self) -> None:
        """See ReleaseLog.close."""


def _name(row: LedgerRow, by: str) -> str:
    if by == "day":
        return datetime.fromtimestamp(row.at // 1000, UTC).strftime("%Y-%m-%d")
    return str(getattr(row, FIELDS[by])) if by in FIELDS else ""


def _is_own(row: LedgerRow, own: Own) -> bool:
    return row.provider in own.providers or row.served in own.targets


def _group(name: str, rows: Sequence[LedgerRow], own: Own) -> CostGroup:
    requests: dict[tuple[str, str], list[LedgerRow]] = {}
    for row in rows:
        requests.setdefault((row.tenant, row.request), []).append(row)
    good = [any(row.outcome in GOOD for row in one) for one in requests.values()]
    bad = [any(row.outcome not in (*GOOD, *NEUTRAL) for row in one) for one in requests.values()]
    answers = [[row for row in one if row.outcome in GOOD and not row.tier] for one in requests.values()]
    firsts = [[row.first_ms for row in one if row.first_ms >= 0] for one in answers]
    return CostGroup(
        name,
        requests=len(requests),
        succeeded=sum(good),
        failed=sum(bad and not good for good, bad in zip(good, bad, strict=True)),
        attempts=sum(-1 if row.attempt.endswith(REVERSED) else 1 for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        own_nanos=sum(row.nanos for row in rows if _is_own(row, own)),
        provider_nanos=sum(row.nanos for row in rows if not _is_own(row, own)),
        saved_nanos=sum(row.saved_nanos for row in rows),
        milliseconds=sum(row.total_ms for row in rows),
        took=_percentiles([max(row.total_ms for row in one) for one in answers if one]),
        first=_percentiles([min(one) for one in firsts if one]),
    )


def _percentiles(values: list[int]) -> tuple[int, int] | None:
    """Median and 95th percentile, as values that are there."""
    values.sort()
    if not values:
        return None
    at = [max(0, -(-len(values) * share // 100) - 1) for share in (50, 95)]
    return values[at[0]], values[at[1]]
