"""Counts what ended: for everybody, for each tenant and for each user, an hour long."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence

from trireme.budget.ledger import LedgerRow
from trireme.gateway.exchange import Exchange
from trireme.gateway.live.slots import (
    INTERVAL,
    QUIET,
    SERIES,
    SLOTS,
    UNKNOWN,
    Slot,
    merge,
    range_of,
    times_of,
    values_of,
)

# Requests that ask a model. What people look up meanwhile is no load that they want to see.
ANSWERING = frozenset(
    {"chat", "completions", "messages", "responses", "embeddings", "rerank", "classify", "search"}
)
_ASKING = frozenset({"POST", "QUERY"})
# Of which the gateway says how things are now.
RECENT = 6
# Tenants, and users, that are recorded though nobody watches them: more are from when somebody does.
MOST = 256
# Different errors and tiers in one hour of one ring.
MOST_TALLIED = 100


class Ring:
    """An hour of one tenant, of one user, or of all.

    name: tenant and user. since: Unix seconds from which on it misses nothing. index: of the slot of now.
    """

    def __init__(self, name: tuple[str, str], index: int, since: float) -> None:
        self.name = name
        self.since = since
        self.watchers = 0
        self.touched = index
        self.tally: Counter[tuple[str, str]] = Counter()
        self._index = index
        self._slot = Slot()
        self._recent: deque[tuple[int, Slot]] = deque()
        self._closed: dict[int, Sequence[float]] = {}
        self._tallies: deque[tuple[int, Counter[tuple[str, str]]]] = deque()

    def slot(self, index: int) -> Slot:
        """The slot of now, to add to."""
        self.turn(index)
        self.touched = index
        return self._slot

    def turn(self, index: int) -> None:
        """It is slot `index` by now. A clock that goes back does not make it an earlier one."""
        if index <= self._index:
            return
        slot, at = self._slot, self._index
        if not slot.is_empty:
            self._closed[at] = array("d", values_of(slot))
            self._recent.append((at, slot))
        if slot.tally:
            self._tallies.append((at, slot.tally))
        self._slot, self._index = Slot(), index
        while self._recent and self._recent[0][0] < index - RECENT:
            self._recent.popleft()
        while self._tallies and self._tallies[0][0] <= index - SLOTS:
            self.tally.subtract(self._tallies.popleft()[1])
            self.tally = +self.tally
        while self._closed and (oldest := next(iter(self._closed))) < index - SLOTS:
            del self._closed[oldest]

    def count(self, kind: str, name: str) -> None:
        """One more error or look-up of the hour. In the slot that `slot` gave."""
        key = (kind, name)
        if key not in self.tally and len(self.tally) >= MOST_TALLIED:
            key = (kind, "other")
        self.tally[key] += 1
        self._slot.tally[key] += 1

    def recent(self, index: int) -> Slot:
        """The slot of now and the RECENT ones before it, as one."""
        self.turn(index)
        return merge([*(slot for _, slot in self._recent), self._slot])

    def values(self, index: int) -> Sequence[float]:
        """Of SERIES in a slot that is over."""
        if index * INTERVAL < self.since:
            return UNKNOWN
        return self._closed.get(index, QUIET)


class Recorder:
    """For one event loop. What is asked and what it costs is counted apart, each once: a request when it ends, an
    attempt when its row of the ledger is made."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """clock: Unix seconds."""
        self._clock = clock
        self._all = Ring(("", ""), self.index, self.index * INTERVAL)
        # Tenants by name and "", users by both.
        self._rings: dict[bool, dict[tuple[str, str], Ring]] = {False: {}, True: {}}
        # When somebody found no place, and when places were last looked for.
        self._turned_away = {False: self._all.since, True: self._all.since}
        self._looked = {False: -1, True: -1}

    @property
    def index(self) -> int:
        """Of the slot of now."""
        return int(self._clock() // INTERVAL)

    @property
    def seconds(self) -> float:
        """That `Ring.recent` tells of."""
        return max(1.0, min(RECENT * INTERVAL + self._clock() % INTERVAL, self._clock() - self._all.since))

    def note(self, exchange: Exchange, seconds: float) -> None:
        """A request ended, after so many seconds."""
        if exchange.endpoint not in ANSWERING or exchange.scope["method"] not in _ASKING:
            return
        key = exchange.key
        first = exchange.first_at - exchange.started if exchange.stream and exchange.first_at else None
        kind = _KINDS.get(exchange.outcome, "failed")
        error = exchange.error or ("" if kind in ("succeeded", "gone") else exchange.outcome)
        index = self.index
        for ring in self._of(*(key.tenant, key.user) if key is not None else ("", "")):
            slot = ring.slot(index)
            slot.requests += 1
            setattr(slot, kind, getattr(slot, kind) + 1)
            if kind == "succeeded":
                slot.total[range_of(seconds * 1000)] += 1
                if first is not None:
                    slot.first[range_of(first * 1000)] += 1
            if exchange.waited is not None:
                slot.waited[range_of(exchange.waited * 1000)] += 1
            if error:
                ring.count("error", error)
            _note_caches(ring, slot, exchange)

    def charge(self, row: LedgerRow) -> None:
        """An attempt ended, or a cache answered, and this goes into the ledger."""
        index = self.index
        for ring in self._of(row.tenant, row.user):
            slot = ring.slot(index)
            slot.input_tokens += row.input_tokens
            slot.output_tokens += row.output_tokens
            if not row.tier:
                slot.hits_prefix_tokens += row.cached_tokens
            slot.nanos += row.nanos
            slot.saved_nanos += row.saved_nanos

    def watch(self, tenant: str, user: str) -> Ring:
        """The ring of a tenant ("": of all) or a user, which has a place from now on until `leave`."""
        if not tenant:
            return self._all
        ring = self._find(tenant, user) or self._make(tenant, user)
        ring.watchers += 1
        return ring

    def leave(self, ring: Ring) -> None:
        """The end of `watch`."""
        if ring is self._all:
            return
        ring.watchers -= 1
        for is_user, rings in self._rings.items():
            if not ring.watchers and len(rings) > MOST and rings.get(ring.name) is ring:
                # It had a place beyond those there are.
                del rings[ring.name]
                self._turned_away[is_user] = self._clock()

    def history(self, ring: Ring) -> tuple[list[int], dict[str, list[float]]]:
        """When each slot of the last hour that is over began (Unix seconds), and SERIES by name; NaN: not known."""
        index = self.index
        ring.turn(index)
        places = range(index - SLOTS, index)
        columns = zip(*(ring.values(place) for place in places), strict=True)
        series = {name: list(column) for name, column in zip(SERIES, columns, strict=True)}
        return [place * INTERVAL for place in places], series

    def point(self, ring: Ring, index: int) -> dict[str, float]:
        """SERIES of one slot that is over."""
        ring.turn(self.index)
        return dict(zip(SERIES, ring.values(index), strict=True))

    def recent(self, ring: Ring) -> dict[str, float]:
        """Rates and times of the last minute; NaN where nothing was timed."""
        slot, seconds = ring.recent(self.index), self.seconds
        return {
            "requests_per_second": round(slot.requests / seconds, 3),
            "tokens_per_second": round((slot.input_tokens + slot.output_tokens) / seconds, 3),
            "output_tokens_per_second": round(slot.output_tokens / seconds, 3),
            **times_of(slot),
        }

    def _of(self, tenant: str, user: str) -> list[Ring]:
        """Where something of a tenant's user is counted."""
        found: list[Ring | None] = [self._all]
        if tenant:
            found.append(self._find(tenant, "") or self._try(tenant, ""))
        if tenant and user:
            found.append(self._find(tenant, user) or self._try(tenant, user))
        return [ring for ring in found if ring is not None]

    def _find(self, tenant: str, user: str) -> Ring | None:
        return self._rings[bool(user)].get((tenant, user))

    def _try(self, tenant: str, user: str) -> Ring | None:
        """A new ring, if there is a place for it."""
        rings, is_user, index = self._rings[bool(user)], bool(user), self.index
        if len(rings) >= MOST and self._looked[is_user] != index:
            self._looked[is_user] = index
            for name, ring in list(rings.items()):
                if not ring.watchers and ring.touched < index - SLOTS:
                    del rings[name]
        if len(rings) >= MOST:
            self._turned_away[is_user] = self._clock()
            return None
        return self._make(tenant, user)

    def _make(self, tenant: str, user: str) -> Ring:
        # Whoever was never turned away has done nothing that is not recorded.
        ring = Ring((tenant, user), self.index, self._turned_away[bool(user)])
        self._rings[bool(user)][tenant, user] = ring
        return ring


_KINDS = {"ok": "succeeded", "refused": "refused", "client_gone": "gone"}


def _note_caches(ring: Ring, slot: Slot, exchange: Exchange) -> None:
    if exchange.tiers_asked or exchange.tiers_hit:
        slot.cache_lookups += 1
        slot.cache_hits += bool(exchange.tiers_hit)
    for tier in exchange.tiers_asked:
        ring.count("lookup", tier)
    for tier in exchange.tiers_hit:
        ring.count("hit", tier)
        name = f"hits_{tier}"
        if name in _HITS:
            setattr(slot, name, getattr(slot, name) + 1)


_HITS = frozenset({"hits_exact", "hits_semantic", "hits_flight"})
