"""The meter of one request's attempts: hold the worst case before, count while it runs, settle once after it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from trireme.budget.caps import Cap
from trireme.budget.ledger import LedgerRow
from trireme.budget.port import Refusal
from trireme.budget.prices import MILLION, Price
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import GatewayFile, StopWhen
from trireme.gateway.metrics import GatewayMetrics
from trireme.gateway.spending.admission import Admits, Admitted, Cost
from trireme.gateway.spending.bounds import Bounds
from trireme.gateway.spending.counting import AnswerCount
from trireme.gateway.spending.early_stops import stop_of, watch_early
from trireme.gateway.spending.estimates import asks_hour_cache
from trireme.gateway.spending.price_book import PriceBook
from trireme.gateway.spending.refusals import check_price, refusal_error
from trireme.gateway.spending.rows import new_attempt_id, open_row
from trireme.observe import metrics as names
from trireme.providers.chat import ChatCall, Event, Finished, is_content
from trireme.providers.targets import Target

# A smaller claim may be refused too: others spend meanwhile.
SHRINKS = 3
SHRUNK_HEADER = "x-trireme-max-tokens"
# In bodies of clients: OpenAI's chats, and all others.
_NAMES = ("max_completion_tokens", "max_tokens")


@dataclass(frozen=True, slots=True)
class MeterParts:
    """What all meters share."""

    file: GatewayFile
    admission: Admits
    prices: PriceBook
    bounds: Bounds
    metrics: GatewayMetrics
    release: str = ""


class RequestMeter:
    """See Meter. For the attempts of one chat of `exchange`."""

    def __init__(self, parts: MeterParts, exchange: Exchange) -> None:
        self._parts = parts
        self._exchange = exchange
        self._shrunk: tuple[str, str] | None = None
        self._last: Admitted | None = None
        self.step = ""

    async def begin(self, call: ChatCall, target: Target) -> ChatAttempt:
        """See Meter. The error is a BudgetExceededError that names the budget and what is left of it."""
        parts, key = self._parts, self._exchange.caller
        caps = parts.admission.caps(key.tenant, key.user)
        model = parts.file.models.get(call.model)
        stop = stop_of(call, model.stop_when if model else None)
        bound = await parts.bounds.chat(call, target, is_capped=bool(caps))
        price = self._price(call, target, bound.input)
        check_price(target.label, price, caps)
        if bound.must_send and caps:
            # Where no budget holds nobody's answer is cut short.
            call = with_max_tokens(call, parts.file.budgets.most_output)
        elif caps and call.max_tokens is not None and None not in map(call.body.get, _NAMES):
            # The provider may read the other one, which was not held for.
            call = with_max_tokens(call, call.max_tokens)
        cost = Cost(bound.input, bound.output, price)
        attempt = new_attempt_id()
        row = open_row(self._exchange, attempt, call.model, target.label, price, release=parts.release)
        row = replace(row, step=self.step)
        if self._last is not None:
            # What the attempt before does not use is free first: one budget for one attempt pays for all of them.
            await self._last.settled()
        admitted, sent, cost = await self._admit(row, caps, call, cost)
        self._last = admitted
        return ChatAttempt(admitted, sent, cost, stop, self._exchange.costs)

    async def _admit(
        self, row: LedgerRow, caps: tuple[Cap, ...], call: ChatCall, cost: Cost
    ) -> tuple[Admitted, ChatCall, Cost]:
        """The attempt with the call as it is sent, made smaller where the rules allow it and a budget needs it."""
        smaller: int | None = None
        shrinks_left = SHRINKS
        while True:
            held = await self._parts.admission.hold(row, caps, cost)
            if isinstance(held, Admitted):
                self._say_shrunk(smaller)
                return held, call, cost
            smaller = self._smaller(call, cost, held) if shrinks_left else None
            if smaller is None:
                self._parts.metrics.add(names.REFUSED, held.level, held.window, held.unit)
                raise refusal_error(held, cost.tokens, cost.nanos, time.time())
            shrinks_left -= 1
            call, cost = with_max_tokens(call, smaller), replace(cost, output=smaller * call.choices)

    def _price(self, call: ChatCall, target: Target, input_tokens: int) -> Price | None:
        name = target.entry.name
        return self._parts.prices.price_of(
            self._parts.file.providers[name].kind,
            name,
            target.model,
            int(time.time() * 1000),
            input_tokens=input_tokens,
            hour_cache=asks_hour_cache(call),
        )

    def _smaller(self, call: ChatCall, cost: Cost, refusal: Refusal) -> int | None:
        """max_tokens that fits into what is left; None where it may not be lowered so far."""
        rules = self._parts.file.budgets
        if not rules.shrink:
            return None
        outputs = []
        if refusal.left_tokens is not None:
            outputs.append(refusal.left_tokens - cost.input)
        if refusal.left_nanos is not None and cost.price is not None:
            outputs.append(_affordable(cost.price, cost.input, refusal.left_nanos))
        smaller = min([*outputs, cost.output - 1]) // call.choices
        return smaller if smaller >= max(rules.least_tokens, _thinking_tokens(call) + 1) else None

    def _say_shrunk(self, tokens: int | None) -> None:
        """The answer's header speaks of the attempt that is made, not of those before."""
        notes = self._exchange.notes
        if self._shrunk in notes:
            notes.remove(self._shrunk)
        self._shrunk = None
        if tokens is not None:
            self._shrunk = (SHRUNK_HEADER, str(tokens))
            notes.append(self._shrunk)
            self._parts.metrics.add(names.SHRUNK)


