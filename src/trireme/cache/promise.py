"""The promise of a semantic cache: at most so many false hits. What checks found, and whether it is kept.

A check compares an answer that was served, or would have been, with the one that the provider gives. The limits are
one-sided at 95 % for the checks so far; they are looked at again with every check and not corrected for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from trireme.cache.bounds import lower_limit, needed_checks, upper_limit
from trireme.errors import InvalidInputError, UnavailableError

READ_SECONDS = 10.0
# Checks that could not be written are kept for so long in this process, and count here.
MOST_WAITING = 1_000
# Of a scope; older ones no longer count.
MOST_CHECKS = 10_000
# Before a promise can be judged, so many times as many hits are checked.
EAGER = 10


@dataclass(frozen=True, slots=True)
class SemanticRule:
    """What holds for a route or tenant that turned the tier on. scope: whose promise it is, such as model:NAME.

    threshold: of the equivalence score, from which on a hit is served. shadow_share: of hits that are checked.
    """

    scope: str
    max_false_hits: float
    shadow_share: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison. family: of partitions whose scores mean the same, such as tenant and model. agreed: whether
    the kept answer would have served."""

    scope: str
    family: str
    score: float
    agreed: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """The last checks of a scope, oldest first, and whether it is turned off."""

    checks: tuple[Check, ...] = ()
    is_off: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a scope stands. false among checks of what is served now; upper: limit of the share of false hits.

    thresholds: by family, where one had to be raised.
    """

    scope: str
    checks: int
    false: int
    upper: float
    is_on: bool
    thresholds: Mapping[str, float]


class PromiseStore(Protocol):
    """Checks of all gateways, which outlive them. Safe to use from several threads. Every verb blocks and raises
    UnavailableError."""

    def record(self, check: Check) -> None:
        """Keep a check; the oldest of the scope go beyond MOST_CHECKS."""
        ...

    def read(self, scope: str) -> Evidence:
        """All checks that count, and the state."""
        ...

    def turn(self, scope: str, *, is_off: bool) -> bool:
        """Set the state of a scope; whether it was another one."""
        ...

    def reset(self, scope: str) -> int:
        """Forget the checks of a scope and turn it on: an operator's act. How many checks went."""
        ...

    def close(self) -> None:
        """Free the connections."""
        ...


def judge(evidence: Evidence, rule: SemanticRule) -> Standing:
    """How a scope stands by its evidence. Pure.

    Thresholds are learned first (`learn_threshold`); only checks of scores that are served now are counted. With
    fewer checks than `needed_checks(max_false_hits)` a scope goes off if the lower limit is above the promise, so
    that chance alone does not end it; from then on if the upper limit is. Once off it is on again when the upper
    limit is at most the promise.
    """
    families: dict[str, list[tuple[float, bool]]] = {}
    for check in evidence.checks:
        families.setdefault(check.family, []).append((check.score, check.agreed))
    thresholds = {
        family: learned
        for family, labels in families.items()
        if (learned := learn_threshold(labels, rule.max_false_hits, rule.threshold)) > rule.threshold
    }
    served = [
        check for check in evidence.checks if check.score >= thresholds.get(check.family, rule.threshold)
    ]
    false = sum(not check.agreed for check in served)
    upper = upper_limit(false, len(served))
    if evidence.is_off:
        is_on = upper <= rule.max_false_hits
    elif len(served) < needed_checks(rule.max_false_hits):
        is_on = lower_limit(false, len(served)) <= rule.max_false_hits
    else:
        is_on = upper <= rule.max_false_hits
    return Standing(rule.scope, len(served), false, upper, is_on, thresholds)


