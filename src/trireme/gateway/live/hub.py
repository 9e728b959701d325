"""Tells each second, to all who watch the same, the same bytes."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trireme.errors import ResourceExhaustedError, UnavailableError
from trireme.gateway.live.facts import FactParts, Facts, Spent
from trireme.gateway.live.recorder import Recorder, Ring
from trireme.gateway.live.scopes import Scope
from trireme.gateway.live.slots import INTERVAL, SLOTS
from trireme.observe import metrics as names
from trireme.observe.build_info import Build

_log = logging.getLogger(__name__)
# Between two looks at whether keys are in force; each fourth one tells.
LOOK_SECONDS = 0.25
LOOKS = 4
MOST_STREAMS = 100
MOST_OF_TENANT = 20
# Frames that a watcher may be behind: older ones are of no use to it.
MOST_BEHIND = 20
_RETRY_SECONDS = 5.0
STOPPING = "the gateway stops; connect again"


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a stream says first. name: of its machine. started: Unix seconds."""

    name: str = ""
    release: str = ""
    version: str = ""
    started: float = 0.0


class Watcher:
    """One stream. `next` gives what there is to send; b"" once it is over, and `last` says why."""

    def __init__(self, hub: Live, room: _Room, tenant: str, holds: Callable[[], bool]) -> None:
        self._hub, self.room, self.tenant, self._holds = hub, room, tenant, holds
        self._frames: deque[bytes] = deque(maxlen=MOST_BEHIND)
        self._there = asyncio.Event()
        self._is_over = False
        self.last = b""
        # Whether its key may have been revoked.
        self.is_doubted = False

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._hub.leave(self)

    def give(self, frame: bytes) -> None:
        """Send it. Of one that is far behind the oldest frame is dropped."""
        self._frames.append(frame)
        self._there.set()

    def end(self, last: bytes) -> None:
        """Send no more but this."""
        self._is_over, self.last = True, last
        self._there.set()

    def look(self) -> None:
        """Doubt the key if it is not held any more."""
        if not self.is_doubted and not self._holds():
            self.is_doubted = True
            self._there.set()

    def trust(self) -> None:
        """The key was found again."""
        self.is_doubted = False

    async def next(self) -> bytes:
        """What came since the last call, at least one frame; b"" where the key is doubted or the stream over."""
        while not (self._frames or self._is_over or self.is_doubted):
            self._there.clear()
            await self._there.wait()
        if self._is_over or self.is_doubted:
            return b""
        frames = b"".join(self._frames)
        self._frames.clear()
        return frames


class _Room:
    """All who watch one scope."""

    def __init__(self, scope: Scope, ring: Ring, spent: Spent | None) -> None:
        self.scope, self.ring, self.spent = scope, ring, spent
        self.watchers: list[Watcher] = []

    def give(self, frame: bytes) -> None:
        for watcher in self.watchers:
            watcher.give(frame)


