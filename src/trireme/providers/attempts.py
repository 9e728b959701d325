"""The one attempt loop of streamed and whole answers: who is asked, how often, and when an answer is committed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from trireme.errors import InvalidInputError, ResourceExhaustedError, TriremeError
from trireme.providers.breaker import BreakerPolicy, Breakers, CircuitKey, Permit
from trireme.providers.chat import ChatCall, Event, Finished, Usage, is_content
from trireme.providers.meter import AttemptMeter, FreeMeter, Meter
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.retry_budget import RetryBudget
from trireme.providers.targets import Attempt, OpenAnswer, Target

_log = logging.getLogger(__name__)
# Kind of a fault that is neither the provider's nor the client's.
INTERNAL = "internal"
# Outcome of an attempt whose caller went away.
CANCELLED = "cancelled"
_NOT_OF_PROVIDERS = frozenset({INTERNAL, "invalid", "too_long", "too_large"})
# What is told of a provider that rests after a fault of this kind; after another it is overloaded.
_TOLD = frozenset({"rate_limit", "not_found"})
# A timeout this near to the request's deadline, in seconds, is the deadline's.
_NEAR = 0.01


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How often and how soon. Seconds throughout.

    most: upstream calls of one request. retry_share: repeated calls of a target as a share of requests; moves to
    another target or key are none. pause: before a repeated call, at most, doubled with each of the request; the
    true one is random below it. longest_retry_after: what a provider asks for is waited for up to this; beyond it
    the next target is asked.
    """

    most: int = 3
    retry_share: float = 0.1
    pause: float = 0.5
    longest_retry_after: float = 5.0
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)


@dataclass(slots=True)
class _Walk:
    """One request on its way through the targets."""

    call: ChatCall
    targets: Sequence[Target]
    deadline: float
    meter: Meter
    calls: int = 0
    repeats: int = 0
    may_repeat: bool = True
    first: ProviderError | None = None
    unpaid: ResourceExhaustedError | None = None
    made: list[Attempt] = field(default_factory=list)

    def skip(self, target: Target) -> None:
        self.made.append(Attempt(target.label, "skipped"))

    def leave_unpaid(self, target: Target, error: ResourceExhaustedError) -> None:
        self.made.append(Attempt(target.label, "unpaid"))
        self.unpaid = self.unpaid or error


