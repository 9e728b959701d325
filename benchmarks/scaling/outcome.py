"""What a replay came to: late answers, replica-seconds, direction changes, cost, and how sure a comparison is."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.scaling.fleet import Fleet, Served, Timing
from benchmarks.scaling.load import Load
from benchmarks.scaling.policies import Controller, Policy
from benchmarks.scaling.service import Service

LATE_S = 2.0
# A block of a bootstrap, as what happens within one hangs together: a twentieth of the load, within these bounds.
BLOCK_S = (60.0, 300.0)
DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy on one load. late: share of the requests that waited longer than LATE_S, or were never served.

    changes: of direction. most_changes: within one load step, where the load names its steps.
    cost: US dollars. late_blocks, paid_blocks: late requests and replica-seconds by pick_block of the load's time.
    """

    policy: str
    load: str
    requests: int
    late: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    replica_s: float
    peak: int
    changes: int
    most_changes: int | None
    cost: float
    late_blocks: tuple[int, ...]
    paid_blocks: tuple[float, ...]
    work_share: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of two sums, with a 95% interval over blocks. None: the second is 0 and the first is not."""

    mean: float | None
    low: float | None
    high: float | None


def pick_initial(service: Service, load: Load, utilization: float = 0.8, seconds: float = 300.0) -> int:
    """The fleet that every policy begins with: for the load's first five minutes."""
    span = min(seconds, load.seconds)
    work = sum(service.work_of(one.inputs, one.outputs) for one in load.requests if one.at < span)
    return max(1, math.ceil(work / span / utilization))


def replay(
    policy: Policy, service: Service, load: Load, timing: Timing, price: float
) -> tuple[Outcome, Served]:
    """One policy over one load. price: US dollars of a replica's hour. A pure function."""
    controller = Controller(policy, service)
    fleet = Fleet(service, load, policy.fixed or pick_initial(service, load), timing)
    served = fleet.run(controller.look)
    return judge(policy, service, load, served, price), served


def judge(policy: Policy, service: Service, load: Load, served: Served, price: float) -> Outcome:
    """The figures of what was served, from load.judged_from on."""
    since = load.judged_from
    judged = [one for one in load.requests if one.at >= since]
    waits = sorted(served.waits[len(load.requests) - len(judged) :])
    work = sum(service.work_of(one.inputs, one.outputs) for one in judged)
    late_blocks, paid_blocks = cut_blocks(load, served)
    paid = sum(paid_blocks)
    counts = _within(served.counts, since, math.inf)
    return Outcome(
        policy=policy.name,
        load=load.name,
        requests=len(waits),
        late=sum(late_blocks) / len(waits),
        wait_p50=pick_quantile(waits, 0.5),
        wait_p95=pick_quantile(waits, 0.95),
        wait_p99=pick_quantile(waits, 0.99),
        replica_s=round(paid, 1),
        peak=max(count for _, count in counts),
        changes=count_turns(counts),
        most_changes=count_turns_by_step(served.counts, load.steps) if load.steps else None,
        cost=round(paid / 3600 * price, 4),
        late_blocks=late_blocks,
        paid_blocks=paid_blocks,
        work_share=round(work / paid, 4),
    )


def pick_quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values, the one of rank ceil(share x n); -1 for a request that was never served."""
    found = values[max(0, math.ceil(share * len(values)) - 1)]
    return round(found, 3) if math.isfinite(found) else -1.0


def count_turns(counts: Sequence[tuple[float, int]]) -> int:
    """How often replicas went down after up, or up after down."""
    moves = [after - before for (_, before), (_, after) in pairwise(counts)]
    signs = [move > 0 for move in moves if move]
    return sum(a != b for a, b in pairwise(signs))


def count_turns_by_step(counts: Sequence[tuple[float, int]], steps: Sequence[float]) -> int:
    """The most direction changes between one step of the load and the next. The first move after a step is none."""
    bounds = [0.0, *steps, math.inf]
    spans = pairwise(bounds)
    return max(count_turns(_within(counts, begins, ends)) for begins, ends in spans)


def _within(counts: Sequence[tuple[float, int]], begins: float, ends: float) -> list[tuple[float, int]]:
    before = [one for one in counts if one[0] < begins][-1:]
    return [*before, *(one for one in counts if begins <= one[0] < ends)]


def pick_block(seconds: float) -> float:
    """Seconds of a block."""
    return min(BLOCK_S[1], max(BLOCK_S[0], seconds / 20))


def cut_blocks(load: Load, served: Served) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Late requests by the block of their arrival, and replica-seconds by block; what comes after is the last's."""
    since = load.judged_from
    size = pick_block(load.seconds - since)
    count = max(1, math.ceil((load.seconds - since) / size))
    late, paid = [0] * count, [0.0] * count
    for one, wait in zip(load.requests, served.waits, strict=True):
        if one.at >= since:
            late[min(int((one.at - since) / size), count - 1)] += wait > LATE_S
    for block in range(count):
        begins = since + block * size
        ends = math.inf if block == count - 1 else begins + size
        paid[block] = sum(
            max(0.0, min(dead, ends) - max(born, begins)) for born, dead in served.lives if dead > begins
        )
    return tuple(late), tuple(round(one, 1) for one in paid)


def compare(one: Sequence[float], other: Sequence[float], seed: int) -> Ratio:
    """sum(one) / sum(other), blocks drawn with replacement, the same of both. 0 of 0 is 0."""
    if not sum(other):
        return Ratio(None, None, None) if sum(one) else Ratio(0.0, 0.0, 0.0)
    rng = random.Random(f"blocks {seed}")  # noqa: S311
    drawn = []
    for _ in range(DRAWS):
        picked = rng.choices(range(len(one)), k=len(one))
        below = sum(other[k] for k in picked)
        if below:
            drawn.append(sum(one[k] for k in picked) / below)
    drawn.sort()
    low, high = (drawn[int(share * (len(drawn) - 1))] for share in (0.025, 0.975))
    return Ratio(round(sum(one) / sum(other), 4), round(low, 4), round(high, 4))
