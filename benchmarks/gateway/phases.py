"""What came of requests of several priorities at one rate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.gateway.load import Sender, Sent
from benchmarks.gateway.sums import Sums
from trireme.access.priorities import PRIORITIES
from trireme.tune.perf_analyzer import compute_percentile

NOTHING = Sums()


class OfPriority(Protocol):
    """Requests of one priority."""

    priority: str
    sender: Sender


@dataclass(frozen=True, slots=True)
class Phase:
    """What came of one rate. Milliseconds from the moment at which a request was due, to the whole answer.

    accepted: share of each priority that was answered. failed: neither answered nor refused.
    """

    name: str
    rate: float
    seconds: float
    requests: int
    answered: int
    refused: int
    failed: int
    late: int
    accepted: dict[str, float]
    answered_p50_ms: float
    answered_p95_ms: float
    answered_p99_ms: float
    refused_p50_ms: float
    refused_p99_ms: float
    refused_most_ms: float
    # By the client's own clock: from the moment at which it was written.
    refused_in_50_ms: float
    # What the mean of the answers is made of: the gateway's line, the LLM's engine, and all else.
    answered_mean_ms: float
    line_ms: float
    engine_ms: float
    # Processor time of the gateway for one request, answered or refused.
    cpu_ms: float
    # Load average of the last minute at its end.
    load: float


def read_load() -> float:
    """Load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def summarize(
    name: str, rate: float, seconds: float, found: Sequence[OfPriority], sums: Sums = NOTHING
) -> Phase:
    """What came of one rate. sums: of its time."""
    every = [sent for one in found for sent in one.sender.all]
    answered = [1000 * (sent.done - sent.due) for sent in every if not sent.error]
    refused = [1000 * (sent.done - sent.due) for sent in every if _is_refused(sent)]
    own = [1000 * (sent.done - sent.at) for sent in every if _is_refused(sent)]
    accepted = {}
    for priority in PRIORITIES:
        sent_of = [sent for one in found if one.priority == priority for sent in one.sender.all]
        accepted[priority] = round(sum(not sent.error for sent in sent_of) / max(1, len(sent_of)), 4)
    return Phase(
        name=name,
        rate=round(rate, 1),
        seconds=seconds,
        requests=len(every),
        answered=len(answered),
        refused=len(refused),
        failed=len(every) - len(answered) - len(refused),
        late=sum(sent.at - sent.due > 0.005 for sent in every),
        accepted=accepted,
        answered_p50_ms=_percent(answered, 50),
        answered_p95_ms=_percent(answered, 95),
        answered_p99_ms=_percent(answered, 99),
        refused_p50_ms=_percent(refused, 50),
        refused_p99_ms=_percent(refused, 99),
        refused_most_ms=_percent(refused, 100),
        refused_in_50_ms=round(sum(one <= 50 for one in own) / max(1, len(own)), 4),
        answered_mean_ms=round(sum(answered) / max(1, len(answered)), 1),
        line_ms=round(1000 * sums.line / max(1.0, sums.lined), 1),
        engine_ms=round(1000 * sums.engine / max(1.0, sums.written), 1),
        cpu_ms=round(1000 * sums.cpu / max(1, len(every)), 2),
        load=read_load(),
    )


def _is_refused(sent: Sent) -> bool:
    return sent.error.startswith("HTTP 503")


def _percent(values: Sequence[float], percent: float) -> float:
    return round(compute_percentile(values, percent), 1) if values else 0.0


def describe(phase: Phase) -> str:
    """In one line."""
    return (
        f"{phase.name}, {phase.rate:g}/s: {phase.answered} answered (p95 {phase.answered_p95_ms:g} ms), "
        f"{phase.refused} refused (p99 {phase.refused_p99_ms:g} ms), {phase.failed} failed, {phase.accepted}; mean"
        f" {phase.answered_mean_ms:g} ms, line {phase.line_ms:g}, engine {phase.engine_ms:g}, gateway"
        f" {phase.cpu_ms:g} ms of CPU a request; load {phase.load:g}"
    )