@dataclass(slots=True)
class _Held:
    """Events that are not passed on yet, and which choices have ended."""

    choices: int
    events: list[Event] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    is_whole: bool = False

    def note(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finished.add(event.choice)

    def check_end(self) -> None:
        """Raises ProviderError where the events ended and a choice did not."""
        if len(self.finished) < self.choices:
            raise ProviderError("the provider's answer ended before it was finished", "again", "cut")
        self.is_whole = True


@dataclass(frozen=True, slots=True)
class _Try:
    """One upstream call. began: when, on the clock."""

    target: Target
    permit: Permit
    began: float
    paid: AttemptMeter


class Attempts:
    """Opens answers. Remembers which targets failed, for all requests. For one event loop."""

    def __init__(
        self,
        policy: AttemptPolicy,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        """sleep: of seconds, awaited before a repeated call. random: from 0 to 1, for the length of that pause."""
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._breakers = Breakers(policy.breaker, clock)
        self._budget = RetryBudget(policy.retry_share, clock)

    async def open(
        self, call: ChatCall, targets: Sequence[Target], seconds: float, meter: Meter | None = None
    ) -> OpenAnswer:
        """The first answer of `targets`, asked in order: from its first content on, or whole if not streamed.

        seconds: for all attempts and the answer together. meter: pays for each attempt; a target that it does not
        pay for is passed over. Raises ProviderError with `attempts`: the first fault, or one that no other target
        can mend; InvalidInputError where no target can take the call; what the meter raises. Cancelling it closes
        the running call.
        """
        walk = _Walk(call, targets, self._clock() + seconds, meter or FreeMeter())
        self._budget.count_request()
        for target in targets:
            if not self._may_call(walk):
                break
            if target.entry.keys[0].find_fault(call, target.model):
                walk.skip(target)
                continue
            answer = await self._ask(walk, target)
            if answer is not None:
                return answer
        raise self._error(walk)

    def snapshot(self) -> dict[str, float]:
        """Open circuits, provider:model#key (keys from 1), and the seconds until they are tried again."""
        circuits = self._breakers.snapshot()
        return {f"{name}:{model}#{index + 1}": left for (name, model, index), left in circuits.items()}

    def _may_call(self, walk: _Walk) -> bool:
        return walk.calls < self._policy.most and self._clock() < walk.deadline

    async def _ask(self, walk: _Walk, target: Target) -> OpenAnswer | None:
        """Ask with each key that is not benched, until one is no matter of keys. None: go on to the next target."""
        before, walk.may_repeat = walk.calls, True
        for index in range(len(target.entry.keys)):
            permit = self._breakers.take((target.entry.name, target.model, index))
            fault: ProviderError | None = None
            while permit is not None:
                try:
                    outcome = await self._attempt(walk, target, permit)
                except ResourceExhaustedError as error:
                    walk.leave_unpaid(target, error)
                    return None
                if isinstance(outcome, OpenAnswer):
                    return outcome
                fault = outcome
                if fault.remedy == "give_up":
                    raise fault
                permit = await self._wait_again(walk, target, fault, permit.key)
            if fault is not None and not _is_of_key(fault):
                break
            if not self._may_call(walk):
                break
        if walk.calls == before:
            walk.skip(target)
        return None

    async def _wait_again(
        self, walk: _Walk, target: Target, fault: ProviderError, key: CircuitKey
    ) -> Permit | None:
        """A permit to repeat the call, after a pause; None where it is not to be repeated."""
        pause = self._pause_after(walk, target, fault, key)
        if pause is None:
            return None
        walk.may_repeat = False
        walk.repeats += 1
        await self._sleep(pause)
        return self._breakers.take(key) if self._may_call(walk) else None

    def _pause_after(
        self, walk: _Walk, target: Target, fault: ProviderError, key: CircuitKey
    ) -> float | None:
        """Seconds until the same target may be asked again, once, out of the budget; None where it may not."""
        later = [(*key[:2], index) for index in range(key[2] + 1, len(target.entry.keys))]
        # A key at its rate limit: another key is better than waiting, and waiting better than another model.
        is_limited = fault.kind == "rate_limit" and fault.remedy in ("again", "rotate")
        is_mended = any(self._breakers.wait_for(other) == 0 for other in later) and _is_of_key(fault)
        if is_mended or not (fault.remedy == "again" or is_limited):
            return None
        if not walk.may_repeat or not self._may_call(walk):
            return None
        pause = fault.retry_after + self._random() * self._policy.pause * 2.0**walk.repeats
        is_long = (
            fault.retry_after > self._policy.longest_retry_after or self._clock() + pause >= walk.deadline
        )
        if is_long or self._breakers.wait_for(key) > pause or not self._budget.take_retry():
            return None
        return pause

    async def _attempt(self, walk: _Walk, target: Target, permit: Permit) -> OpenAnswer | ProviderError:
        """One upstream call until its answer is committed, or its fault."""
        try:
            paid = await walk.meter.begin(walk.call, target)
        except BaseException:
            permit.release()
            raise
        walk.calls += 1
        one = _Try(target, permit, self._clock(), paid)
        limits = _clip(target.entry.limits, walk.deadline - one.began, is_whole=not paid.call.stream)
        source = None
        held = None
        outcome = CANCELLED
        try:
            source = paid.watch(target.entry.keys[permit.key[2]].chat(paid.call, target.model, limits))
            held = await _hold(source, walk.call, permit)
        except Exception as error:
            outcome = INTERNAL
            fault = self._note_fault(walk, one, error)
            outcome = fault.kind
            return fault
        finally:
            if held is None:
                permit.release()
                try:
                    await _close(source)
                finally:
                    # Also of who is cancelled while it closes.
                    paid.end(outcome)
        if held.is_whole:
            permit.succeed()
        walk.made.append(Attempt(target.label, "ok", self._clock() - one.began))
        events = self._follow(walk, one, held, source)
        await anext(events)
        return OpenAnswer(target, events, tuple(walk.made))

    async def _follow(
        self, walk: _Walk, one: _Try, held: _Held, source: AsyncGenerator[Event, None]
    ) -> AsyncGenerator[Event, None]:
        """The held events and those that follow, behind one that only starts this generator."""
        outcome = CANCELLED
        try:
            # Closing a generator that has not started runs none of it, and the source would stay open.
            yield Usage()
            for event in held.events:
                yield event
            if not held.is_whole:
                async for event in source:
                    held.note(event)
                    yield event
                held.check_end()
                one.permit.succeed()
            outcome = "ok"
        except Exception as error:
            outcome = INTERNAL
            walk.made.pop()
            fault = self._note_fault(walk, one, error)
            outcome = fault.kind
            raise fault from fault.__cause__
        finally:
            one.permit.release()
            try:
                await _close(source)
            finally:
                # Also of who is cancelled while it closes.
                one.paid.end(outcome)

    def _note_fault(self, walk: _Walk, one: _Try, error: Exception) -> ProviderError:
        """Count the fault for the target and the request. Raises what is no matter of providers."""
        fault = _as_fault(error, one.target)
        # After the longest rest we ask again ourselves: nobody is told to wait for longer.
        fault.retry_after = min(fault.retry_after, self._policy.breaker.longest_rest)
        self._judge(one.permit, fault, walk.deadline)
        seconds = self._clock() - one.began
        walk.made.append(Attempt(one.target.label, fault.kind, seconds, fault.status))
        walk.first = walk.first or fault
        fault.attempts = tuple(walk.made)
        return fault

    def _judge(self, permit: Permit, fault: ProviderError, deadline: float) -> None:
        """Tell the circuit what the fault says of the provider."""
        is_deadline = fault.kind == "timeout" and self._clock() >= deadline - _NEAR
        if fault.remedy in ("give_up", "larger") or fault.kind in _NOT_OF_PROVIDERS or is_deadline:
            # The client's request or deadline, or our own fault, which a request may cause: else one client could
            # close a provider to all others.
            permit.release()
        elif fault.kind == "rate_limit" and fault.retry_after > 0:
            permit.bench(fault.retry_after, fault.kind)
        elif fault.kind != "rate_limit" and fault.remedy == "rotate":
            seconds = max(self._policy.breaker.key_rest, fault.retry_after)
            name, model, index = permit.key
            # No text of the provider's: it may quote a part of the key.
            text = "%s:%s refuses key %d (%s, status %d); it rests for %.0f s"
            _log.warning(text, name, model, index + 1, fault.kind, fault.status, seconds)
            permit.bench(seconds, fault.kind)
        elif fault.retry_after > self._policy.longest_retry_after:
            permit.bench(fault.retry_after, fault.kind)
        else:
            permit.fail(fault.kind)

    def _error(self, walk: _Walk) -> TriremeError:
        """What the client is told after all: the first fault, and from when on a target may be asked again."""
        refusals = [(t, t.entry.keys[0].find_fault(walk.call, t.model)) for t in walk.targets]
        keys = [
            (target.entry.name, target.model, index)
            for target, refusal in refusals
            if not refusal
            for index in range(len(target.entry.keys))
        ]
        if not keys:
            if not refusals:
                return InvalidInputError("no provider may answer for this model; ask for another")
            text = refusals[0][1]
            # What a target cannot take begins with the field's name.
            return InvalidInputError(text, text.split(maxsplit=1)[0].rstrip(":,"))
        wait, soonest = min((self._breakers.wait_for(key), key) for key in keys)
        error = walk.first
        if error is None and walk.unpaid is not None:
            return walk.unpaid
        if error is not None:
            error.retry_after = wait or error.retry_after
        elif wait:
            reason = self._breakers.reason_of(soonest)
            text = f"every provider of this model rests after a fault ({reason}); try again in {math.ceil(wait)} s"
            kind = reason if reason in _TOLD else "overloaded"
            error = ProviderError(text, "again", kind, retry_after=wait)
        else:
            error = ProviderError("no provider was asked before the deadline", "again", "timeout")
        error.attempts = tuple(walk.made)
        return error


def _is_of_key(fault: ProviderError) -> bool:
    """Whether another key of the same provider may do better."""
    return fault.remedy == "rotate" or fault.kind == "rate_limit"


def _clip(limits: AttemptLimits, left: float, *, is_whole: bool) -> AttemptLimits:
    # The first byte of an answer that is not streamed comes when all of it is made.
    first = limits.total if is_whole else limits.first
    return AttemptLimits(min(first, left), min(limits.between, left), min(limits.total, left))


async def _hold(source: AsyncGenerator[Event, None], call: ChatCall, permit: Permit) -> _Held:
    """The events up to the first content, or all of them if the call is not streamed or there is no content."""
    held = _Held(call.choices)
    has_content = False
    async for event in source:
        held.note(event)
        held.events.append(event)
        if not has_content and is_content(event):
            has_content = True
            permit.answer()
            if call.stream:
                return held
    held.check_end()
    return held


async def _close(source: AsyncGenerator[Event, None] | None) -> None:
    """Cancel the upstream call. What fails in closing changes nothing of the answer."""
    if source is not None:
        with contextlib.suppress(Exception):
            await source.aclose()


def _as_fault(error: Exception, target: Target) -> ProviderError:
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, TriremeError):
        raise error
    # The frames without the message, which may quote a header or a body.
    frames = "".join(traceback.format_tb(error.__traceback__))
    _log.error("%s: %s inside of the provider\n%s", target.label, type(error).__name__, frames)
    fault = ProviderError(
        f"{target.label} failed inside of the gateway; its log says where", "next", INTERNAL
    )
    fault.__cause__ = error
    return fault
