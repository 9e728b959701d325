"""The handler of /v1/completions, whose requests may have several prompts: each is answered by itself, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from trireme.gateway.bodies import decode_object, read_body
from trireme.gateway.chat_routes import answer_whole, new_envelope
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Receive
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply, StreamReply
from trireme.gateway.steps import answer
from trireme.gateway.wire import openai_completions as wire
from trireme.providers.chat import ChatCall, Event

# Of the prompts of one request that are not streamed.
SIDE_BY_SIDE = 8


async def post_completions(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/completions."""
    limits = ports.file.limits
    body = decode_object(await read_body(receive, limits), limits)
    calls = wire.read_completions(body)
    if calls[0].stream:
        opened = _answer_in_turn(calls, exchange, ports)
        try:
            first = await anext(opened)
        except BaseException:
            await opened.aclose()
            raise
        return StreamReply(first, opened, wire.CompletionWriter(calls, new_envelope(calls[0], first)))
    answers = await _answer_together(calls, exchange, ports)
    return JsonReply(wire.write_whole(calls, new_envelope(calls[0], answers[0][0]), answers))


async def _answer_together(calls: Sequence[ChatCall], exchange: Exchange, ports: Ports) -> list[list[Event]]:
    """All answers, or the first error, which ends the others."""
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def ask(call: ChatCall) -> list[Event]:
        async with places:
            return await answer_whole(await answer(call, exchange, ports), exchange)

    if len(calls) == 1:
        return [await ask(calls[0])]
    tasks = [asyncio.create_task(ask(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answer_in_turn(
    calls: Sequence[ChatCall], exchange: Exchange, ports: Ports
) -> AsyncGenerator[Event, None]:
    """The events of all answers, one after the other; each begins with its Started."""
    for call in calls:
        opened = await answer(call, exchange, ports)
        async with aclosing(opened.events) as events:
            async for event in events:
                yield event
