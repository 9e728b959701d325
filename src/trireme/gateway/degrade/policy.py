"""The declared policy at work: how much waits in front of each route, which steps that takes, who is let in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from trireme.access.priorities import PRIORITIES, Priority
from trireme.errors import DeadlineError, OverloadedError
from trireme.gateway.degrade.ladder import Ladder, Rung
from trireme.gateway.degrade.line import LATE, Line, Place
from trireme.gateway.degrade.offered import Offered
from trireme.gateway.degrade.rows import RouteRow
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import LOCAL, GatewayFile, split_target
from trireme.observe import metrics as names
from trireme.providers.backlogs import BacklogReader
from trireme.providers.models import ServedModel

T = TypeVar("T")
Known = Callable[[], Mapping[str, ServedModel] | None]
# Between two looks at the backlogs.
LOOK_SECONDS = 0.25
# What was read longer ago says nothing of now.
STALE_SECONDS = 3.0
# Of a new service time in the mean of its kind.
_WEIGHT = 0.125
_LEAST_RETRY = 1.0
# After so long without a call of its kind a service time is forgotten: one slow call must not leave something out
# of all later answers, for then no such call is ever made again.
FORGET_SECONDS = 60.0
# What was broken off by its deadline would have taken longer; how much, nobody knows.
_LATE_FACTOR = 1.25
# So shortly before a deadline a call was broken off by it.
_NEAR_SECONDS = 0.05


class Tally(Protocol):
    """Counts what was done. trireme.gateway.metrics is one."""

    def add(self, metric: names.Metric, *labels: str, count: float = 1) -> None:
        """Count."""
        ...

    def set(self, metric: names.Metric, value: float, *labels: str) -> None:
        """The gauge as it is now."""
        ...

    def observe(self, metric: names.Metric, seconds: float, *labels: str) -> None:
        """One more value of the histogram."""
        ...


class NoTally:
    """Counts nothing."""

    def add(self, metric: names.Metric, *labels: str, count: float = 1) -> None:
        """See Tally."""

    def set(self, metric: names.Metric, value: float, *labels: str) -> None:
        """See Tally."""

    def observe(self, metric: names.Metric, seconds: float, *labels: str) -> None:
        """See Tally."""


class Turn:
    """A call that was let in. `end` it once."""

    def __init__(
        self,
        place: Place,
        route: _Route | None,
        steps: tuple[str, ...],
        deadline: float | None = None,
        *,
        is_stream: bool = False,
    ) -> None:
        """deadline: until when its answer must begin."""
        self._place, self._route, self._steps = place, route, steps
        self._deadline, self._is_stream = deadline, is_stream

    def end(self, *, is_whole: bool = True) -> None:
        """Let the next one in. is_whole: whether it was answered: then its time says how long such calls take. Of a
        stream its client's reading says that, so that nothing is learned."""
        if self._route is not None:
            if not self._is_stream:
                self._route.note(self._steps, self._place.began, self._deadline, is_whole=is_whole)
            self._place.leave(is_whole=is_whole)


