"""A request from top to bottom: identify, admit, look up, answer, settle."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import replace

from trireme.access.keys import Key
from trireme.errors import DeadlineError, NotFoundError, TriremeError, UnavailableError
from trireme.gateway.chains import choose_collection
from trireme.gateway.degrade.chats import Eased, done, ease, hold
from trireme.gateway.degrade.wants import read_deadlines, read_priority
from trireme.gateway.exchange import Exchange, header_text, secret_of
from trireme.gateway.file import PublicRow, TenantRow
from trireme.gateway.ports import Ports
from trireme.gateway.request_spans import span_of
from trireme.gateway.traced_calls import TracedMeter
from trireme.providers.call_route import CallRoute, route_calls
from trireme.providers.chat import ChatCall
from trireme.providers.targets import Attempt, OpenAnswer, Target

# The id of the key that stands for all who have none.
PUBLIC = "public"


async def identify(exchange: Exchange, ports: Ports) -> Key:
    """The key that a request came with; without one the public's, where its endpoint is public.

    Raises UnauthenticatedError, UnavailableError.
    """
    secret, public = secret_of(exchange.headers), ports.file.public
    if not secret and exchange.endpoint in public.endpoints:
        exchange.key = public_key(public)
    else:
        exchange.key = await ports.keys.identify(secret)
    return exchange.key


async def admit(exchange: Exchange, ports: Ports) -> None:
    """Whether this request may run now. Raises UnavailableError where too many do, PermissionDeniedError for an
    endpoint that the key may not use, ResourceExhaustedError over its requests a minute.

    Budgets are asked later, before each attempt, when its price is known; before the first one the route's line is.
    """
    key, limit = exchange.caller, ports.file.limits.requests
    # This one counts already. Streams of who watches are limited by themselves.
    if ports.metrics.running - ports.live.count > limit:
        raise UnavailableError(f"the gateway runs {limit} requests, its limit; try again")
    exchange.deadlines = read_deadlines(exchange.headers, exchange.started)
    rule = ports.file.tenants.get(key.tenant, TenantRow())
    exchange.priority = read_priority(exchange.headers, key.priority, rule.priority or key.priority)
    # Here, for all that is asked of our own servers on its behalf, whoever asks it.
    route_calls(CallRoute(exchange.priority, stays_near=ports.file.local.keeps(rule.forbid_regions)))
    await ports.keys.admit(key, exchange.endpoint)


async def answer(call: ChatCall, exchange: Exchange, ports: Ports) -> OpenAnswer:
    """Open the answer of a chat for the exchange's key: a kept one, or the attempts', which the budgets pay for.

    Raises TriremeError before there is any content.
    """
    key = exchange.caller
    exchange.model, exchange.stream = call.model, call.stream
    chain = ports.chains.find(call.model, key, ports.served.known)
    if chain.forbidden:
        exchange.notes.append(("x-trireme-forbidden", header_text(chain.forbidden)))
    call = _stamp(call, key, ports)
    chain = ports.cascades.narrow(chain, call)
    exchange.is_cascade = chain.plan is not None

    eased = ease(call, chain, exchange, ports)

    async def ask() -> OpenAnswer:
        turn = await ports.degrade.enter(exchange, call.model, eased.loose.steps, eased.call.model)
        try:
            opened = await _open(eased, exchange, ports)
            opened = hold(opened, turn, done(eased, opened, ports.served.known or {}))
        except BaseException:
            turn.end(is_whole=False)
            raise
        # Nothing waits in between: no cancel can leave the turn open.
        await anext(opened.events)
        exchange.note_degraded(opened.degraded)
        return opened

    try:
        opened = await ports.answers.open(call, chain, exchange, ask, eased.loose)
    except TriremeError as error:
        exchange.attempts = getattr(error, "attempts", ())
        raise
    _note_served(exchange, call, opened.served_by, opened.attempts)
    if opened.step:
        exchange.notes.append(("x-trireme-step", opened.step))
    if opened.left:
        left = [f"{name}={reason}" for name, reason in opened.left]
        exchange.notes.append(("x-trireme-escalated", header_text(left)))
    return opened


async def _open(eased: Eased, exchange: Exchange, ports: Ports) -> OpenAnswer:
    """Ask, for as long as the client waits: of a stream until it begins, of any other answer until it ends.

    Raises TriremeError.
    """
    left = exchange.seconds_left()
    meter = TracedMeter(ports.spending.meter(exchange), ports.recorder)
    seconds = min(ports.file.attempts.seconds, left or math.inf)
    begins = exchange.deadlines.begin() if exchange.stream else None
    try:
        async with asyncio.timeout(None if begins is None else max(0.0, begins - time.monotonic())):
            return await ports.cascades.open(eased.call, eased.chain, seconds, meter)
    except TimeoutError:
        raise DeadlineError("the answer did not begin within the time that the request gives it") from None


async def count(call: ChatCall, exchange: Exchange, ports: Ports) -> int:
    """Input tokens of a chat, as the first target of its chain counts them; the next one where that cannot.

    Raises TriremeError: the first target's, if none can.
    """
    key = exchange.caller
    exchange.model = call.model
    chain = ports.chains.find(call.model, key, ports.served.known)
    call = _stamp(call, key, ports)
    first: TriremeError | None = None
    for target in chain.targets:
        try:
            tokens = await target.entry.keys[0].count_tokens(call, target.model)
        except TriremeError as error:
            first = first or error
        else:
            exchange.served_by = target.label
            return tokens
    raise first or NotFoundError(f"no provider of {call.model[:80]!r} counts tokens")


def settle(exchange: Exchange, ports: Ports, *, is_logged: bool = True) -> None:
    """Count and log what became of a request, once, however it ended. Each attempt settles its own hold."""
    seconds = time.monotonic() - exchange.started
    ports.metrics.end(exchange, seconds)
    ports.live.recorder.note(exchange, seconds)
    if is_logged:
        ports.log.request(exchange, seconds)
    trace = exchange.trace
    if ports.spans.is_on and trace is not None and trace.is_sampled:
        ports.spans.put(span_of(exchange, trace))


def public_key(row: PublicRow) -> Key:
    """What requests without a key may do."""
    return Key(
        id=PUBLIC,
        tenant=row.tenant,
        models=tuple(row.models),
        collections=tuple(row.collections),
        endpoints=tuple(row.endpoints),
        requests_per_minute=row.requests_per_minute,
    )


def _stamp(call: ChatCall, key: Key, ports: Ports) -> ChatCall:
    """The call as the key's: nothing of it that the client could have set by itself."""
    collection = choose_collection(key, call.collection, ports.default_collection)
    return replace(
        call,
        default_collection=collection,
        tenant=key.tenant,
        user=key.user,
        key_id=key.id,
        salt=ports.salt_of(key.tenant),
    )


def _note_served(exchange: Exchange, call: ChatCall, target: Target, attempts: Sequence[Attempt]) -> None:
    exchange.attempts = tuple(attempts)
    exchange.served_by = target.label
    if call.unknown and call.surface not in target.entry.keys[0].surfaces:
        exchange.notes.append(("x-trireme-dropped", header_text(call.unknown)))
