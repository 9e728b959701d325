"""How much one server has to do, read from its Prometheus page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trireme.observe import metrics as table
from trireme.triton.metrics import count_answered, read_samples

# Of all replicas together: documents wait in PostgreSQL, and not at a server.
SHARED_QUEUE = "ingest"

_PENDING = table.TRITON_PENDING.name
_BACKLOG = table.BACKLOG.name
_DEPTH = table.QUEUE_DEPTH.name
_DECODING = table.DECODING.name
_WAITING = table.LLM_WAITING.name
_FAILED = table.FAILURES.name
_SUCCESS = table.TRITON_SUCCEEDED.name
_COMPUTE = table.TRITON_COMPUTED.name
_ROWS = table.TRITON_ROWS.name
_RUNS = table.TRITON_RUNS.name
# A client's own faults say nothing of a replica.
# What is beyond it is no count and no time, and sums of it may be none.
_MOST = 1e15
_OWN_FAULTS = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"})


@dataclass(frozen=True, slots=True)
class Load:
    """What one server has to do. Requests of an ensemble's steps are requests too.

    pending: requests in Triton's own queues. waiting: in those of backends. running: answers that an LLM writes; of
    what an encoder runs, for some milliseconds, no metric tells. answered: requests that ended since its start,
    refused ones included. failed: of them, by its own fault. backlog: seconds of work that wait, by model.
    is_measured: models say them, by their measured rate; else they are estimated from Triton's own figures.
    """

    pending: int
    waiting: int
    running: int
    answered: float
    failed: float
    backlog: Mapping[str, float]
    is_measured: bool

    @property
    def in_flight(self) -> int:
        """Requests that have no end yet, as far as metrics tell."""
        return self.pending + self.waiting + self.running

    @property
    def backlog_seconds(self) -> float:
        """Of all models: they share the machine."""
        return sum(self.backlog.values())


def load_of(page: str) -> Load:
    """The load on a page of metrics. What the page lacks counts as none. Raises UnavailableError for no page."""
    names = (_PENDING, _BACKLOG, _DEPTH, _DECODING, _WAITING, _FAILED, _SUCCESS, _COMPUTE, _ROWS, _RUNS)
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    failed = 0.0
    for family in names:
        for labels, value in read_samples(page, family):
            if not 0 <= value <= _MOST:
                continue
            model = labels.get("model", "")
            found[family][model] = found[family].get(model, 0.0) + value
            if family == _FAILED and labels.get("code") in _OWN_FAULTS:
                failed += value
    for family in (_BACKLOG, _DEPTH):
        found[family].pop(SHARED_QUEUE, None)
    # The depth counts Triton's own queue too, and an LLM tells its waiting requests under both names.
    waiting = {
        model: max(found[_WAITING].get(model, 0.0), depth - found[_PENDING].get(model, 0.0))
        for model, depth in {**found[_WAITING], **found[_DEPTH]}.items()
    }
    is_measured = bool(found[_BACKLOG])
    return Load(
        pending=int(sum(found[_PENDING].values())),
        waiting=int(sum(max(0.0, count) for count in waiting.values())),
        running=int(sum(found[_DECODING].values())),
        answered=sum(count_answered(page).values()),
        failed=failed,
        backlog=found[_BACKLOG] if is_measured else _estimate(found),
        is_measured=is_measured,
    )


def _estimate(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Pending requests, times a request's share of the mean batch's seconds."""
    seconds = {}
    for model, pending in found[_PENDING].items():
        # Triton adds a batch's time once for each of its requests.
        requests, runs = found[_SUCCESS].get(model, 0.0), found[_RUNS].get(model, 0.0)
        of_batches = found[_COMPUTE].get(model, 0.0) / 1e6 / requests if requests else 0.0
        seconds[model] = pending * of_batches * min(1.0, runs / requests) if requests else 0.0
    return seconds
