"""A model of replicas behind a balancer: who waits how long, and what an autoscaler's metrics would show.

A request goes to the ready replica with the fewest, as Envoy's least request over all hosts does, and stays there.
A replica serves its `places` side by side at the measured speed and the rest in the order of arrival. One that was
made takes nothing until it is warm; one that is to go takes nothing new, ends what it has, and costs until then.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from benchmarks.scaling.load import Load
from benchmarks.scaling.service import Service

# Bounds of vLLM's histogram of latencies, in seconds.
LATENCIES = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
# After its last arrival a load may take so long to be answered; what waits then was never served.
TAIL_S = 3600.0
_load = attrgetter("load")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. scrape_s: between two readings of the metrics, and two looks.

    delay_s: by which a look sees the metrics late.
    least_drain_s: that a replica stays after it left the balancer.
    """

    scrape_s: float = 15.0
    delay_s: float = 15.0
    least_drain_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One reading of all replicas' metrics.

    offered: seconds of work that arrived so far. backlog: seconds of work that waits. kv: shares of the caches
    that are held, summed. latencies: answers so far by LATENCIES, the last those above all. replicas, ready: that
    exist.
    """

    at: float
    offered: float
    backlog: float
    waiting: int
    running: int
    input_waiting: int
    kv: float
    latencies: tuple[int, ...]
    replicas: int
    ready: int


@dataclass(frozen=True, slots=True)
class Served:
    """What became of a load. waits: seconds by request until it ran, infinite where it never did.

    counts: (seconds, replicas that are wanted) at each change. lives: (from, to) of each replica that was paid for.
    """

    waits: tuple[float, ...]
    counts: tuple[tuple[float, int], ...]
    lives: tuple[tuple[float, float], ...]
    end: float
    samples: tuple[Sample, ...]


class _Replica:
    __slots__ = (
        "born",
        "cold",
        "due",
        "ended",
        "kv",
        "last",
        "leaves",
        "load",
        "ready",
        "running",
        "total",
        "waiting",
    )

    def __init__(self, born: float, ready: float) -> None:
        self.born, self.ready = born, ready
        self.cold = ready > born
        self.running: list[tuple[float, int]] = []
        self.waiting: deque[int] = deque()
        self.load = 0
        self.kv = 0
        # Work that a request which runs since the beginning would have got by `last`.
        self.total = 0.0
        self.last = 0.0
        self.due = math.inf
        self.leaves = math.inf
        self.ended = math.inf


Look = Callable[[float, Sequence[Sample], int, int], int]


class Fleet:
    """One replay. Mutable; used once."""

    def __init__(self, service: Service, load: Load, initial: int, timing: Timing) -> None:
        """initial: replicas that are warm at the beginning."""
        self._service, self._timing = service, timing
        self._places, self._most_kv = service.places, service.kv_tokens
        self._arrivals = [one.at for one in load.requests]
        self._works = [max(1e-9, service.work_of(one.inputs, one.outputs)) for one in load.requests]
        read = sum(one.inputs for one in load.requests) / service.input_per_s
        self._speeds = service.speeds(min(1.0, read / max(sum(self._works), 1e-9)))
        self._inputs = [one.inputs for one in load.requests]
        self._kvs = [min(one.inputs + one.outputs, self._most_kv or 1 << 60) for one in load.requests]
        self._waits = [math.inf] * len(self._arrivals)
        self._replicas = [_Replica(0.0, 0.0) for _ in range(initial)]
        self._serving = list(self._replicas)
        self._warming: deque[_Replica] = deque()
        self._leaving: list[_Replica] = []
        self._gone: list[_Replica] = []
        self._events: list[tuple[float, int, _Replica]] = []
        self._number = 0
        self._unplaced: deque[int] = deque()
        self._offered = self._backlog = 0.0
        self._waiting = self._running = self._input_waiting = 0
        self._latencies = [0] * (len(LATENCIES) + 1)
        self._samples: list[Sample] = []
        self._counts = [(0.0, initial)]

    def run(self, look: Look) -> Served:
        """Serves the whole load. look(now, samples, replicas, ready) -> replicas, asked every scrape_s."""
        arrivals, events, step = self._arrivals, self._events, self._timing.scrape_s
        next_look, k, count = 0.0, 0, len(arrivals)
        limit = (arrivals[-1] if arrivals else 0.0) + TAIL_S
        now = 0.0
        while k < count or self._running or self._waiting:
            arrival = arrivals[k] if k < count else math.inf
            event = events[0][0] if events else math.inf
            now = min(arrival, event, next_look)
            if now > limit:
                now = limit
                break
            if next_look <= now:
                self._scale(next_look, look)
                next_look += step
            elif event <= arrival:
                self._happen(*heapq.heappop(events))
            else:
                self._arrive(now, k)
                k += 1
        return self._end(now)

    def _happen(self, now: float, _: int, replica: _Replica) -> None:
        if replica.cold and now >= replica.ready:
            replica.cold = False
            self._warming.remove(replica)
            self._serve(now, replica)
        if now == replica.due:
            self._advance(replica, now)
            running = replica.running
            while running and running[0][0] <= replica.total + 1e-9:
                self._finish(replica, now, heapq.heappop(running)[1])
            self._fill(replica, now)
            self._expect(replica, now)
        if now >= replica.leaves and not replica.load and math.isinf(replica.ended):
            replica.ended = now
            self._leaving.remove(replica)
            self._gone.append(replica)

    def _serve(self, now: float, replica: _Replica) -> None:
        self._serving.append(replica)
        while self._unplaced:
            self._place(now, self._unplaced.popleft())

    def _arrive(self, now: float, k: int) -> None:
        work = self._works[k]
        self._offered += work
        self._backlog += work
        self._waiting += 1
        self._input_waiting += self._inputs[k]
        if self._serving:
            self._place(now, k)
        else:
            self._unplaced.append(k)

    def _place(self, now: float, k: int) -> None:
        replica = min(self._serving, key=_load)
        replica.load += 1
        replica.waiting.append(k)
        if len(replica.running) < self._places and len(replica.waiting) == 1:
            self._advance(replica, now)
            before = replica.running[0][0] if replica.running else math.inf
            self._fill(replica, now)
            # Whoever joins slows the others: an end that is due comes no earlier, and is looked at again then.
            if replica.running and replica.running[0][0] < before:
                self._expect(replica, now)

    def _advance(self, replica: _Replica, now: float) -> None:
        running = len(replica.running)
        if running:
            replica.total += (now - replica.last) * self._speeds[running]
        replica.last = now

    def _fill(self, replica: _Replica, now: float) -> None:
        waiting, running = replica.waiting, replica.running
        while waiting and len(running) < self._places:
            k = waiting[0]
            if self._most_kv and running and replica.kv + self._kvs[k] > self._most_kv:
                break
            waiting.popleft()
            replica.kv += self._kvs[k]
            self._waits[k] = now - self._arrivals[k]
            self._backlog -= self._works[k]
            self._waiting -= 1
            self._input_waiting -= self._inputs[k]
            self._running += 1
            heapq.heappush(running, (replica.total + self._works[k], k))

    def _finish(self, replica: _Replica, now: float, k: int) -> None:
        replica.load -= 1
        replica.kv -= self._kvs[k]
        self._running -= 1
        self._latencies[bisect_left(LATENCIES, now - self._arrivals[k])] += 1

    def _expect(self, replica: _Replica, now: float) -> None:
        running = replica.running
        if running:
            replica.due = now + max(0.0, running[0][0] - replica.total) / self._speeds[len(running)]
            self._push(replica.due, replica)
        else:
            replica.due = math.inf

    def _push(self, at: float, replica: _Replica) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, replica))

    def _scale(self, now: float, look: Look) -> None:
        self._samples.append(self._sample(now))
        seen = round(self._timing.delay_s / self._timing.scrape_s)
        visible = self._samples[: len(self._samples) - seen] if seen else self._samples
        have = len(self._replicas)
        wanted = look(now, visible, have, len(self._serving))
        if wanted != have:
            self._counts.append((now, wanted))
        for _ in range(wanted - have):
            replica = _Replica(now, now + self._service.warm_up_s)
            replica.last = now
            self._replicas.append(replica)
            if replica.cold:
                self._warming.append(replica)
                self._push(replica.ready, replica)
            else:
                self._serve(now, replica)
        for _ in range(have - wanted):
            self._remove(now)

    def _remove(self, now: float) -> None:
        """Of those that are not ready the youngest, else the youngest: the order of a ReplicaSet."""
        if self._warming:
            replica = self._warming.pop()
            replica.ended = now
            replica.ready = math.inf
            self._gone.append(replica)
        else:
            replica = self._serving.pop()
            replica.leaves = now + self._timing.least_drain_s
            self._leaving.append(replica)
            self._push(replica.leaves, replica)
        self._replicas.remove(replica)

    def _sample(self, now: float) -> Sample:
        held = sum(one.kv for one in self._replicas) / self._most_kv if self._most_kv else 0.0
        return Sample(
            at=now,
            offered=self._offered,
            backlog=max(0.0, self._backlog),
            waiting=self._waiting,
            running=self._running,
            input_waiting=self._input_waiting,
            kv=held,
            latencies=tuple(self._latencies),
            replicas=len(self._replicas),
            ready=len(self._serving),
        )

    def _end(self, now: float) -> Served:
        everyone = [*self._gone, *self._leaving, *self._replicas]
        lives = tuple(sorted((one.born, min(one.ended, now)) for one in everyone))
        return Served(tuple(self._waits), tuple(self._counts), lives, now, tuple(self._samples))
