"""From step to step: ask the cheap one, judge its answer before anybody sees it, keep it or ask the next one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from trireme.errors import InvalidInputError, PermissionDeniedError, ResourceExhaustedError, TriremeError
from trireme.gateway.cascades.heard import NO_EVIDENCE, UNSURE, Heard, shown
from trireme.gateway.cascades.passages import Prompt, with_prompt
from trireme.gateway.cascades.plan import CascadePlan, StepPlan, limit_of
from trireme.gateway.cascades.step_meter import ESCALATED, StepMeter
from trireme.gateway.cascades.versions import StepVersions
from trireme.gateway.chains import Chain, Step
from trireme.gateway.file import StopWhen
from trireme.gateway.spending.early_stops import stop_of, watch_early
from trireme.providers.attempts import Attempts
from trireme.providers.chat import ChatCall, Event, Findings, Usage
from trireme.providers.meter import Meter
from trireme.providers.port import ProviderError
from trireme.providers.targets import Attempt, OpenAnswer, Target

# What became of a step, beside the reasons of Heard and StepVersions and the kinds of ProviderError: its answer was
# shown; no target of it can take the call; the tenant's rules forbid it; a budget does not pay for it.
KEPT, UNABLE, FORBIDDEN, BUDGET = "kept", "unable", "forbidden", "budget"
# Under load: shown though it was not sure enough, and not asked therefore.
KEPT_UNSURE, LOAD = "kept_unsure", "load"
# What is shown for all that where the cascade ends at the step.
_OF_CHANCE = frozenset({UNSURE, NO_EVIDENCE})
# Kinds of ProviderError.
TIMEOUT, TOO_LONG = "timeout", "too_long"


class StepTally(Protocol):
    """Counts what became of steps. trireme.gateway.metrics is one."""

    def count_step(self, model: str, step: str, outcome: str, seconds: float | None = None) -> None:
        """outcome: kept, or why the next one was asked. seconds: until that was known, of a step that was asked."""
        ...


@dataclass(slots=True)
class _Climb:
    """One request on its way up. left: steps that did not answer, with the reasons. best: of the answers that were
    not sure enough the likeliest, with its chance. prompt: of the last rag model that found something.
    lacks_prompt: one was asked that may have found something, and failed before it said so. ends_at: see Chain."""

    call: ChatCall
    plan: CascadePlan
    meter: Meter
    deadline: float
    left: list[tuple[str, str]]
    ends_at: str = ""
    made: list[Attempt] = field(default_factory=list)
    best: OpenAnswer | None = None
    chance: float = -1.0
    prompt: Prompt = ()
    lacks_prompt: bool = False


@dataclass(slots=True)
class _Trial:
    """One step that is being asked. began: when, on the clock. made: its attempts. chance: that its answer is
    right, once it is judged. is_let: it is shown though that is too little."""

    plan: StepPlan
    heard: Heard
    meter: StepMeter
    began: float
    opened: OpenAnswer | None = None
    made: tuple[Attempt, ...] = ()
    chance: float = 0.0
    is_let: bool = False


class Cascades:
    """For one event loop. `narrow` a chain before its caches are asked; `open` asks the steps that are left."""

    def __init__(
        self,
        attempts: Attempts,
        versions: StepVersions,
        tally: StepTally,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._attempts = attempts
        self._tally = tally
        self._clock = clock
        self.versions = versions

    def narrow(self, chain: Chain, call: ChatCall) -> Chain:
        """The chain without the steps and targets that cannot take the call now; the last step always stays.

        A chain without steps is given back as it is. Raises PermissionDeniedError where nobody is left to answer.
        """
        if chain.plan is None:
            return chain
        *small, last = chain.steps
        steps, left = [], list(chain.left)
        for step in small:
            able = self._able(chain.plan, step, call)
            reason = self._obstacle(chain.plan, step, able, call)
            if reason:
                left.append((step.plan.name, reason))
            else:
                steps.append(Step(step.plan, able))
        # Where none of them can, the attempts say why.
        steps.append(Step(last.plan, self._able(chain.plan, last, call) or last.targets))
        targets = tuple(target for step in steps for target in step.targets)
        if not targets:
            raise _forbidden(chain.plan, last.plan, call)
        return replace(chain, targets=targets, steps=tuple(steps), left=tuple(left))

    async def open(self, call: ChatCall, chain: Chain, seconds: float, meter: Meter) -> OpenAnswer:
        """The answer of the first step that is sure enough, else the last one's. chain: of `narrow`.

        seconds: for all steps and the answer together. meter: pays for every attempt of every step. Raises what the
        last step raises, with the attempts of all steps in `attempts`. Cancelling it closes the running call.
        """
        if chain.plan is None:
            return await self._attempts.open(call, chain.targets, seconds, meter)
        climb = _Climb(call, chain.plan, meter, self._clock() + seconds, list(chain.left), chain.ends_at)
        for name, reason in chain.left:
            self._tally.count_step(chain.plan.model, name, reason)
        *small, last = chain.steps
        for step in small:
            answer = await self._try(climb, step)
            if answer is not None:
                return answer
        return await self._ask_last(climb, last)

    def _able(self, plan: CascadePlan, step: Step, call: ChatCall) -> tuple[Target, ...]:
        asked = call_of(call, plan, step.plan)
        return tuple(one for one in step.targets if not one.entry.keys[0].find_fault(asked, one.model))

    def _obstacle(self, plan: CascadePlan, step: Step, able: Sequence[Target], call: ChatCall) -> str:
        """Why the step is not asked; "" if it is."""
        if not step.targets:
            return FORBIDDEN
        # A calibration is of single answers, without the prompt before them, and of the mode that it was fitted in.
        is_other = call.answer_mode not in (None, step.plan.answer_mode) or bool(call.body.get("echo"))
        if call.choices != 1 or is_other or not able:
            return UNABLE
        return self.versions.reason(plan.model, step.plan)

    async def _try(self, climb: _Climb, step: Step) -> OpenAnswer | None:
        """The step's answer if it is sure enough; None: go on to the next step."""
        plan = step.plan
        one = _Trial(
            plan, Heard(limit_of(climb.plan, plan)), StepMeter(climb.meter, plan.name), self._clock()
        )
        try:
            reason = await self._hear(climb, step, one)
            if reason == TIMEOUT:
                await _close(one.opened)
        except BaseException:
            await _close(one.opened)
            one.meter.decide(is_kept=False)
            raise
        one.meter.decide(is_kept=not reason, cancelled=TIMEOUT)
        climb.prompt = one.heard.prompt or climb.prompt
        climb.lacks_prompt = climb.lacks_prompt or (plan.reads_passages and not one.heard.has_evidence)
        outcome = KEPT_UNSURE if one.is_let else KEPT
        self._tally.count_step(climb.plan.model, plan.name, reason or outcome, self._clock() - one.began)
        if one.opened is not None and not reason:
            answer = await self._give(climb, plan, one.opened, one.heard)
            return self._end_early(climb, plan, answer) if one.is_let else answer
        if one.opened is not None and reason == UNSURE and one.heard.is_whole and one.chance > climb.chance:
            climb.best = self._replay_of(climb, plan, one.opened, one.heard)
            climb.chance = one.chance
        await _close(one.opened)
        climb.left.append((plan.name, reason))
        climb.made += _escalated(one.made)
        return None

    async def _hear(self, climb: _Climb, step: Step, one: _Trial) -> str:
        """Ask the step and read until it is judged; why its answer is not kept, "" if it is."""
        first, seconds = one.heard.first, self._seconds_left(climb, one.plan)
        # What streams on behind the decision has the request's time, not the step's.
        streams_on = first is not None and climb.call.stream
        whole = climb.deadline - self._clock() if streams_on else seconds
        try:
            async with asyncio.timeout(seconds if streams_on else None):
                one.opened = await self._attempts.open(
                    self._asked(climb, step), step.targets, whole, one.meter
                )
                one.made = one.opened.attempts
                await _read(one.opened.events, one.heard, first)
                reason, one.chance = self._judge(climb, one.plan, one.heard)
                one.is_let = reason in _OF_CHANCE and climb.ends_at == one.plan.name
                reason = "" if one.is_let else reason
                if not reason and not climb.call.stream:
                    # Nobody has seen anything yet: what breaks off now costs nothing but the next step.
                    await _read(one.opened.events, one.heard, None)
                    reason = one.heard.find_fault()
        except TimeoutError:
            reason = TIMEOUT
            one.made = one.made or (Attempt(step.targets[0].label, TIMEOUT, self._clock() - one.began),)
        except TriremeError as error:
            reason, one.made = _reason_of(error), getattr(error, "attempts", one.made)
        return reason

    def _judge(self, climb: _Climb, plan: StepPlan, heard: Heard) -> tuple[str, float]:
        """Why the answer is not kept, "" if it is, and its chance."""
        if plan.calibration is None:
            return "", 1.0
        # It may have been loaded anew while it answered.
        reason = self.versions.answered(climb.plan.model, plan, heard.model)
        return (reason, 0.0) if reason else heard.judge(plan.calibration)

    def _end_early(self, climb: _Climb, plan: StepPlan, answer: OpenAnswer) -> OpenAnswer:
        """The answer of the step at which the cascade ends under load; the later ones are said not to be asked."""
        names = [step.name for step in climb.plan.steps]
        later = names[names.index(plan.name) + 1 :]
        # Those that cannot take the call at all are in it already.
        later = [name for name in later if name not in dict(answer.left)]
        for name in later:
            self._tally.count_step(climb.plan.model, name, LOAD)
        return replace(answer, left=(*answer.left, *((name, LOAD) for name in later)), may_keep=False)

    async def _give(self, climb: _Climb, plan: StepPlan, opened: OpenAnswer, heard: Heard) -> OpenAnswer:
        """The answer for the client: what was held, then what still comes."""
        if heard.is_whole:
            return self._replay_of(climb, plan, opened, heard)
        events = _show(climb, heard.events, opened.events)
        if (stop := _stop_behind(climb, plan)) is not None:
            events = watch_early(events, climb.call, stop)
        # Through both: see _show.
        await anext(events)
        return self._answer(climb, plan, opened, events)

    def _replay_of(self, climb: _Climb, plan: StepPlan, opened: OpenAnswer, heard: Heard) -> OpenAnswer:
        events = _replay(climb.call, heard.events)
        if (stop := _stop_behind(climb, plan)) is not None:
            events = watch_early(events, climb.call, stop, reads_on=True)
        return self._answer(climb, plan, opened, events)

    def _answer(
        self, climb: _Climb, plan: StepPlan, opened: OpenAnswer, events: AsyncGenerator[Event, None]
    ) -> OpenAnswer:
        made = (*climb.made, *opened.attempts)
        return OpenAnswer(opened.served_by, events, made, step=plan.name, left=tuple(climb.left))

    async def _ask_last(self, climb: _Climb, step: Step) -> OpenAnswer:
        plan = step.plan
        if not step.targets:
            error = _forbidden(climb.plan, plan, climb.call)
            vars(error)["attempts"] = tuple(climb.made)
            raise error
        climb.meter.step = plan.name
        began = self._clock()
        try:
            opened = await self._open_last(climb, step)
        except TriremeError as error:
            reason = _reason_of(error)
            self._tally.count_step(climb.plan.model, plan.name, reason, self._clock() - began)
            best = climb.best if climb.plan.on_refusal == "keep" else None
            if best is not None and isinstance(error, ResourceExhaustedError):
                # Not for others: it was not sure enough.
                left = (*(pair for pair in climb.left if pair[0] != best.step), (plan.name, reason))
                return replace(best, attempts=tuple(climb.made), left=left, may_keep=False)
            vars(error)["attempts"] = (*climb.made, *getattr(error, "attempts", ()))
            raise
        self._tally.count_step(climb.plan.model, plan.name, KEPT, self._clock() - began)
        events = _show(climb, (), opened.events)
        await anext(events)
        answer = self._answer(climb, plan, opened, events)
        # Not for others either: one without the passages that an equal call's would have had.
        is_bare = plan.passages and climb.lacks_prompt and not climb.prompt
        return replace(answer, may_keep=opened.served_by == step.targets[0] and not is_bare)

    async def _open_last(self, climb: _Climb, step: Step) -> OpenAnswer:
        """With what was found; where that is too long for every target, with the question alone."""
        asked, alone = self._asked(climb, step), call_of(climb.call, climb.plan, step.plan)
        seconds = self._seconds_left(climb, step.plan)
        try:
            return await self._attempts.open(asked, step.targets, seconds, climb.meter)
        except ProviderError as error:
            if error.kind != TOO_LONG or asked == alone:
                raise
            climb.made += error.attempts
        seconds = self._seconds_left(climb, step.plan)
        return await self._attempts.open(alone, step.targets, seconds, climb.meter)

    def _asked(self, climb: _Climb, step: Step) -> ChatCall:
        """The call as the step is asked, with what an earlier one has found where all of its targets take that."""
        asked = call_of(climb.call, climb.plan, step.plan)
        if not step.plan.passages or not climb.prompt:
            return asked
        found = with_prompt(asked, climb.prompt)
        takes_it = all(not one.entry.keys[0].find_fault(found, one.model) for one in step.targets)
        return found if takes_it else asked

    def _seconds_left(self, climb: _Climb, plan: StepPlan) -> float:
        left = climb.deadline - self._clock()
        return left if plan.seconds is None else min(left, plan.seconds)


