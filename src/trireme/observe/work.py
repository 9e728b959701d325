"""Work in a model's unit of cost: what arrived, was refused and waits, how fast it is done; the signals of it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, replace
from statistics import median

# A window of the rate ends after so many busy seconds, and so many runs.
WINDOW_SECONDS = 0.25
WINDOW_RUNS = 4
# The rate is the median of so many windows: a stall, or a first call that compiles, is one of them.
KEPT_WINDOWS = 15


class WorkRate:
    """How much work is done a second at full batch, from stretches of time in which more work waited.

    Time in which nothing waited is not given to it, so idle time cannot lower the rate; the median over windows
    keeps a few slow ones out. Until more is known it is what the first stretches, the warm-up's, gave. Thread-safe.
    """

    def __init__(self, window_seconds: float = WINDOW_SECONDS, window_runs: int = WINDOW_RUNS) -> None:
        self._window_seconds, self._window_runs = window_seconds, window_runs
        self._windows: deque[float] = deque(maxlen=KEPT_WINDOWS)
        self._cost = self._seconds = 0.0
        self._runs = 0
        self._lock = threading.Lock()

    def add(self, cost: float, seconds: float) -> None:
        """One stretch at full batch: `cost` was done in `seconds`."""
        with self._lock:
            self._cost += cost
            self._seconds += seconds
            self._runs += 1
            if self._seconds >= self._window_seconds and self._runs >= self._window_runs:
                self._close()

    def settle(self) -> None:
        """The warm-up is over: what it has measured counts, however little it is."""
        with self._lock:
            self._close()

    def reset(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._windows.clear()
            self._cost = self._seconds = 0.0
            self._runs = 0

    @property
    def value(self) -> float:
        """Cost a second; 0.0 while nothing is known."""
        with self._lock:
            if self._windows:
                return median(self._windows)
            return self._cost / self._seconds if self._seconds > 0 else 0.0

    @property
    def windows(self) -> int:
        """How many windows it rests on."""
        return len(self._windows)

    def _close(self) -> None:
        if self._cost > 0 and self._seconds > 0:
            self._windows.append(self._cost / self._seconds)
        self._cost = self._seconds = 0.0
        self._runs = 0


@dataclass(frozen=True, slots=True)
class WorkTotals:
    """Since the start: cost in the model's unit, seconds, and counts. offered includes refused and bulk.

    offered may fall: by what a request turned out to cost less than was thought. Tokens are an LLM's.
    """

    offered: float = 0.0
    refused: float = 0.0
    bulk: float = 0.0
    requests: int = 0
    wait_seconds: float = 0.0
    waits: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class WorkMeter:
    """Adds up the work of one model's requests. Thread-safe; each call takes about a microsecond."""

    def __init__(self) -> None:
        self._offered = self._refused = self._bulk = self._wait_seconds = 0.0
        self._requests = self._waits = 0
        self._lock = threading.Lock()

    def offer(
        self, cost: float, *, requests: int = 1, is_refused: bool = False, is_bulk: bool = False
    ) -> None:
        """Requests arrived whose work is `cost` together."""
        with self._lock:
            self._offered += cost
            self._requests += requests
            if is_refused:
                self._refused += cost
            if is_bulk:
                self._bulk += cost

    def correct(self, by: float) -> None:
        """A request that was offered turned out to cost so much more, or less."""
        with self._lock:
            self._offered += by

    def wait(self, seconds: float, requests: int = 1) -> None:
        """Requests left the queue to run, after `seconds` of waiting together."""
        with self._lock:
            self._wait_seconds += seconds
            self._waits += requests

    def totals(self) -> WorkTotals:
        """All of it so far."""
        with self._lock:
            return WorkTotals(
                self._offered,
                self._refused,
                self._bulk,
                self._requests,
                self._wait_seconds,
                self._waits,
            )