class Degrade:
    """For one event loop. `start` before use, `close` after it. Routes without a policy are let in as they come."""

    def __init__(
        self,
        file: GatewayFile,
        known: Known = lambda: None,
        reader: BacklogReader | None = None,
        tally: Tally | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """known: what our Triton serves. reader: of its backlogs; without one the gateway's own line is all that is
        known. Closes the reader when it is closed."""
        self._routes = {name: _Route(name, row, file, clock) for name, row in file.degrade.items()}
        # A client may name a model of our Triton with its provider, and must not pass by the line so.
        self._named = {
            **{f"{LOCAL}:{name}": route for name, route in self._routes.items() if name in route.targets},
            **self._routes,
        }
        self._known, self._reader = known, reader
        self._tally = tally or NoTally()
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._reading: tuple[float, asyncio.Task[Mapping[str, float]]] | None = None
        self._said: Mapping[str, float] = {}
        self._said_at = float("-inf")

    async def start(self) -> None:
        """Look at the backlogs, and go on doing so."""
        if self._routes:
            self._task = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._reading is not None:
            self._reading[1].cancel()
            await asyncio.wait([self._reading[1]])
        if self._reader is not None:
            await self._reader.close()

    def row_of(self, model: str) -> RouteRow | None:
        """The policy of a route; None for one that has none."""
        route = self._named.get(model)
        return None if route is None else route.row

    def standing(self) -> list[tuple[str, float, int]]:
        """Of each route that has a policy: its name, seconds of work that wait before it, calls in its line."""
        return [
            (route.name, route.backlog(is_light=False), route.line.waiting) for route in self._routes.values()
        ]

    async def look(self) -> None:
        """Read the backlogs once; take and take back steps by them. Waits LOOK_SECONDS at most."""
        if self._reader is not None:
            await self._read(self._reader)
        known = self._known() or {}
        said = self._said if self._clock() - self._said_at <= STALE_SECONDS else {}
        for route in self._routes.values():
            route.hear(said, known)
            self._show(route)

    async def _read(self, reader: BacklogReader) -> None:
        """What the reader says, as of when it was asked. One that is slow is not asked again meanwhile."""
        if self._reading is None:
            self._reading = self._clock(), asyncio.ensure_future(reader.read())
        asked_at, task = self._reading
        await asyncio.wait([task], timeout=LOOK_SECONDS)
        if task.done():
            self._reading = None
            # What waits here is known without it.
            with suppress(Exception, asyncio.CancelledError):
                self._said, self._said_at = task.result(), asked_at

    def choose(self, exchange: Exchange, model: str, can: Collection[str]) -> tuple[str, ...]:
        """The steps to take for a request, in order: what the backlog asks for, and more where its deadline does.

        can: steps that mean something for it.
        """
        route = self._named.get(model)
        if route is None:
            return ()
        asked = route.look()
        taken = [step for step in asked if step in can]
        rest = [step for step in route.ladder.all_steps if step in can and step not in asked]
        begins = exchange.deadlines.begin()
        if begins is not None:
            left = begins - self._clock()
            while rest and route.expect(tuple(taken), is_stream=exchange.stream) > left:
                taken.append(rest.pop(0))
        return tuple(taken)

    async def enter(
        self, exchange: Exchange, model: str, steps: tuple[str, ...] = (), asked: str = ""
    ) -> Turn:
        """Wait for the request's turn. steps: those that are taken for it. asked: the model that is asked in place
        of `model`: where that has a policy of its own, its line is the one to wait in.

        Raises OverloadedError where too much waits for its priority or its deadline, and DeadlineError once that
        has passed: nothing is asked then.
        """
        route, begins = self._named.get(model), exchange.deadlines.begin()
        if route is None:
            if begins is not None and self._clock() >= begins:
                raise DeadlineError(LATE)
            return Turn(Place(None, self._clock()), None, steps)
        route.offered.note(exchange.priority)
        instead = self._named.get(asked) if asked != model else None
        if instead is None or instead is route:
            place = await self._wait(route, exchange, steps)
        else:
            # It takes none of the places of the model that was named, whose load it is all the same.
            with self._counting(route, exchange.priority):
                self._refuse(route, exchange.priority, begins, steps)
            instead.offered.note(exchange.priority)
            place = await self._wait(instead, exchange, ())
        return Turn(place, route, steps, begins, is_stream=exchange.stream)

    async def _wait(self, route: _Route, exchange: Exchange, steps: tuple[str, ...]) -> Place:
        """A place of the route. Raises as `enter`."""
        begins, came = exchange.deadlines.begin(), self._clock()
        with self._counting(route, exchange.priority):
            self._refuse(route, exchange.priority, begins, steps)
            self._refuse_load(route, exchange.priority)
            place = await route.line.enter(begins)
        exchange.waited = (exchange.waited or 0.0) + place.began - came
        self._tally.observe(names.ROUTE_WAIT, place.began - came, route.name)
        return place

    @contextmanager
    def _counting(self, route: _Route, priority: Priority) -> Iterator[None]:
        """Counts a refusal."""
        try:
            yield
        except _LoadError:
            self._count(route, priority, "load")
            raise
        except OverloadedError:
            self._count(route, priority, "backlog")
            raise
        except DeadlineError:
            self._count(route, priority, "deadline")
            raise

    async def run(
        self, exchange: Exchange, model: str, act: Callable[[], Awaitable[T]], steps: tuple[str, ...] = ()
    ) -> T:
        """What `act` gives, once it is the request's turn. Raises as `enter`, and what `act` raises."""
        turn = await self.enter(exchange, model, steps)
        is_whole = False
        try:
            found = await act()
            is_whole = True
        finally:
            turn.end(is_whole=is_whole)
        return found

    def _refuse(
        self, route: _Route, priority: Priority, begins: float | None, steps: tuple[str, ...]
    ) -> None:
        """Raises OverloadedError where the request is not to be let in."""
        limit = route.row.refuse.seconds_of(priority)
        backlog = route.backlog(is_light=route.is_light(steps))
        if limit is not None and backlog >= limit:
            raise OverloadedError(
                f"{backlog:.1f} s of work wait for model {route.name!r}, from {limit:g} s on requests of priority"
                f" {priority} are refused; try again",
                max(_LEAST_RETRY, backlog),
            )
        if begins is not None and 0 < begins - self._clock() < backlog:
            raise OverloadedError(
                f"{backlog:.1f} s of work wait for model {route.name!r}, longer than the request waits; try again",
                max(_LEAST_RETRY, backlog),
            )

    def _refuse_load(self, route: _Route, priority: Priority) -> None:
        """Raises OverloadedError where waiting would be in vain: see has_room. Only a route that refuses, and has
        taken all of its steps before."""
        if route.row.refuse.seconds_of(priority) is None or not route.ladder.is_at_end:
            return
        if not route.has_room(priority):
            raise _LoadError(
                f"more requests of priority {priority} and above come for model {route.name!r} than it can answer,"
                " and none of this priority waits meanwhile; try again",
                max(_LEAST_RETRY, route.line.backlog),
            )

    def _count(self, route: _Route, priority: str, reason: str) -> None:
        self._tally.add(names.SHED, route.name, priority, reason)
        self._tally.add(names.SHED_WORK, route.name, count=route.line.service_seconds)

    def _show(self, route: _Route) -> None:
        self._tally.set(names.DEGRADE_LEVEL, route.ladder.level, route.name)
        self._tally.set(names.ROUTE_BACKLOG, route.backlog(is_light=False), route.name)
        self._tally.set(names.ROUTE_WAITING, route.line.waiting, route.name)
        for priority in PRIORITIES:
            self._tally.set(names.ROUTE_OFFERED, route.load_of(priority), route.name, priority)

    async def _keep_looking(self) -> None:
        while True:
            # It must go on, whatever one look was.
            with suppress(Exception):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)