def call_of(call: ChatCall, cascade: CascadePlan, step: StepPlan) -> ChatCall:
    """The call as the step is asked: in its mode where the client names none, with the log-probabilities and the
    findings that its calibration and later steps need. Pure."""
    if call.answer_mode is None:
        call = replace(call, answer_mode=step.answer_mode)
    if step.calibration is not None:
        call = replace(call, asks_evidence=True, asks_prompt=cascade.asks_prompt)
    if limit_of(cascade, step) is not None:
        call = replace(call, stream=True)
    if step.calibration is not None and step.reads_passages:
        # Judged as it was labelled, and stopped where it is shown: a stop would take citations and scores away.
        call = replace(call, stop_when={})
    if step.alternatives is None or (call.logprobs or 0) > step.alternatives:
        return call
    asked = step.alternatives
    # A provider of the client's own format is sent the client's body.
    if call.surface == "openai":
        call = replace(call, body={**call.body, "logprobs": True, "top_logprobs": asked})
    elif call.surface == "completions":
        call = replace(call, body={**call.body, "logprobs": asked})
    return replace(call, logprobs=asked)


def _stop_behind(climb: _Climb, plan: StepPlan) -> StopWhen | None:
    """What ends the answer of a rag step once it is judged (see call_of); None: nothing does."""
    is_judged = plan.calibration is not None and plan.reads_passages
    return stop_of(climb.call, climb.plan.stop_when) if is_judged else None