class ChatAttempt:
    """See AttemptMeter."""

    def __init__(
        self, admitted: Admitted, call: ChatCall, cost: Cost, stop: StopWhen | None, costs: list[int | None]
    ) -> None:
        """stop: when the answer is sufficient; such a call is streamed, whatever its client asked for. costs: takes
        what the attempt cost, in nano-dollars, when it has ended; None where no price is known."""
        self.call = call if stop is None else replace(call, stream=True)
        self._admitted = admitted
        self._count = AnswerCount(cost.input, cost.output)
        self._stop = stop
        self._costs = costs
        self._is_whole = False
        self._is_stopped = False
        admitted.keep(self._count.so_far)

    async def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """See AttemptMeter."""
        coming = self._counted(events)
        if self._stop is not None:
            coming = watch_early(coming, self.call, self._stop)
        async with aclosing(coming):
            async for event in coming:
                yield event
        self._is_stopped = not self._is_whole

    async def _counted(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """The same events up to the last one that was paid for."""
        async with aclosing(events) as coming:
            async for event in coming:
                self._count.note(event)
                if self._is_beyond(event):
                    break
                if is_content(event):
                    self._admitted.note_content()
                yield event
            else:
                self._is_whole = True
                return
        # Closed before the client sees an end: nobody pays for what comes after it.
        for choice in range(self.call.choices):
            if choice not in self._count.finished:
                yield Finished("length", choice)

    def end(self, outcome: str) -> None:
        """See AttemptMeter."""
        if outcome == "ok" and self._is_stopped:
            outcome = "stopped"
        elif outcome == "cancelled":
            outcome = "client_gone"
        self._costs.append(self._admitted.end(outcome, self._count.used(outcome)))

    def _is_beyond(self, event: Event) -> bool:
        """Whether the event is more than was paid for: each part that is not empty is one token or more."""
        most = self.call.max_tokens
        return most is not None and is_content(event) and self._count.parts > most * self.call.choices


def with_max_tokens(call: ChatCall, tokens: int) -> ChatCall:
    """The call with another max_tokens, its own body included, which a provider of the surface sends on."""
    if call.surface == "responses":
        # Always translated.
        return replace(call, max_tokens=tokens)
    # Both names of OpenAI's are in use, and servers differ in which one they read.
    named = [name for name in _NAMES if name in call.body] or [_NAMES[call.surface != "openai"]]
    return replace(call, max_tokens=tokens, body={**call.body, **dict.fromkeys(named, tokens)})


def _affordable(price: Price, input_tokens: int, nanos: int) -> int:
    """The most output tokens whose worst cost, after that of the input, is not above `nanos`."""
    if not price.output:
        return 0 if price.worst(input_tokens, 0) > nanos else 1 << 53
    dearest = max(price.input, price.cached, price.cache_write)
    return max(0, (nanos * MILLION - input_tokens * dearest) // price.output)


def _thinking_tokens(call: ChatCall) -> int:
    """Of Anthropic's thinking, which max_tokens must be above; 0 without."""
    thinking: Any = call.body.get("thinking") if call.surface == "anthropic" else None
    tokens = thinking.get("budget_tokens") if isinstance(thinking, dict) else 0
    return tokens if isinstance(tokens, int) else 0
