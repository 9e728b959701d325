"""A chat with less work in it: which steps mean something for it, and what is asked once they are taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from trireme.access.keys import Key
from trireme.errors import NotFoundError, PermissionDeniedError
from trireme.gateway.caching.loose import Loose
from trireme.gateway.cascades.climb import LOAD
from trireme.gateway.cascades.versions import StepVersions
from trireme.gateway.chains import Chain
from trireme.gateway.degrade.policy import Turn
from trireme.gateway.degrade.rows import EXTRACTIVE, RouteRow
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import LOCAL
from trireme.providers.chat import ChatCall, Event, Sources, Usage
from trireme.providers.models import ServedModel
from trireme.providers.targets import OpenAnswer, Target

if TYPE_CHECKING:
    from trireme.gateway.ports import Ports

FEWER, NO_RERANKING = "fewer_candidates", "no_reranking"
STALE, SMALLER = "stale", "smaller_model"


@dataclass(frozen=True, slots=True)
class Eased:
    """What is asked in place of a call, and what will do in place of its answer. is_other: another model is."""

    call: ChatCall
    chain: Chain
    loose: Loose = field(default_factory=Loose)
    is_other: bool = False


def ease(call: ChatCall, chain: Chain, exchange: Exchange, ports: Ports) -> Eased:
    """The call as it is asked now. Without a policy, or with little to do, it is the client's own."""
    row = ports.degrade.row_of(call.model)
    if row is None:
        return Eased(call, chain)
    smaller = _find_smaller(call, row, exchange.caller, ports) if row.smaller else None
    steps_of = partial(_steps_of, served=ports.served.known or {}, versions=ports.cascades.versions)
    can = {STALE, *steps_of(call, chain)}
    if row.smaller:
        # A cascade that names another model does not end at its own first step instead.
        can = can | {SMALLER} if smaller is not None else can - {SMALLER}
    chosen = ports.degrade.choose(exchange, call.model, can)
    asked, is_other = call, False
    if SMALLER in chosen and smaller is not None:
        (asked, chain), is_other = smaller, True
    means = {SMALLER, *steps_of(asked, chain)}
    steps = tuple(step for step in chosen if step in means)
    asked = _apply(asked, row, steps, is_cascade=chain.plan is not None)
    chain = _shorten(chain, [step for step in steps if step != SMALLER or not is_other])
    stale_seconds = row.stale_seconds if row.stale is not None else 0.0
    return Eased(asked, chain, Loose(steps, STALE in chosen, stale_seconds), is_other)


def done(eased: Eased, opened: OpenAnswer, served: Mapping[str, ServedModel]) -> tuple[str, ...]:
    """Of the steps that were taken for a call those that its answer has. Pure.

    A target that reads no passages may have answered in place of one that does, and a cascade may have been sure
    of the answer with which it would have ended.
    """
    steps, found = eased.loose.steps, set[str]()
    if eased.is_other:
        found.add(SMALLER)
    if eased.chain.plan is not None:
        found |= {FEWER, NO_RERANKING}
        if any(reason == LOAD for _, reason in opened.left):
            found |= {EXTRACTIVE, SMALLER}
    elif _answers(opened.served_by, served) is not None:
        found |= {FEWER, NO_RERANKING, EXTRACTIVE}
    return tuple(step for step in steps if step in found)


def depth_of(row: RouteRow | None, steps: tuple[str, ...]) -> int | None:
    """How many passages are reranked with these steps; None: as many as ever."""
    if NO_RERANKING in steps:
        return 0
    return row.candidates if row is not None and FEWER in steps else None


def hold(opened: OpenAnswer, turn: Turn, steps: tuple[str, ...]) -> OpenAnswer:
    """The answer, whose turn ends with it, and whose details name the steps, those that were taken for it."""
    return replace(opened, events=_follow(opened.events, turn, steps), degraded=steps)


async def _follow(
    events: AsyncGenerator[Event, None], turn: Turn, steps: tuple[str, ...]
) -> AsyncGenerator[Event, None]:
    """The events, behind one that only starts this generator."""
    is_whole = False
    try:
        # Closing a generator that has not started runs none of it, and the turn would never end.
        yield Usage()
        async for event in events:
            yield _tell(event, steps)
        is_whole = True
    finally:
        turn.end(is_whole=is_whole)
        await events.aclose()


def _tell(event: Event, steps: tuple[str, ...]) -> Event:
    if not steps or not isinstance(event, Sources):
        return event
    return replace(event, details={**event.details, "degraded": list(steps)})


def _steps_of(
    call: ChatCall, chain: Chain, served: Mapping[str, ServedModel], versions: StepVersions
) -> set[str]:
    """Steps that mean something for a call of this chain."""
    found: set[str] = set()
    for target in chain.targets:
        model = _answers(target, served)
        if model is None:
            continue
        if model.takes_rerank_depth:
            found |= {FEWER, NO_RERANKING}
        if call.answer_mode != EXTRACTIVE:
            found.add(EXTRACTIVE)
    return found if chain.plan is None else _steps_of_cascade(chain, found, versions)


def _steps_of_cascade(chain: Chain, found: set[str], versions: StepVersions) -> set[str]:
    """Its answers are judged by what calibrations know, and it can end before its last step."""
    kept = set()
    for step in found & {FEWER, NO_RERANKING}:
        judged = [one.plan.under([step]) for one in chain.steps]
        if all(plan is not None and versions.fits(plan) for plan in judged):
            kept.add(step)
    return kept | {step for step in (EXTRACTIVE, SMALLER) if _end_of(chain, step)}


def _end_of(chain: Chain, step: str) -> str:
    """Name of the step at which the cascade ends while this is taken; "" where nothing is left out so."""
    for one in chain.steps[:-1]:
        if step == SMALLER or one.plan.answer_mode == EXTRACTIVE:
            return one.plan.name
    return ""


def _shorten(chain: Chain, steps: Sequence[str]) -> Chain:
    """A cascade with the calibrations of these steps, and with its end. Any other chain as it is."""
    if chain.plan is None:
        return chain
    judged = tuple(replace(one, plan=one.plan.under(steps) or one.plan) for one in chain.steps)
    ends = [end for step in (SMALLER, EXTRACTIVE) if step in steps and (end := _end_of(chain, step))]
    return replace(chain, steps=judged, ends_at=ends[0] if ends else "")


def _answers(target: Target, served: Mapping[str, ServedModel]) -> ServedModel | None:
    """The rag model of our own that a target is; None for any other."""
    model = served.get(target.model) if target.entry.name == LOCAL else None
    return model if model is not None and model.ability == "answer" else None


def _apply(call: ChatCall, row: RouteRow, steps: tuple[str, ...], *, is_cascade: bool) -> ChatCall:
    # Each step of a cascade has a mode of its own.
    mode = EXTRACTIVE if EXTRACTIVE in steps and not is_cascade else None
    return replace(call, eased_mode=mode, rerank_depth=depth_of(row, steps))


def _find_smaller(call: ChatCall, row: RouteRow, key: Key, ports: Ports) -> tuple[ChatCall, Chain] | None:
    """The call of the smaller model, where somebody can take it. The key need not name it."""
    asked = replace(call, model=row.smaller)
    try:
        chain = ports.chains.find(row.smaller, replace(key, models=()), ports.served.known)
        chain = ports.cascades.narrow(chain, asked)
    except (NotFoundError, PermissionDeniedError):
        return None
    is_able = any(not one.entry.keys[0].find_fault(asked, one.model) for one in chain.targets)
    return (asked, chain) if is_able else None