async def _read(events: AsyncGenerator[Event, None], heard: Heard, limit: int | None) -> None:
    """Read on until so many tokens are there, or all of them. Raises ProviderError where it breaks off."""
    if heard.is_whole:
        return
    async for event in events:
        heard.note(event)
        # The text of what was found so far comes behind it.
        if limit is not None and heard.tokens >= limit and not isinstance(event, Findings):
            return
    heard.is_whole = True


async def _replay(call: ChatCall, events: Sequence[Event]) -> AsyncGenerator[Event, None]:
    for event in events:
        if (seen := shown(event, call)) is not None:
            yield seen


async def _show(
    climb: _Climb, held: Sequence[Event], coming: AsyncGenerator[Event, None]
) -> AsyncGenerator[Event, None]:
    """What was held and what comes, behind an event that only starts this generator."""
    try:
        # Closing a generator that has not started runs none of it, and the call would stay open.
        yield Usage()
        async for event in _replay(climb.call, held):
            yield event
        async for event in coming:
            if (seen := shown(event, climb.call)) is not None:
                yield seen
    except ProviderError as error:
        error.attempts = (*climb.made, *error.attempts)
        raise
    finally:
        await coming.aclose()


async def _close(opened: OpenAnswer | None) -> None:
    """Cancel what still runs. What fails in closing changes nothing."""
    if opened is not None:
        with suppress(Exception):
            await opened.events.aclose()


def _escalated(made: Sequence[Attempt]) -> list[Attempt]:
    """The step's attempts; one that gave an answer gave none that was kept."""
    return [replace(one, outcome=ESCALATED) if one.outcome == "ok" else one for one in made]


def _reason_of(error: TriremeError) -> str:
    """Why a step did not answer, in a word of which there are few."""
    if isinstance(error, ProviderError):
        return error.kind
    if isinstance(error, ResourceExhaustedError):
        return BUDGET
    return UNABLE if isinstance(error, InvalidInputError) else error.code.lower()


def _forbidden(plan: CascadePlan, last: StepPlan, call: ChatCall) -> PermissionDeniedError:
    return PermissionDeniedError(
        f"tenant {call.tenant!r} forbids every provider of step {last.name!r} of {plan.model!r}, and no step before"
        " it was sure enough"
    )
