"""Clients that go away: streams dropped at random moments, with an eye on the gateway's memory and counts."""

from __future__ import annotations

import asyncio
import random
import re
import time
from dataclasses import dataclass, field

import psutil

from benchmarks.common.processes import list_family, read_status
from benchmarks.common.report import show_progress_note
from benchmarks.gateway.clock import Clock
from benchmarks.gateway.load import Connection, LoadJob, Pool, Sent
from benchmarks.gateway.measure import TIMEOUT_S, Plan, Upstream, fetch, make_job, settle
from benchmarks.gateway.page import STREAMED, Soak
from benchmarks.gateway.servers import HOST, Server
from trireme.observe import metrics as names

# Of streams; the others are read to their end.
DROPPED_SHARE = 0.7
RATE = 100.0
# Until this a drop may come, in seconds from the request: past the end of the fake provider's streams.
LATEST_DROP_S = 0.18
CLEAR_S, SAMPLES = 10.0, 20
_RUNNING = re.compile(rf'^{names.RUNNING.name}\{{[^}}]*endpoint="chat"[^}}]*\}} (\S+)$', re.MULTILINE)


@dataclass(slots=True)
class Tally:
    """What came of the streams so far."""

    streams: int = 0
    dropped: int = 0
    failed: int = 0
    clear_s: float = -1.0
    rss_mib: list[float] = field(default_factory=list)
    connections: list[int] = field(default_factory=list)


def soak(server: Server, upstream: Upstream, seconds: float, seed: int) -> Soak:
    """`RATE` streams a second for `seconds`. Blocks."""
    settle(server)
    before = upstream.read_stats()
    tally = Tally()
    asyncio.run(_drive(server, seconds, seed, tally))
    after = upstream.read_stats()
    return Soak(
        seconds=seconds,
        streams=tally.streams,
        dropped=tally.dropped,
        failed=tally.failed,
        clear_s=round(tally.clear_s, 3),
        upstream_running=after["running"],
        upstream_left=after["left"] - before["left"],
        connections=tuple(tally.connections),
        rss_mib=tuple(round(size, 1) for size in tally.rss_mib),
    )


async def _drive(server: Server, seconds: float, seed: int, tally: Tally) -> None:
    clock = Clock(asyncio.get_running_loop())
    draw = random.Random(seed)  # noqa: S311 - a sample, no secret
    pool = DroppingPool(make_job(server, Plan(STREAMED, RATE, seconds, seed)), clock, draw, tally)
    began = time.monotonic()
    watch = asyncio.create_task(_watch(server, seconds, tally))
    try:
        while time.monotonic() - began < seconds:
            await asyncio.sleep(draw.expovariate(RATE))
            pool.start()
        await asyncio.wait_for(pool.idle.wait(), TIMEOUT_S)
        tally.clear_s = await asyncio.to_thread(wait_until_clear, server, time.monotonic())
        await watch
    finally:
        watch.cancel()
        await pool.close()
        clock.close()


class DroppingPool(Pool):
    """A pool whose connections are dropped at random in the middle of what they do."""

    def __init__(self, job: LoadJob, clock: Clock, draw: random.Random, tally: Tally) -> None:
        super().__init__(job)
        self._clock, self._draw, self._tally = clock, draw, tally
        self._dropping = set[int]()

    def start(self) -> None:
        """One more stream."""
        self._tally.streams += 1
        self.send(Sent(time.monotonic(), counts=True))

    def sending(self, connection: Connection, sent: Sent) -> None:
        if self._draw.random() < DROPPED_SHARE:
            when = time.monotonic() + self._draw.uniform(0.0, LATEST_DROP_S)
            self._clock.call_at(when, lambda: self._drop(connection, sent))

    def _drop(self, connection: Connection, sent: Sent) -> None:
        if not sent.done:
            self._dropping.add(id(sent))
            self._tally.dropped += 1
            connection.drop()

    def ended(self, sent: Sent) -> None:
        if id(sent) in self._dropping:
            self._dropping.discard(id(sent))
        elif sent.error:
            self._tally.failed += 1
        super().ended(sent)


async def _watch(server: Server, seconds: float, tally: Tally) -> None:
    for number in range(SAMPLES + 1):
        size, connections = read_memory(server.pid)
        tally.rss_mib.append(size)
        tally.connections.append(connections)
        if number % 5 == 0:
            show_progress_note(f"{tally.streams:,} streams, {tally.dropped:,} dropped, {size:.0f} MiB")
        if number < SAMPLES:
            await asyncio.sleep(seconds / SAMPLES)


def read_memory(pid: int) -> tuple[float, int]:
    """MiB resident of a process and all below it, and its connections over TCP."""
    total, connections = 0.0, 0
    for process in list_family(pid):
        try:
            total += read_status(process.pid, "VmRSS").get("VmRSS", 0) / 2**20
            connections += len(process.net_connections(kind="tcp"))
        except (OSError, psutil.Error):
            # It ended meanwhile.
            continue
    return total, connections


def read_running(page: str) -> float:
    """Chats that run, of a page of metrics."""
    return sum(float(value) for value in _RUNNING.findall(page))


def wait_until_clear(server: Server, since: float) -> float:
    """Seconds from `since` until nothing runs; negative where something still does after CLEAR_S."""
    while (now := time.monotonic()) - since < CLEAR_S:
        if not read_running(fetch(f"http://{HOST}:{server.port}/metrics").decode()):
            return now - since
        time.sleep(0.02)
    return -1.0
