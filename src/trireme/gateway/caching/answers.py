"""Answers of chats from the caches, or from one call of all who ask the same at once."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from trireme.cache.port import CacheTier, Entry, Found, Question
from trireme.errors import DeadlineError
from trireme.gateway.caching.codec import decode_answer, encode_events, replay
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.flights import MOST_LEADERS, Flight, Flights, leaders_after
from trireme.gateway.caching.in_time import by, patience_of
from trireme.gateway.caching.locks import QuestionLocks
from trireme.gateway.caching.loose import Loose
from trireme.gateway.caching.marks import is_shortened, mark, note_hit
from trireme.gateway.caching.questions import read_question
from trireme.gateway.caching.shadow import ShadowChecks
from trireme.gateway.caching.wishes import Wish, is_complete, read_wish
from trireme.gateway.chains import Chain
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import GatewayFile
from trireme.gateway.spending.spending import Spending
from trireme.providers.chat import ChatCall, Event, Started, Usage
from trireme.providers.port import ProviderError
from trireme.providers.targets import OpenAnswer, Target

Ask = Callable[[], Awaitable[OpenAnswer]]
# Name of the hits of those who read another's answer.
FLIGHT = "flight"
EXACT, SEMANTIC = "exact", "semantic"
# Of all tiers together, to keep one answer; nobody waits for it but who asks the same.
KEEP_SECONDS = 2.0
# Until what runs in the background is ended when the gateway stops.
CLOSE_SECONDS = 2.0
MOST_LABELS = 1_000
_STRICT = Loose()


@dataclass(frozen=True, slots=True)
class TierRow:
    """One tier of the list, and for how many seconds a request waits for it."""

    tier: CacheTier
    seconds: float


class Tally(Protocol):
    """Counts what the tiers did. trireme.gateway.metrics is one."""

    def count_lookup(self, tier: str, outcome: str, seconds: float | None = None) -> None:
        """outcome: hit, miss, late, stale or bypass. seconds: that the tier took, where it was asked."""
        ...


@dataclass(frozen=True, slots=True)
class Caching:
    """What `Answers` works with. tiers: in the order they are asked; a hit of a later one is not copied up.

    locks: single flight over processes; None: of this process alone. shadow: checks hits of the semantic tier.
    now: Unix seconds.
    """

    file: GatewayFile
    fingerprints: Fingerprints
    spending: Spending
    tiers: Sequence[TierRow] = ()
    locks: QuestionLocks | None = None
    tally: Tally | None = None
    shadow: ShadowChecks | None = None
    now: Callable[[], float] = field(default=time.time)


class Answers:
    """For one event loop. `start` before use, `close` after it."""

    def __init__(self, caching: Caching | None = None) -> None:
        """None: every call is asked."""
        self._caching = caching
        self._flights = Flights()
        self._tasks: set[asyncio.Task[None]] = set()
        # Of each target, what it last said that it runs.
        self._versions: OrderedDict[str, str] = OrderedDict()

    async def start(self) -> None:
        """Begin what runs in the background."""

    async def close(self) -> None:
        """End it, and close the tiers."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._caching is not None:
            if self._caching.locks is not None:
                await self._caching.locks.close()
            if self._caching.shadow is not None:
                await self._caching.shadow.close()
            for row in self._caching.tiers:
                await row.tier.close()

    async def open(
        self, call: ChatCall, chain: Chain, exchange: Exchange, ask: Ask, loose: Loose = _STRICT
    ) -> OpenAnswer:
        """A kept answer of the call, or what `ask` opens, which is kept if it ends whole and may be.

        loose: what will do in place of the answer, and what `ask` leaves out of it. Raises what `ask` raises, and
        DeadlineError where only a kept answer is wanted and there is none.
        """
        if self._caching is None:
            return await ask()
        wish = read_wish(exchange.headers)
        question = None
        if wish.may_read or wish.may_keep:
            question = await read_question(call, chain, wish, self._caching.file, self._caching.fingerprints)
        if question is None:
            return await self._ask_past(self._caching, exchange, ask, wish)
        # Where a budget holds, a call that names no max_tokens is sent with one: who has none is not cut by it.
        is_bounded = call.max_tokens is None and self._caching.spending.is_capped(exchange)
        flight_key = question.key + ("+" if is_bounded else "") + loose.mark
        question = replace(question, stale_seconds=loose.stale_seconds, takes_stale=loose.takes_stale)
        asked = _Asked(self._caching, call, question, chain, exchange, ask, flight_key, loose)
        if question.may_read:
            found = await self._find(asked)
            if found is not None:
                return found
        if wish.only_kept:
            mark(exchange, "miss")
            raise DeadlineError("no answer of this request is kept; leave out only-if-cached")
        if not question.may_read:
            self._count("none", "bypass")
            mark(exchange, "bypass")
            return await self._begin(asked, Flight(), await ask(), owner="")
        return await self._fly(asked)

    async def _ask_past(self, caching: Caching, exchange: Exchange, ask: Ask, wish: Wish) -> OpenAnswer:
        self._count("none", "bypass")
        mark(exchange, "bypass")
        if wish.only_kept:
            raise DeadlineError("answers of this request are not kept; leave out only-if-cached")
        opened = await ask()
        if caching.file.providers[opened.served_by.entry.name].kind == "triton":
            return opened
        events = self._watch(opened)
        await anext(events)
        return replace(opened, events=events)

    async def _watch(self, opened: OpenAnswer) -> AsyncGenerator[Event, None]:
        """The answer's events, behind one that only starts this generator; what its target runs is remembered."""
        async with aclosing(opened.events) as events:
            yield Usage()
            async for event in events:
                self._note_version(opened.served_by, event)
                yield event

    async def _find(self, asked: _Asked) -> OpenAnswer | None:
        """The first tier's answer that may be served."""
        for row in asked.caching.tiers:
            began = time.monotonic()
            outcome = "miss"
            served = None
            try:
                async with asyncio.timeout(row.seconds):
                    found = await row.tier.find(asked.question)
            except TimeoutError:
                found, outcome = None, "late"
            # A tier promises not to raise; one that does must not cost the answer.
            except Exception:
                found, outcome = None, "failed"
            if found is not None:
                served = self._serve(asked, found)
                outcome = "hit" if served is not None else "stale"
            self._count(row.tier.name, outcome, time.monotonic() - began)
            asked.exchange.tiers_asked.append(row.tier.name)
            if served is not None:
                self._check(asked, found)
                return served
        return None

    def _check(self, asked: _Asked, found: Found | None) -> None:
        """Now and then compare a semantic hit with what is answered, as long as nothing is left out of that."""
        shadow = asked.caching.shadow
        if shadow is not None and found is not None and found.tier == SEMANTIC and not asked.loose.steps:
            shadow.begin(asked.question, found, asked.ask)

    def _serve(self, asked: _Asked, found: Found) -> OpenAnswer | None:
        """A hit as an answer; None where it cannot be read, its target runs another version by now, or it is older
        than this request takes: another one may have found it."""
        most = asked.question.max_age
        if most is not None and asked.caching.now() - found.entry.made_at > most:
            return None
        kept = decode_answer(found.entry.body)
        events = kept.events if kept is not None else []
        target = asked.target_of(kept.served) if kept is not None else None
        # Whatever wrote it: half an answer, or a refused one, is served to nobody.
        if (
            kept is None
            or target is None
            or not events
            or not isinstance(events[0], Started)
            or not is_complete(events, asked.call)
        ):
            return None
        version = self._versions.get(target.label)
        if version is not None and version != events[0].model:
            return None
        seconds = max(0.0, asked.caching.now() - found.entry.made_at)
        is_stale, age = seconds > asked.question.seconds, int(seconds)
        if is_stale and not asked.question.takes_stale:
            return None
        # Whoever asks this again gets the same, until the entry is gone.
        if is_stale:
            asked.exchange.note_degraded(("stale",))
        elif found.tier == EXACT and asked.call.temperature == 0:
            asked.exchange.tag = asked.question.key
        details = "".join(f"; {name}={value}" for name, value in found.details.items())
        note_hit(asked.exchange, found.tier, f"{found.tier}{details}; age={age}")
        usage = next((event for event in reversed(events) if isinstance(event, Usage)), None)
        asked.caching.spending.record_hit(asked.exchange, found.tier, usage, target)
        return OpenAnswer(target, replay(events), (), step=kept.step)

    async def _fly(self, asked: _Asked) -> OpenAnswer:
        """Lead, or read what another leads."""
        key, leaders = asked.flight_key, 0
        patience = patience_of(asked.exchange, asked.caching.file.attempts.seconds)
        while True:
            flight = self._flights.find(key)
            # Who has more time is not cut by another's deadline.
            if flight is None or flight.patience < patience:
                return await self._lead(asked, self._flights.begin(key, leaders, patience))
            state = await by(asked.exchange.deadlines.begin(), flight.opened())
            if state == "shared" and flight.error is None and flight.target is not None:
                return await self._follow(asked, flight, flight.target)
            if state == "found" and flight.found is not None:
                served = self._serve(asked, flight.found)
                if served is not None:
                    return served
            leaders = flight.leaders + (flight.error is not None)
            if state == "alone" or leaders >= MOST_LEADERS:
                mark(asked.exchange, "miss")
                return await asked.ask()

    async def _lead(self, asked: _Asked, flight: Flight) -> OpenAnswer:
        """Ask for all. Whatever stops it lets the others go on."""
        # Who leaves something out keeps nothing that others could wait for.
        locks = asked.caching.locks if not asked.loose.steps else None
        owner = secrets.token_hex(8) if locks is not None else ""
        try:
            if locks is not None:
                taking = locks.take(asked.question, owner, lambda: self._look(asked))
                found = await by(asked.exchange.deadlines.begin(), taking)
                if found is not None and (served := self._serve(asked, found)) is not None:
                    flight.give(found)
                    self._flights.end(asked.flight_key, flight)
                    self._free(asked, owner)
                    return served
            shadow = asked.caching.shadow
            mark(asked.exchange, "miss" + ("" if shadow is None else shadow.note(asked.question)))
            opened = await asked.ask()
        except BaseException as error:
            flight.leaders = leaders_after(flight, error)
            self._flights.end(asked.flight_key, flight)
            flight.close_as("failed")
            self._free(asked, owner)
            raise
        if is_shortened(asked.exchange) or asked.is_let_through(opened):
            self._flights.end(asked.flight_key, flight)
            flight.close_as("alone")
            self._free(asked, owner)
            return opened
        return await self._begin(asked, flight, opened, owner)

    async def _begin(self, asked: _Asked, flight: Flight, opened: OpenAnswer, owner: str) -> OpenAnswer:
        """The leader's reading of an answer that others may read as well. owner: of its lock; "" without one."""

        async def end() -> None:
            try:
                for event in flight.events[:1]:
                    self._note_version(opened.served_by, event)
                if flight.is_whole and asked.may_keep(opened) and not is_shortened(asked.exchange):
                    await self._keep(asked, opened, flight.events)
            finally:
                self._flights.end(asked.flight_key, flight)
                if owner:
                    self._free(asked, owner)

        reading = flight.read()
        self._run(flight.start(opened, end))
        # Nothing waits in between: no cancel can leave the answer open.
        await anext(reading)
        return replace(opened, events=reading)

    async def _follow(self, asked: _Asked, flight: Flight, target: Target) -> OpenAnswer:
        self._count(FLIGHT, "hit")
        note_hit(asked.exchange, FLIGHT, FLIGHT)
        asked.exchange.note_degraded(flight.degraded)
        events = self._read_along(asked, flight, target)
        await anext(events)
        return OpenAnswer(target, events, (), step=flight.step)

    async def _read_along(self, asked: _Asked, flight: Flight, target: Target) -> AsyncGenerator[Event, None]:
        """A follower's events, behind one that only starts this generator. Its hit counts when it is whole."""
        usage: Usage | None = None
        ends = asked.exchange.deadlines.end(is_stream=asked.exchange.stream)
        try:
            async with aclosing(flight.read()) as events:
                yield await anext(events)
                while (event := await by(ends, anext(events, None))) is not None:
                    usage = event if isinstance(event, Usage) else usage
                    yield event
        except ProviderError as error:
            # One of its own: the attempts are the leader's.
            text, wait = str(error), error.retry_after
            raise ProviderError(
                text, error.remedy, error.kind, status=error.status, retry_after=wait
            ) from None
        asked.caching.spending.record_hit(asked.exchange, FLIGHT, usage, target)

    async def _look(self, asked: _Asked) -> Found | None:
        """An entry that another gateway has made meanwhile, for who waits for it: nothing is counted."""
        for row in asked.caching.tiers[:1]:
            with suppress(Exception):
                async with asyncio.timeout(row.seconds):
                    return await row.tier.find(asked.question)
        return None

    async def _keep(self, asked: _Asked, opened: OpenAnswer, events: Sequence[Event]) -> None:
        if not asked.question.may_keep or not is_complete(events, asked.call):
            return
        most, label = asked.caching.file.cache.entry_bytes, opened.served_by.label
        body = encode_events(events, most, label, opened.step)
        if body is None:
            return
        entry = Entry(asked.question.key, body, asked.caching.now())
        with suppress(TimeoutError):
            async with asyncio.timeout(KEEP_SECONDS):
                for row in asked.caching.tiers:
                    with suppress(Exception):
                        await row.tier.keep(asked.question, entry)

    def _free(self, asked: _Asked, owner: str) -> None:
        if asked.caching.locks is not None and owner:
            self._run(asyncio.create_task(asked.caching.locks.free(asked.question, owner)))

    def _run(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note_version(self, target: Target, event: Event) -> None:
        if isinstance(event, Started) and event.model:
            self._versions[target.label] = event.model
            self._versions.move_to_end(target.label)
            if len(self._versions) > MOST_LABELS:
                self._versions.popitem(last=False)

    def _count(self, tier: str, outcome: str, seconds: float | None = None) -> None:
        if self._caching is not None and self._caching.tally is not None:
            self._caching.tally.count_lookup(tier, outcome, seconds)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One eligible call on its way. flight_key: of who may read along."""

    caching: Caching
    call: ChatCall
    question: Question
    chain: Chain
    exchange: Exchange
    ask: Ask
    flight_key: str
    loose: Loose = _STRICT

    def target_of(self, label: str) -> Target | None:
        """Who made a kept answer; None where it is no target of this chain."""
        return next((one for one in self.chain.targets if label in ("", one.label)), None)

    def may_keep(self, opened: OpenAnswer) -> bool:
        """Not of a fallback, nor with something left out: it would outlive what was the reason of that."""
        if self.loose.steps:
            return False
        if self.chain.plan is not None:
            return opened.may_keep
        return opened.served_by == self.chain.targets[0]

    def is_let_through(self, opened: OpenAnswer) -> bool:
        """Whether it was not sure enough, and is shown for want of the asker's money: another one may have more."""
        plan = self.chain.plan
        return plan is not None and not opened.may_keep and opened.step != plan.steps[-1].name