@dataclass(frozen=True, slots=True)
class Waiting:
    """Requests that wait in a model's own queue now, and what waits there in its unit of cost."""

    requests: float = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class FrontQueue:
    """The server's own queue before a model, of all its instances together. Counts since the server's start.

    waiting: now. refused: by the queue's policy. gone: whose client left before they were handed over.
    """

    waiting: int = 0
    refused: int = 0
    gone: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Signals:
    """What one instance says at one look: gauges as they are, counters as what to add since the last look.

    backlog_seconds and capacity are None while the rate is not known; seconds of work are then kept for later.
    """

    offered_seconds: float
    rejected_seconds: float
    bulk_seconds: float
    backlog_seconds: float | None
    capacity: float | None
    queue_depth: float
    wait_seconds: float
    waits: int
    input_tokens: int
    output_tokens: int


@dataclass(slots=True)
class _Told:
    """What a counter has been told of a sum, in its unit of cost."""

    cost: float = 0.0

    def due(self, total: float, pace: float) -> float:
        """What to add to the counter, in seconds at `pace`; kept for later while the pace is not known."""
        due = total - self.cost
        if due <= 0 or pace <= 0:
            return 0.0
        self.cost = total
        return due / pace


# Of what is known of a mean request at each look that saw new ones.
MEAN_DECAY = 0.9


class SignalLedger:
    """Turns totals into signals. Not thread-safe.

    Requests in the server's queue are counted as arrived, each at the cost of a mean request, and once they are
    handed over at their own. A counter that was so told too much is told nothing until the truth has caught up with
    it, and so is one whose requests turned out to be cheaper: over time its sum is the truth.
    """

    def __init__(self, instances: int = 1) -> None:
        """instances: processes that serve the model on this replica; each speaks for its share."""
        self._instances = instances
        self._seen = WorkTotals()
        self._front = FrontQueue()
        # What never reached this process: refused there, or gone.
        self._missed = self._refused = self._front_seconds = 0.0
        self._mean_cost = self._mean_requests = 0.0
        self._offered_told, self._refused_told = _Told(), _Told()
        self._bulk_told, self._seconds_told = _Told(), _Told()

    def start(self, totals: WorkTotals, front: FrontQueue | None) -> None:
        """What was before, such as the warm-up, or another load of the model, is not this one's."""
        self._seen = totals
        self._offered_told, self._refused_told = _Told(totals.offered), _Told(totals.refused)
        self._bulk_told, self._seconds_told = _Told(totals.bulk), _Told(totals.wait_seconds)
        if front is not None:
            self._front = front

    def look(self, totals: WorkTotals, rate: float, waiting: Waiting, front: FrontQueue | None) -> Signals:
        """The signals since the last look. rate: of one instance. front: None where it was not asked."""
        mean = self._mean(totals)
        share = mean / self._instances
        if front is not None:
            refused = max(0, front.refused - self._front.refused)
            self._refused += share * refused
            self._missed += share * (refused + max(0, front.gone - self._front.gone))
            waited = max(0.0, front.wait_seconds - self._front.wait_seconds)
            self._front_seconds += waited / self._instances
            self._front = front
        elif self._front.waiting:
            self._front = replace(self._front, waiting=0)
        ahead = self._front.waiting
        pace = rate * self._instances
        offered = totals.offered + self._missed + share * ahead
        signals = Signals(
            offered_seconds=self._offered_told.due(offered, pace),
            rejected_seconds=self._refused_told.due(totals.refused + self._refused, pace),
            bulk_seconds=self._bulk_told.due(totals.bulk, pace),
            backlog_seconds=(waiting.cost + share * ahead) / pace if pace > 0 else None,
            capacity=rate if rate > 0 else None,
            queue_depth=waiting.requests + ahead / self._instances,
            wait_seconds=self._seconds_told.due(totals.wait_seconds + self._front_seconds, 1.0),
            waits=totals.waits - self._seen.waits,
            input_tokens=totals.input_tokens - self._seen.input_tokens,
            output_tokens=totals.output_tokens - self._seen.output_tokens,
        )
        self._seen = totals
        return signals

    def _mean(self, totals: WorkTotals) -> float:
        """Cost of a request, from those of the last looks that saw any."""
        if requests := totals.requests - self._seen.requests:
            self._mean_cost = self._mean_cost * MEAN_DECAY + totals.offered - self._seen.offered
            self._mean_requests = self._mean_requests * MEAN_DECAY + requests
        return self._mean_cost / self._mean_requests if self._mean_requests else 0.0