def learn_threshold(labels: Sequence[tuple[float, bool]], promise: float, base: float) -> float:
    """The threshold for scores with labels (score, agreed): `base`, or higher where `base` breaks the promise.

    Fixed-sequence testing (Angelopoulos et al. 2021, Learn then Test): thresholds are tried downwards, the first
    one where there are enough checks to show anything, and the last one whose upper limit is at most the promise
    is taken; each is tested at 95 %, and going on only after success keeps that level for all. `base` where there
    are too few checks, or where no threshold would help.
    """
    ordered = sorted((pair for pair in labels if pair[0] >= base), key=lambda pair: -pair[0])
    least = needed_checks(promise)
    if len(ordered) < least or _upper(ordered) <= promise:
        return base
    best = base
    # One in ten more checks at each step: few limits are computed, whatever the number of checks.
    count = least
    while count <= len(ordered):
        # Equal scores are served together.
        while count < len(ordered) and ordered[count][0] == ordered[count - 1][0]:
            count += 1
        if _upper(ordered[:count]) > promise:
            break
        best = ordered[count - 1][0]
        count += max(1, count // 10)
    return best


def share_of(standing: Standing, rule: SemanticRule) -> float:
    """Of hits that are checked now: more than `shadow_share` until the promise can be judged."""
    if standing.checks < needed_checks(rule.max_false_hits):
        return min(1.0, EAGER * rule.shadow_share)
    return rule.shadow_share


def pick_threshold(table: Mapping[float, float], promise: float) -> float:
    """The threshold of a table (share of false hits on held-out pairs -> threshold) for a promise: that of the
    largest share which is no larger. Raises InvalidInputError where there is none."""
    shares = [share for share in table if share <= promise]
    if not shares:
        known = ", ".join(str(share) for share in sorted(table)) or "none"
        raise InvalidInputError(
            f"the equivalence model has no threshold for max_false_hits {promise}; it has {known}"
        )
    return table[max(shares)]


def _upper(labels: Sequence[tuple[float, bool]]) -> float:
    return upper_limit(sum(not agreed for _, agreed in labels), len(labels))


class Promises:
    """How all scopes stand, read in the background. For one event loop. `start` before use, `close` after it.

    A scope is unknown until the store has answered once: then nothing may be served under its promise.
    """

    def __init__(
        self,
        store: PromiseStore,
        tell: Callable[[Standing, bool], None] = lambda standing, changed: None,
        seconds: float = READ_SECONDS,
    ) -> None:
        """tell: is told of every standing that was read or changed, and whether it was turned on or off by it."""
        self._store = store
        self._tell = tell
        self._seconds = seconds
        self._rules: dict[str, SemanticRule] = {}
        self._evidence: dict[str, Evidence] = {}
        self._standings: dict[str, Standing] = {}
        self._waiting: deque[Check] = deque(maxlen=MOST_WAITING)
        # One write after the other: a check is written once.
        self._writing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._keep_reading())

    async def close(self) -> None:
        """Write what waits, stop, and close the store."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        with suppress(UnavailableError):
            await self._write()
        await asyncio.to_thread(self._store.close)

    def standing(self, rule: SemanticRule) -> Standing | None:
        """How the rule's scope stands; None while nothing is known. Does not block."""
        if self._rules.get(rule.scope) != rule:
            self._rules[rule.scope] = rule
            self._standings.pop(rule.scope, None)
            self._wake.set()
        return self._standings.get(rule.scope)

    def record(self, check: Check) -> None:
        """Count a check here at once, and write it in the background. Does not block."""
        self._waiting.append(check)
        rule, evidence = self._rules.get(check.scope), self._evidence.get(check.scope)
        if rule is not None and evidence is not None:
            self._judge(rule, replace(evidence, checks=(*evidence.checks, check)))
        self._wake.set()

    async def refresh(self) -> None:
        """Write what waits, and read every scope that was asked for. Raises UnavailableError."""
        await self._write()
        for rule in list(self._rules.values()):
            evidence = await asyncio.to_thread(self._store.read, rule.scope)
            unwritten = tuple(check for check in self._waiting if check.scope == rule.scope)
            is_off = evidence.is_off
            standing = self._judge(rule, replace(evidence, checks=evidence.checks + unwritten))
            if standing.is_on == is_off:
                await asyncio.to_thread(self._store.turn, rule.scope, is_off=not standing.is_on)
                self._evidence[rule.scope] = replace(self._evidence[rule.scope], is_off=not standing.is_on)

    def _judge(self, rule: SemanticRule, evidence: Evidence) -> Standing:
        """Judge by the evidence, and tell. A scope that goes off is off here at once, before the store knows."""
        before = self._standings.get(rule.scope)
        standing = judge(evidence, rule)
        self._evidence[rule.scope] = replace(evidence, is_off=evidence.is_off or not standing.is_on)
        self._standings[rule.scope] = standing
        was_on = before.is_on if before is not None else not evidence.is_off
        self._tell(standing, was_on != standing.is_on)
        return standing

    async def _write(self) -> None:
        async with self._writing:
            while self._waiting:
                check = self._waiting[0]
                await asyncio.to_thread(self._store.record, check)
                # A full queue may have lost it meanwhile.
                if self._waiting and self._waiting[0] is check:
                    self._waiting.popleft()

    async def _keep_reading(self) -> None:
        while True:
            # Reading must go on, whatever one look met; the last standing holds meanwhile.
            with suppress(Exception):
                await self.refresh()
            self._wake.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._seconds)
            # Many changes at once are one reading.
            await asyncio.sleep(min(0.2, self._seconds))
