"""A chat with less work in it: which steps mean something for it, and what is asked once they are taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from trireme.access.keys import Key
from trireme.errors import NotFoundError, PermissionDeniedError
from trireme.gateway.caching.loose import Loose
from trireme.gateway.chains import Chain
from trireme.gateway.degrade.policy import Turn
from trireme.gateway.degrade.rows import RouteRow
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import LOCAL
from trireme.providers.chat import ChatCall, Event, Sources, Usage
from trireme.providers.models import ServedModel
from trireme.providers.targets import OpenAnswer

if TYPE_CHECKING:
    from trireme.gateway.ports import Ports

FEWER, NO_RERANKING, EXTRACTIVE = "fewer_candidates", "no_reranking", "extractive"
STALE, SMALLER = "stale", "smaller_model"


@dataclass(frozen=True, slots=True)
class Eased:
    """What is asked in place of a call, and what will do in place of its answer."""

    call: ChatCall
    chain: Chain
    loose: Loose = field(default_factory=Loose)


def ease(call: ChatCall, chain: Chain, exchange: Exchange, ports: Ports) -> Eased:
    """The call as it is asked now. Without a policy, or with little to do, it is the client's own."""
    row = ports.degrade.row_of(call.model)
    if row is None:
        return Eased(call, chain)
    known = ports.served.known or {}
    smaller = _find_smaller(call, row, exchange.caller, ports) if row.smaller else None
    can = {STALE, *_steps_of(call, chain, known), *([SMALLER] if smaller is not None else [])}
    chosen = ports.degrade.choose(exchange, call.model, can)
    asked = call
    if SMALLER in chosen and smaller is not None:
        asked, chain = smaller
    means = {SMALLER, *_steps_of(asked, chain, known)}
    steps = tuple(step for step in chosen if step in means)
    asked = _apply(asked, row, steps)
    stale_seconds = row.stale_seconds if row.stale is not None else 0.0
    return Eased(asked, chain, Loose(steps, STALE in chosen, stale_seconds))


def depth_of(row: RouteRow | None, steps: tuple[str, ...]) -> int | None:
    """How many passages are reranked with these steps; None: as many as ever."""
    if NO_RERANKING in steps:
        return 0
    return row.candidates if row is not None and FEWER in steps else None


def hold(opened: OpenAnswer, turn: Turn, steps: tuple[str, ...]) -> OpenAnswer:
    """The answer, whose turn ends with it, and whose details name the steps."""
    return replace(opened, events=_follow(opened.events, turn, steps))


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


def _steps_of(call: ChatCall, chain: Chain, known: Mapping[str, ServedModel]) -> set[str]:
    """Steps that mean something for a call of this chain: those of answers from passages, of no cascade."""
    if chain.plan is not None:
        return set()
    found: set[str] = set()
    for target in chain.targets:
        model = known.get(target.model) if target.entry.name == LOCAL else None
        if model is None or model.ability != "answer":
            continue
        if model.takes_rerank_depth:
            found |= {FEWER, NO_RERANKING}
        if call.answer_mode != EXTRACTIVE:
            found.add(EXTRACTIVE)
    return found


def _apply(call: ChatCall, row: RouteRow, steps: tuple[str, ...]) -> ChatCall:
    mode = EXTRACTIVE if EXTRACTIVE in steps else call.answer_mode
    return replace(call, answer_mode=mode, rerank_depth=depth_of(row, steps))


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
