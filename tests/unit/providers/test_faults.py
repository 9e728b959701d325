"""Every fault of a provider, at every place, over real HTTP, with a healthy target behind: what the client sees.

docs/faults-of-providers.md is what is measured here; WRITE_DOCS=1 in the environment writes it anew.
"""

import asyncio
import contextlib
import json
import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.upstreams import FAULTS, PLACES, serving
from trireme.errors import TriremeError
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.chat import (
    ChatCall,
    Finished,
    Message,
    Text,
    TextDelta,
    Tool,
    ToolDelta,
    ToolStart,
    is_content,
)
from trireme.providers.port import AttemptLimits, ProviderError
from trireme.providers.registry import ProviderOptions, open_provider
from trireme.providers.targets import Entry, Target

PAGE = Path(__file__).parents[3] / "docs" / "faults-of-providers.md"
OTHER = {"openai": "anthropic", "anthropic": "openai"}
WIRES = list(OTHER)
STATUSES = (400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504, 529)
COMMANDS = [
    *(f"fault-{fault}-{place}" for fault in FAULTS for place in PLACES),
    *(f"fault-status_{status}" for status in STATUSES),
    "fault-too_long",
    "no_usage",
    "empty",
    "echo",
]
CASES = [
    (wire, command, is_streamed) for wire in WIRES for command in COMMANDS for is_streamed in (True, False)
]
# Words of an answer that a client has seen before a place in its stream.
WORDS = {"middle": 6, "after_content": 8}
# Faults that only time shows. Their limits are short, and all of them run at once.
SLOW = ("slow_first_byte", "stall")
SHORT = AttemptLimits(first=4.0, between=4.0, total=8.0)
LONG = AttemptLimits(first=60.0, between=60.0, total=60.0)
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
SECONDS = 50.0
MOST = 3


@dataclass
class Seen:
    """What came of one case. calls: those that reached the provider, by command."""

    text: str
    events: list
    attempts: tuple
    error: TriremeError | None
    served_by: str
    calls: list

    @property
    def is_whole(self):
        return self.error is None

    @property
    def told(self):
        """In words, for the table."""
        tried = ", ".join(attempt.outcome for attempt in self.attempts)
        if self.is_whole:
            return f"{'the answer' if self.served_by == 'first' else 'the answer of the next'} ({tried})"
        if self.events:
            return f"content, then the error {self.error.kind} ({tried})"
        return f"the error {self.error.kind} ({tried})"


class SkippingClock:
    """The true time, and what was slept: pauses between attempts pass at once."""

    def __init__(self):
        self.skipped = 0.0

    def __call__(self):
        return time.monotonic() + self.skipped

    async def sleep(self, seconds):
        self.skipped += seconds
        await asyncio.sleep(0)


def call_of(wire, text, is_streamed, tools=()):
    """A call as a client of the same surface sends it."""
    body = {"model": "chain", "messages": [{"role": "user", "content": text}], "stream": is_streamed}
    if wire == "anthropic":
        body["max_tokens"] = 100
    if tools and wire == "anthropic":
        body["tools"] = [{"name": tool.name, "input_schema": tool.schema} for tool in tools]
    elif tools:
        functions = [{"name": tool.name, "parameters": tool.schema} for tool in tools]
        body["tools"] = [{"type": "function", "function": function} for function in functions]
    return ChatCall(
        wire,
        "chain",
        (Message("user", (Text(text),)),),
        body=body,
        stream=is_streamed,
        tools=tools,
        max_tokens=body.get("max_tokens"),
    )


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def see(case, upstream, providers):
    """One request to a first target that follows the case's command, and a second that is healthy."""
    wire, command, is_streamed = case
    text = f"this case {wire} {command} {is_streamed} has eight words"
    is_slow = any(name in command for name in SLOW)
    first = Entry("first", (providers[wire],), SHORT if is_slow else LONG)
    second = Entry("second", (providers[OTHER[wire]],), LONG)
    clock = SkippingClock()
    attempts = Attempts(AttemptPolicy(most=MOST), clock, clock.sleep)
    events, tried, served_by, error = [], (), "", None
    try:
        targets = [Target(first, command), Target(second, "echo")]
        answer = await attempts.open(call_of(wire, text, is_streamed), targets, SECONDS)
        served_by, tried = answer.served_by.entry.name, answer.attempts
        async for event in answer.events:
            events.append(event)
            if len(text_of(events).split()) == WORDS.get(command.rpartition("-")[2]):
                upstream.go_on(text)
    except ProviderError as caught:
        error, tried = caught, caught.attempts
    calls = [received.command for received in upstream.calls if text.encode() in received.raw]
    return Seen(text, events, tried, error, served_by, calls)


