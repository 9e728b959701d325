"""Handlers of the chat surfaces: read a body, open an answer, write it as a whole or as a stream."""

from __future__ import annotations

import secrets
import time
from contextlib import aclosing

from trireme.gateway.bodies import decode_object, read_body
from trireme.gateway.exchange import Exchange
from trireme.gateway.gate import Handler, Receive
from trireme.gateway.ports import Ports
from trireme.gateway.replies import JsonReply, Reply, StreamReply, note_event
from trireme.gateway.steps import answer, count
from trireme.gateway.surface import ChatSurface, Envelope
from trireme.gateway.tagged import find_known, tag_headers
from trireme.gateway.wire import anthropic
from trireme.providers.chat import ChatCall, Event, Started
from trireme.providers.targets import OpenAnswer


def chat_handler(surface: ChatSurface) -> Handler:
    """The handler of one wire format of chats."""

    async def handle(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
        limits = ports.file.limits
        body = decode_object(await read_body(receive, limits), limits)
        call = surface.read(body, exchange.headers)
        opened = await answer(call, exchange, ports)
        if call.stream:
            return await _stream(surface, call, opened)
        if (known := find_known(exchange, ports.file.cache.http_seconds)) is not None:
            await opened.events.aclose()
            return known
        events = await answer_whole(opened, exchange)
        headers = tag_headers(exchange, ports.file.cache.http_seconds)
        return JsonReply(surface.whole(call, new_envelope(call, events[0]), events), headers=headers)

    return handle


async def count_tokens(exchange: Exchange, ports: Ports, receive: Receive) -> Reply:
    """POST /v1/messages/count_tokens: counted by the first target of the model's chain that can."""
    limits = ports.file.limits
    body = decode_object(await read_body(receive, limits), limits)
    call = anthropic.read_count(body, exchange.headers)
    return JsonReply(anthropic.whole_count(await count(call, exchange, ports)))


async def _stream(surface: ChatSurface, call: ChatCall, opened: OpenAnswer) -> Reply:
    try:
        first = await anext(opened.events)
    except BaseException:
        await opened.events.aclose()
        raise
    return StreamReply(first, opened.events, surface.stream(call, new_envelope(call, first)))


async def answer_whole(opened: OpenAnswer, exchange: Exchange) -> list[Event]:
    """All events of an answer. Raises what breaks it off; closes it in any case."""
    events: list[Event] = []
    async with aclosing(opened.events) as coming:
        async for event in coming:
            note_event(exchange, event)
            events.append(event)
    return events


def new_envelope(call: ChatCall, first: Event) -> Envelope:
    """What an answer says of itself; its model is the one that served."""
    model = first.model if isinstance(first, Started) else call.model
    return Envelope(secrets.token_hex(12), int(time.time()), model)