class Live:
    """For one event loop. `start` before use, `close` after it; `stop` ends all streams before that."""

    def __init__(
        self,
        recorder: Recorder,
        facts: Facts | None = None,
        gateway: Gateway | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """facts: None knows nothing. clock: Unix seconds, the recorder's."""
        self.recorder = recorder
        self._facts, self._gateway, self._clock = facts, gateway or Gateway(started=clock()), clock
        self._rooms: dict[Scope, _Room] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._count = 0
        self._by_tenant: Counter[str] = Counter()
        self._is_stopping = False
        self._task: asyncio.Task[None] | None = None
        self._index = recorder.index
        # Of slots that are over: seconds of work that waited, and the most requests that ran at once.
        self._gauges: dict[int, tuple[float, float]] = {}
        self._most_running = 0

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._count

    async def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._keep_telling())

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for room in list(self._rooms.values()):
            self._drop(room)
        if self._closing:
            await asyncio.wait(self._closing)
        if self._facts is not None:
            await self._facts.close()

    def stop(self) -> None:
        """End all streams, and begin none: the gateway waits for what runs."""
        self._is_stopping = True
        for room in self._rooms.values():
            for watcher in room.watchers:
                watcher.end(frame("end", {"reason": STOPPING}))

    def watch(self, scope: Scope, holds: Callable[[], bool]) -> Watcher:
        """A new stream. holds: whether its key is in force still.

        Raises ResourceExhaustedError where there are too many, UnavailableError where the gateway stops.
        """
        if self._is_stopping:
            raise UnavailableError(STOPPING)
        owner = scope.owner
        # Those of tenants must not keep out who looks what is wrong.
        spare = MOST_OF_TENANT if scope.is_admin else 0
        for has, most, whose in (
            (self._count, MOST_STREAMS + spare, "the gateway"),
            (self._by_tenant[owner], MOST_OF_TENANT, "this tenant"),
        ):
            if has >= most:
                raise ResourceExhaustedError(
                    f"{whose} has {most} open streams of /v1/live, the limit; close one", _RETRY_SECONDS
                )
        room = self._rooms.get(scope)
        if room is None:
            ring = self.recorder.watch(scope.tenant, scope.user)
            spent = self._facts.new_spent(scope) if self._facts is not None else None
            room = self._rooms[scope] = _Room(scope, ring, spent)
        watcher = Watcher(self, room, owner, holds)
        room.watchers.append(watcher)
        self._count += 1
        self._by_tenant[owner] += 1
        watcher.give(self._hello(scope, room.ring) + self._history(room))
        watcher.give(self._now(room))
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """A stream is over."""
        watcher.room.watchers.remove(watcher)
        self._count -= 1
        self._by_tenant[watcher.tenant] -= 1
        if not self._by_tenant[watcher.tenant]:
            del self._by_tenant[watcher.tenant]
        if not watcher.room.watchers:
            self._drop(watcher.room)

    def tell(self) -> None:
        """Tell all how things are now, and of each slot that has ended since the last time."""
        self._turn()
        for room in self._rooms.values():
            room.give(self._now(room))

    async def _keep_telling(self) -> None:
        looks = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            looks += 1
            try:
                for room in self._rooms.values():
                    for watcher in room.watchers:
                        watcher.look()
                if looks % LOOKS == 0:
                    self.tell()
            except Exception as error:
                # It must go on, whatever one look met.
                _log.error("live figures cannot be told: %s", type(error).__name__)

    def _turn(self) -> None:
        """Note how the machine stood in the slots that are over, and tell the points of those."""
        index = self.recorder.index
        if self._facts is not None:
            self._most_running = max(self._most_running, self._running())
        while self._index < index:
            self._gauges[self._index] = self._longest(), float(self._most_running)
            self._most_running = 0
            while len(self._gauges) > SLOTS:
                del self._gauges[next(iter(self._gauges))]
            for room in self._rooms.values():
                room.give(self._point(room, self._index))
            # A clock that was set by hours has no points in between.
            self._index = max(self._index + 1, index - SLOTS)

    def _running(self) -> int:
        # Watching is no load.
        return max(0, self._facts.running - self._count) if self._facts is not None else 0

    def _longest(self) -> float:
        backlog = self._facts.backlog() if self._facts is not None else None
        return math.nan if backlog is None else max(backlog.values(), default=0.0)

    def _drop(self, room: _Room) -> None:
        self._rooms.pop(room.scope, None)
        self.recorder.leave(room.ring)
        if room.spent is not None:
            closing = asyncio.ensure_future(room.spent.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _hello(self, scope: Scope, ring: Ring) -> bytes:
        return frame(
            "hello",
            {
                "gateway": self._gateway.name if scope.is_admin else None,
                "release": self._gateway.release,
                "version": self._gateway.version,
                "tenant": scope.tenant or None,
                "user": scope.user or None,
                "interval": INTERVAL,
                "started": int(self._gateway.started),
                "since": int(ring.since),
            },
        )

    def _history(self, room: _Room) -> bytes:
        at, series = self.recorder.history(room.ring)
        places = [one // INTERVAL for one in at]
        gauges = [self._gauge(room.scope, place) for place in places]
        series["backlog_seconds"] = [backlog for backlog, _ in gauges]
        series["running"] = [running for _, running in gauges]
        whole: Mapping[str, Sequence[float]] = {name: _numbers(values) for name, values in series.items()}
        return frame("history", {"interval": INTERVAL, "at": at, "series": whole})

    def _point(self, room: _Room, index: int) -> bytes:
        series = self.recorder.point(room.ring, index)
        series["backlog_seconds"], series["running"] = self._gauge(room.scope, index)
        values = dict(zip(series, _numbers(list(series.values())), strict=True))
        return frame("point", {"at": index * INTERVAL, "series": values})

    def _gauge(self, scope: Scope, index: int) -> tuple[float, float]:
        """What concerns all is an admin's to see."""
        unknown = (math.nan, math.nan)
        return self._gauges.get(index, unknown) if scope.is_admin else unknown

    def _now(self, room: _Room) -> bytes:
        scope, recent = room.scope, self.recorder.recent(room.ring)
        tally = room.ring.tally
        hits: dict[str, dict[str, int]] = {}
        for (kind, name), count in tally.items():
            if kind in ("hit", "lookup"):
                one = hits.setdefault(name, {"hits": 0, "lookups": 0})
                one["hits" if kind == "hit" else "lookups"] += count
        body: dict[str, Any] = {
            "at": round(self._clock(), 3),
            **recent,
            "errors": {name: count for (kind, name), count in tally.items() if kind == "error"},
            "cache": hits,
            "streams": self._count if scope.is_admin else None,
        }
        return frame("now", body | self._stand(room))

    def _stand(self, room: _Room) -> dict[str, Any]:
        """What is so beside what was counted."""
        facts, spent, is_admin = self._facts, room.spent, room.scope.is_admin
        if facts is None or spent is None:
            return {}
        return {
            "running": self._running() if is_admin else None,
            "waiting": facts.waiting() if is_admin else None,
            "backlog": facts.backlog() if is_admin else None,
            "spend": spent.body(),
            "models": facts.models(room.scope),
            "replicas": facts.replicas() if is_admin else None,
            "regions": facts.regions() if is_admin else None,
            "database": facts.database,
            "store": spent.store,
        }


def new_live(recorder: Recorder, facts: FactParts, build: Build) -> Live:
    """The streams of this process."""
    gateway = Gateway(socket.gethostname(), build.release, build.version, time.time())
    live = Live(recorder, Facts(facts), gateway)
    facts.metrics.watch(names.LIVE_STREAMS, lambda: live.count)
    return live


def frame(event: str, value: Mapping[str, Any]) -> bytes:
    """One server-sent event; NaN is null."""
    return b"event: %s\ndata: %s\n\n" % (event.encode(), msgspec.json.encode(value))


def _numbers(values: Sequence[float]) -> list[float]:
    """The same; whole ones without a point, which are shorter."""
    return [int(value) if value.is_integer() else round(value, 9) for value in values]