def open_all(upstream):
    url = {"openai": f"{upstream.url}/v1", "anthropic": upstream.url}
    return {wire: open_provider(wire, ProviderOptions(wire, url[wire], "secret")) for wire in WIRES}


async def see_all(upstream):
    providers = open_all(upstream)
    try:
        slow = [case for case in CASES if any(name in case[1] for name in SLOW)]
        seen = dict(
            zip(slow, await asyncio.gather(*(see(c, upstream, providers) for c in slow)), strict=True)
        )
        for case in CASES:
            if case not in seen:
                seen[case] = await asyncio.wait_for(see(case, upstream, providers), 60.0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
    finally:
        for provider in providers.values():
            await provider.close()
    return seen


@pytest.fixture(scope="module")
def seen():
    with serving() as upstream:
        upstream.slow, upstream.is_gated = 3 * SHORT.first, True
        seen = asyncio.run(see_all(upstream))
        # Nothing goes on for a client that has its answer.
        upstream.wait_until(lambda upstream: (upstream.answering, upstream.connections) == (0, 0))
        return seen


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wire", WIRES)
def test_no_request_costs_more_than_three_calls_and_the_attempts_name_each(seen, wire, command):
    for is_streamed in (True, False):
        result = seen[(wire, command, is_streamed)]
        assert 1 <= len(result.calls) <= MOST
        assert len(result.calls) == len([made for made in result.attempts if made.outcome != "skipped"])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wire", WIRES)
def test_what_ends_without_an_error_is_whole_and_what_breaks_off_says_so(seen, wire, command):
    for is_streamed in (True, False):
        result = seen[(wire, command, is_streamed)]
        reasons = [event.reason for event in result.events if isinstance(event, Finished)]
        if result.error is None:
            is_empty = command == "empty" and result.served_by == "first"
            assert (text_of(result.events), reasons) == ("" if is_empty else result.text, ["stop"])
        elif result.events:
            assert is_streamed and any(is_content(event) for event in result.events)
            assert reasons == []


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("wire", WIRES)
def test_the_next_target_makes_good_what_it_can(seen, wire, command):
    """All but a fault of the client's request, and, of a stream, what comes after its first content."""
    name, _, place = command.removeprefix("fault-").partition("-")
    for is_streamed in (True, False):
        result = seen[(wire, command, is_streamed)]
        if name in {"status_400", "status_413"}:
            assert (result.error.remedy, result.events, len(result.calls)) == ("give_up", [], 1)
        elif is_streamed and place in WORDS:
            assert (result.served_by, len(result.calls)) == ("first", 1)
            assert len(text_of(result.events).split()) == WORDS[place]
        else:
            assert result.served_by == ("second" if command.startswith("fault-") else "first")


@pytest.mark.parametrize("command", ["echo", "fault-cut-before_content"])
@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", WIRES)
def test_tool_calls_in_pieces_come_whole_from_the_first_target_and_from_the_next(wire, is_streamed, command):
    text = 'say "ü" to\nall \\ of them'

    async def scenario(upstream):
        providers = open_all(upstream)
        call = call_of(wire, text, is_streamed, tools=(Tool("f", schema=SCHEMA), Tool("g", schema=SCHEMA)))
        targets = [
            Target(Entry("first", (providers[wire],), LONG), command),
            Target(Entry("second", (providers[OTHER[wire]],), LONG), "echo"),
        ]
        clock = SkippingClock()
        answer = await Attempts(AttemptPolicy(), clock, clock.sleep).open(call, targets, SECONDS)
        events = [event async for event in answer.events]
        for provider in providers.values():
            await provider.close()
        return answer.served_by.entry.name, events

    with serving() as upstream:
        served_by, events = asyncio.run(scenario(upstream))
    assert served_by == ("first" if command == "echo" else "second")
    starts = [event for event in events if isinstance(event, ToolStart)]
    assert [(start.index, start.name) for start in starts] == [(0, "f"), (1, "g")]
    assert len({start.id for start in starts}) == 2
    for start in starts:
        pieces = [e.arguments for e in events if isinstance(e, ToolDelta) and e.index == start.index]
        assert json.loads("".join(pieces)) == {"text": text}
    assert [event.reason for event in events if isinstance(event, Finished)] == ["tool_use"]


async def leave(attempts, targets, is_streamed, turns, events):
    """A client that goes after so many turns of the loop, or after so many events, whichever is first."""

    async def read():
        call = call_of("openai", "one two three " * 20, is_streamed)
        answer = await attempts.open(call, targets, SECONDS)
        async with contextlib.aclosing(answer.events) as given:
            for _ in range(events):
                if await anext(given, None) is None:
                    return

    task = asyncio.ensure_future(read())
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_clients_that_leave_at_any_moment_leave_no_call_and_no_task_behind():
    draw = random.Random(5)

    async def scenario(upstream):
        providers = open_all(upstream)
        attempts = Attempts(AttemptPolicy())
        commands = ["echo", "fault-stall-before_headers", "fault-stall-middle", "fault-cut-before_content"]

        async def leave_some():
            for _ in range(15):
                targets = [
                    Target(Entry("first", (providers[draw.choice(WIRES)],), LONG), draw.choice(commands)),
                    Target(Entry("second", (providers[draw.choice(WIRES)],), LONG), "echo"),
                ]
                await leave(attempts, targets, draw.random() < 0.7, draw.randint(0, 300), draw.randint(1, 25))

        await asyncio.gather(*(leave_some() for _ in range(12)))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.to_thread(upstream.wait_until, lambda upstream: upstream.answering == 0)
        for provider in providers.values():
            await provider.close()

    with serving() as upstream:
        upstream.pace = 0.001
        asyncio.run(scenario(upstream))
        upstream.wait_until(lambda upstream: upstream.connections == 0)
        assert upstream.left > 10 and len(upstream.calls) > 50


def test_the_page_of_faults_is_what_was_measured(seen):
    page = page_of(seen)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "WRITE_DOCS=1 pytest tests/unit/providers/test_faults.py"


HEAD = """# Faults of providers

What a client sees when a provider fails: the fault, its place in the provider's answer, and what follows
for a streamed and for a whole answer. A test measures this page: a fake provider breaks on command over
HTTP, and a second provider of the other kind, which is healthy, stands behind it in the chain.
`WRITE_DOCS=1 pytest tests/unit/providers/test_faults.py` writes it anew; without `WRITE_DOCS` the test
fails where the page differs.

- Behind each outcome stand the attempts in their order, each with its fault or `ok`. *calls* counts the
  requests that reached a provider.
- Before its first content a stream is not begun, so that the next provider can still answer. After it
  nobody else is asked: the stream ends with an error frame, and never with a finish or `[DONE]`.
- A whole answer is sent when all of it is there, so that the next provider can answer for a fault at any
  place.
- Pauses and limits of time are those of [the gateway](gateway.md); slow and stalled answers exceed theirs
  here.

| fault | what the provider does |
| --- | --- |
| slow first byte | pauses for longer than its limit, then goes on |
| stall | says nothing more, and keeps the connection |
| cut | closes the connection |
| reset | closes it with RST |
| end | ends the response as HTTP allows, without the rest of the answer |
| malformed | sends a frame, or a body, that is no JSON; before the headers, what is no HTTP |
| error in 200 | sends an error frame, or an error as the body, under status 200 |
| status | answers with this status and an error body; 429 asks for 1 s of patience |
| too long | says that the prompt is longer than its window |
| no usage, empty | answers without counts of tokens; without content |
"""


def page_of(seen):
    parts = [HEAD]
    for wire, title in (("openai", "OpenAI-compatible providers"), ("anthropic", "Anthropic")):
        parts.append(
            f"## {title}\n\n| fault | place | streamed | calls | whole | calls |\n"
            "| --- | --- | --- | --- | --- | --- |\n" + "".join(rows_of(seen, wire))
        )
    return "\n".join(parts)


def rows_of(seen, wire):
    """A row for each fault and outcome; places, and statuses, of the same outcome share it."""
    rows = {}
    for command in COMMANDS:
        name, _, place = command.removeprefix("fault-").partition("-")
        kind, _, status = name.partition("_") if name.startswith("status_") else (name, "", "")
        results = [seen[(wire, command, is_streamed)] for is_streamed in (True, False)]
        cells = " | ".join(f"{result.told} | {len(result.calls)}" for result in results)
        shared = rows.setdefault((kind, cells), [])
        shared.append(status or place)
    for (kind, cells), shared in rows.items():
        places = ", ".join(shared)
        name = f"status {places}" if kind == "status" else {"echo": "none"}.get(kind, kind)
        row = f"| {name} | {'' if kind == 'status' else places} | {cells} |\n"
        yield row.replace("_", " ")
