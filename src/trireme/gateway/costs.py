"""What a gateway does for cost in the background: notes deploy and machine, makes metrics of the last hour."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from trireme.budget.dollars import NANOS
from trireme.budget.ledger import MOST_MODELS
from trireme.cost.machines import HOUR, HourPrices, always_up
from trireme.cost.port import Beat, CostBook, CostBy, CostGroup, CostQuery, Own
from trireme.cost.releases import Deploy, ReleaseLog
from trireme.cost.report import CostReport, make_report, per_million_tokens, per_success
from trireme.cost.rounds import Rounds
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names

# Releases that have series of their own; the dearest come first. Of models the ledger has no more groups.
MOST_NAMES = MOST_MODELS
IDLE, ALL = "idle", "all"
USAGE, ALLOCATION = "usage", "allocation"
# Of the time the ledger is read by no more than this share; but figures are made so often at least.
READ_SHARE = 0.05
MOST_PAUSE_SECONDS = 600.0

Series = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class CostParts:
    """Where cost is read and noted. deploy: what this gateway runs. beat: None where its machine has no kind."""

    book: CostBook
    releases: ReleaseLog
    deploy: Deploy
    beat: Beat | None = None


class CostKeeper:
    """Works in a thread of its own, once a minute; a database that is away is asked again."""

    def __init__(
        self,
        parts: CostParts,
        own: Own,
        prices: HourPrices,
        metrics: GatewayMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._parts = parts
        self._own = own
        self._prices = prices
        self._metrics = metrics
        self._clock = clock
        self._is_deployed = False
        self._made_at: float | None = None
        self._due_at = 0.0
        self._rounds = Rounds((self.note, self.beat, self._publish_if_due))
        metrics.watch(names.COST_AGE, self._age)

    def start(self) -> None:
        """Begin. Does not block."""
        self._rounds.start()

    def close(self) -> None:
        """Stop, with a last beat. Blocks for some seconds at most."""
        self._rounds.close()

    def note(self) -> None:
        """Note the deploy, once. Raises UnavailableError."""
        if not self._is_deployed:
            self._parts.releases.deploy(self._parts.deploy)
            self._is_deployed = True

    def beat(self) -> None:
        """Say that this machine is up. Raises UnavailableError."""
        if self._parts.beat is not None:
            self._parts.book.beat(self._parts.beat)

    def publish(self) -> None:
        """Make the gauges of the last hour. Raises UnavailableError, and leaves them as they were then."""
        end = int(self._clock() * 1000)
        start = end - HOUR
        spans = [*self._parts.book.spans(start, end), *always_up(self._prices, start, end, end)]

        def report(by: CostBy) -> CostReport:
            groups = self._parts.book.groups(CostQuery(start, end, by, self._own))
            # How many requests there were in all is of no metric: it would be one more sum over the ledger.
            return make_report(by, start, end, groups, sum_of("", groups), spans=spans, prices=self._prices)

        by_model, by_release = report("model"), report("release")
        for metric, series in figures_of(by_model, by_release).items():
            self._metrics.replace(metric, series)
        self._made_at = time.monotonic()

    def _publish_if_due(self) -> None:
        began = time.monotonic()
        if began < self._due_at:
            return
        try:
            self.publish()
        finally:
            took = time.monotonic() - began
            self._due_at = began + min(took / READ_SHARE, MOST_PAUSE_SECONDS)

    def _age(self) -> float:
        return float("inf") if self._made_at is None else time.monotonic() - self._made_at


def figures_of(by_model: CostReport, by_release: CostReport) -> dict[names.Metric, Series]:
    """The gauges of an hour, by labels. Both reports are of it."""
    models = [line.group for line in by_model.lines]
    total = by_model.total
    used = {group.name: group.own_nanos + group.provider_nanos for group in models}
    hourly: dict[tuple[str, ...], float] = {}
    hourly |= {
        (name, basis): _dollars(nanos) for name, nanos in used.items() for basis in (USAGE, ALLOCATION)
    }
    if by_model.machines:
        hourly[IDLE, ALLOCATION] = _dollars(total.idle_nanos or 0)
    tokens: dict[tuple[str, ...], float] = {
        (group.name, USAGE): _dollars(each)
        for group in models
        if (each := per_million_tokens(used[group.name], group)) is not None
    }
    if (each := per_million_tokens(total.allocation_nanos, total.group)) is not None:
        tokens[ALL, ALLOCATION] = _dollars(each)
    saved: dict[tuple[str, ...], float] = {
        (group.name,): float(Fraction(group.saved_nanos, group.saved_nanos + used[group.name]))
        for group in models
        if group.saved_nanos > 0
    }
    success: dict[tuple[str, ...], float] = {}
    for line in by_release.lines[:MOST_NAMES]:
        for basis, nanos in ((USAGE, line.usage_nanos), (ALLOCATION, line.allocation_nanos)):
            if (each := per_success(nanos, line.group)) is not None:
                success[line.group.name, basis] = _dollars(each)
    machines: dict[tuple[str, ...], float] = {
        (line.kind,): _dollars(line.nanos) for line in by_model.machines
    }
    return {
        names.HOURLY_COST: hourly,
        names.TOKEN_COST: tokens,
        names.CACHE_SAVINGS: saved,
        names.SUCCESS_COST: success,
        names.MACHINE_HOURLY_COST: machines,
    }


def sum_of(name: str, groups: Sequence[CostGroup]) -> CostGroup:
    """Tokens and amounts of several groups; not their requests, of which one may be in several."""
    return CostGroup(
        name,
        input_tokens=sum(one.input_tokens for one in groups),
        output_tokens=sum(one.output_tokens for one in groups),
        own_nanos=sum(one.own_nanos for one in groups),
        provider_nanos=sum(one.provider_nanos for one in groups),
        saved_nanos=sum(one.saved_nanos for one in groups),
    )


def _dollars(nanos: int | Fraction) -> float:
    return float(Fraction(nanos) / NANOS)