class _LoadError(OverloadedError):
    """Of a load that lasts, not of what waits now."""


class _Route:
    """One route: its line, its steps, and what waits behind it."""

    def __init__(self, name: str, row: RouteRow, file: GatewayFile, clock: Callable[[], float]) -> None:
        self.name, self.row = name, row
        self.line = Line(row.running, row.waiting, clock)
        # What refuse lets wait is a burst, not a load.
        self.offered = Offered(max(row.offered_seconds, row.refuse.longest), clock)
        rungs = [Rung(step, seconds, self._is_after_extractive(step)) for step, seconds in row.steps]
        self.ladder = Ladder(rungs, row.calm_share, row.calm_seconds, clock)
        named = [split_target(entry) for entry in file.models[name].entries] if name in file.models else []
        self.targets = [model for provider, model in named if provider == LOCAL] if named else [name]
        self._clock = clock
        self._behind, self._light = 0.0, 0.0
        # Mean seconds of calls by the steps that were taken for them, and when the last of them ended.
        self._took: dict[tuple[str, ...], tuple[float, float]] = {}

    def hear(self, said: Mapping[str, float], known: Mapping[str, ServedModel]) -> None:
        """What Triton's models say of themselves."""
        behind = self.row.behind or [model for target in self.targets for model in _called(target, known)]
        writers = {model for model in behind if model in known and known[model].ability == "chat"}
        self._behind = max((said.get(model, 0.0) for model in behind), default=0.0)
        self._light = max((said.get(model, 0.0) for model in behind if model not in writers), default=0.0)
        self.look()

    def look(self) -> tuple[str, ...]:
        """Take or take back steps by what waits now."""
        is_loaded = self.row.refuse.longest > 0 and self.load_of(PRIORITIES[0]) >= 1
        return self.ladder.look(
            self.backlog(is_light=False), self.backlog(is_light=True), is_loaded=is_loaded
        )

    def backlog(self, *, is_light: bool) -> float:
        """Seconds of work that wait, here or in Triton. is_light: without the LLMs'."""
        return max(self.line.backlog, self._light if is_light else self._behind)

    def is_light(self, steps: Collection[str]) -> bool:
        """Whether a call for which these steps are taken asks no LLM."""
        return "extractive" in steps

    def load_of(self, priority: Priority) -> float:
        """Places that requests of this priority and of higher ones would fill, as a share of those there are."""
        return self.line.load(self.offered.rate(priority))

    def has_room(self, priority: Priority) -> bool:
        """Whether a request may wait, or finds a place that is free.

        A load above 1 fills any line for good: its requests would all wait as long as they are allowed to, and no
        more of them would be answered. So they may only take a place that is free and not reserved; and not even
        that where requests of higher priority fill all places by themselves.
        """
        if self.load_of(priority) < 1:
            return True
        return self.line.load(self.offered.rate_above(priority)) < 1 and self.line.free > self.row.reserved

    def expect(self, steps: tuple[str, ...], *, is_stream: bool) -> float:
        """Seconds until an answer with these steps begins; of one that is not streamed, until it ends. Of steps
        that were not taken lately the wait alone is known."""
        took, at = self._took.get(_of_work(steps), (0.0, 0.0))
        is_known = not is_stream and self._clock() - at <= FORGET_SECONDS
        return self.backlog(is_light=self.is_light(steps)) + (took if is_known else 0.0)

    def note(self, steps: tuple[str, ...], began: float, deadline: float | None, *, is_whole: bool) -> None:
        """A call with these steps was answered, or broken off."""
        kind, now = _of_work(steps), self._clock()
        seconds = now - began
        mean, at = self._took.get(kind, (seconds, now))
        if now - at > FORGET_SECONDS:
            mean = seconds
        if is_whole:
            self._took[kind] = (mean + _WEIGHT * (seconds - mean), now)
        elif deadline is not None and now >= deadline - _NEAR_SECONDS:
            self._took[kind] = (max(mean, _LATE_FACTOR * seconds), now)

    def _is_after_extractive(self, step: str) -> bool:
        order: list[str] = [name for name, _ in self.row.steps]
        return "extractive" in order and order.index(step) > order.index("extractive")


def _called(target: str, known: Mapping[str, ServedModel]) -> list[str]:
    """A model of our Triton and all that it calls."""
    model: Any = known.get(target)
    return [target] if model is None else [target, *(name for name, _ in model.versions)]


def _of_work(steps: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the steps that make a call shorter."""
    return tuple(step for step in steps if step != "stale")
