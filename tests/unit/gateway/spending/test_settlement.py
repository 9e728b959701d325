"""The settlement matrix: how an attempt ended, what had come of its answer, and what it is charged.

docs/settlement.md is what is measured here; WRITE_DOCS=1 in the environment writes it anew.
"""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from fakes.providers import Clock, ScriptedProvider, fault, target_of
from fakes.spending import INPUT, World, ask, call_of, cap
from trireme.errors import TriremeError
from trireme.gateway.spending.counting import FREE
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.chat import Finished, Started, TextDelta, Usage

PAGE = Path(__file__).parents[4] / "docs" / "settlement.md"
WORDS = (TextDelta("ten bytes "), TextDelta("ten bytes "), TextDelta("ten bytes "))
# 30 bytes, 3 to a token.
COUNTED = 10
# Parts of an answer that was stopped behind three tokens.
BEYOND = 4
# What came before the end. A provider's own counts are 7 and 3.
SENT = {
    "nothing": (),
    "start": (Started("m"),),
    "content": (Started("m"), *WORDS),
    "counted input, content": (Started("m", 7), Usage(7, 1), *WORDS),
    "content, counts": (Started("m"), *WORDS, Usage(7, 3)),
}
INPUTS = {0: "0", 7: "provider's", INPUT: "bound"}
OUTPUTS = {0: "0", 3: "provider's", COUNTED: "counted", BEYOND: "counted"}
# And of an answer that was stopped early: its own bytes with those before.
SUFFICIENT = (TextDelta("It is so. "), TextDelta("More "), Finished("stop"))
OUTPUTS |= {5: "counted", COUNTED + 5: "counted"}


# Where a script waits for its end.
WAITS = "waits"


def end_with(kind):
    return lambda sent: (*sent, fault("next", kind))


# How it ends: what follows upon what was sent. `call`: more of the call.
ENDS = {
    "whole": lambda sent: (*sent, Finished("stop")),
    "sufficient": lambda sent: (*sent, *SUFFICIENT),
    "behind the last paid token": lambda sent: (*sent, *WORDS, Finished("stop")),
    "client gone": lambda sent: (*sent, WAITS),
    "gateway killed": lambda sent: (*sent, WAITS),
    "time over": end_with("timeout"),
    "cut": end_with("cut"),
    "malformed": end_with("malformed"),
    "fault inside of the gateway": lambda sent: (*sent, RuntimeError("ours")),
    "no connection": end_with("connect"),
    "refused": end_with("overloaded"),
}
OUTCOMES = {
    "whole": "ok",
    "sufficient": "stopped",
    "behind the last paid token": "stopped",
    "client gone": "client_gone",
    "gateway killed": "expired",
    "time over": "timeout",
    "fault inside of the gateway": "internal",
    "no connection": "connect",
    "refused": "overloaded",
}
UNKNOWN = ("bound", "0")
# (input, output) by end and by what was sent; an end that cannot be is not here.
EXPECTED = {
    "whole": {
        "start": ("bound", "0"),
        "content": ("bound", "counted"),
        "counted input, content": ("provider's", "counted"),
        "content, counts": ("provider's", "provider's"),
    },
    "sufficient": {
        "start": ("bound", "counted"),
        "content": ("bound", "counted"),
        "counted input, content": ("provider's", "counted"),
        "content, counts": ("provider's", "counted"),
    },
    "behind the last paid token": {
        "content": ("bound", "counted"),
        "counted input, content": ("provider's", "counted"),
    },
    "no connection": {"nothing": ("0", "0")},
    "refused": {
        "nothing": ("0", "0"),
        "start": ("bound", "0"),
        "content": ("bound", "counted"),
        "counted input, content": ("provider's", "counted"),
        "content, counts": ("provider's", "provider's"),
    },
    **{
        end: {
            "nothing": ("bound", "0"),
            "start": ("bound", "0"),
            "content": ("bound", "counted"),
            "counted input, content": ("provider's", "counted"),
            "content, counts": ("provider's", "provider's"),
        }
        for end in (
            "client gone",
            "gateway killed",
            "time over",
            "cut",
            "malformed",
            "fault inside of the gateway",
        )
    },
}
CELLS = [(end, sent) for end, cells in EXPECTED.items() for sent in cells]


async def settle(world, end, sent, is_streamed):
    """One attempt that ends so, in a gateway; returns the rows of the ledger."""
    most = 3 if end.startswith("behind") else 50
    is_there = asyncio.Event()

    async def wait():
        is_there.set()
        await asyncio.Event().wait()

    script = [wait if step == WAITS else step for step in ENDS[end](SENT[sent])]
    provider = ScriptedProvider(script)
    clock = Clock()
    attempts = Attempts(AttemptPolicy(most=1), clock, clock.sleep)
    stop = {"sentences": 1} if end == "sufficient" else None
    call = call_of(max_tokens=most, stream=is_streamed, stop_when=stop)
    task = asyncio.create_task(ask(world, call, target_of(provider), attempts=attempts))
    if end not in ("client gone", "gateway killed"):
        await asyncio.gather(task, return_exceptions=True)
        return await world.rows()
    await asyncio.wait_for(is_there.wait(), 30)
    if end == "gateway killed":
        # It has reported once, and nobody settles what it does from now on.
        await world.spending._leases.extend()
        world.spending._admission.settle = lambda row: None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, TriremeError):
        await task
    if end == "gateway killed":
        world.wait(31)
        await world.budgets.expire()
    return await world.rows()


def charge(end, sent, is_streamed=True):
    """The row, and (input, output) as the table has them."""
    world = World(cap(10_000))

    async def scenario():
        async with world.running():
            (row,) = await settle(world, end, sent, is_streamed)
            return row, await world.amounts()

    row, amounts = asyncio.run(scenario())
    # All that was held is free, and counters say what the ledger says.
    assert amounts == (row.tokens, 0, row.nanos, 0)
    assert row.outcome == OUTCOMES.get(end, end)
    # Of one that was killed only the sum is known.
    if row.counted_by == "expired":
        known = 7 if "count" in sent else min(row.tokens, INPUT)
        return row, (INPUTS[known], OUTPUTS[row.tokens - known])
    assert row.nanos == row.input_tokens + 10 * row.output_tokens
    return row, (INPUTS[row.input_tokens], OUTPUTS[row.output_tokens])


@pytest.mark.parametrize(("end", "sent"), CELLS)
def test_an_attempt_is_charged_by_how_it_ended_and_what_had_come(end, sent):
    assert charge(end, sent)[1] == EXPECTED[end][sent]


@pytest.mark.parametrize(("end", "sent"), CELLS)
def test_an_answer_that_is_not_streamed_is_charged_as_one_that_is(end, sent):
    assert charge(end, sent, is_streamed=False)[1] == EXPECTED[end][sent]


@pytest.mark.parametrize("kind", sorted(FREE))
def test_a_provider_that_refuses_before_anything_came_costs_nothing(kind):
    world = World(cap(10_000))

    async def scenario():
        async with world.running():
            with pytest.raises(TriremeError):
                await ask(world, call_of(), target_of(ScriptedProvider([fault("next", kind)])))
            return await world.rows(), await world.amounts()

    (row,), amounts = asyncio.run(scenario())
    assert (row.tokens, row.nanos, row.outcome, amounts) == (0, 0, kind, (0, 0, 0, 0))


def test_who_counted_is_in_the_row():
    counted = {cell: charge(*cell)[0].counted_by for cell in CELLS}
    assert counted["whole", "content, counts"] == "provider"
    assert counted["whole", "content"] == counted["client gone", "counted input, content"] == "counted"
    assert counted["cut", "nothing"] == "bound"
    assert {by for (end, _), by in counted.items() if end == "gateway killed"} == {"expired"}


def test_the_page_of_settlement_is_what_was_measured():
    page = page_of()
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(page, encoding="utf-8")
    again = "WRITE_DOCS=1 pytest tests/unit/gateway/spending/test_settlement.py"
    assert PAGE.read_text(encoding="utf-8") == page, again


HEAD = """# Settlement of attempts

What an attempt is charged when it has ended: input and output, by how it ended and by what had come of its answer
until then. All that was held beyond that is free at once. A test measures this page: a scripted provider sends so
much and ends so, behind the attempt loop and a budget; the ledger's row and the counters agree each time.
`WRITE_DOCS=1 pytest tests/unit/gateway/spending/test_settlement.py` writes it anew; without `WRITE_DOCS` the test
fails where the page differs. An answer that is not streamed is charged as one that is.

- *provider's*: the provider's own count.
- *bound*: the bound of the input that was held: the request had been sent, and the provider may charge for it.
- *counted*: by the gateway, from what came: a third of its UTF-8 bytes, rounded up, at least one token for each
  part, and at most what was held. Tokenizers make 3 to 5 bytes of prose and of code one token.
  What a provider thinks unseen is in its own counts alone.
- *0*: nothing. A dash: such an end cannot be.
- Of a gateway that was killed the hold ends with its lease, and is charged with what was last reported, each third
  of a lease; before the first report with the bound of the input.
- *sufficient*, *behind the last paid token*: the gateway has closed the call, by the call's `stop_when`, or because
  the provider went on behind its `max_tokens`.
- *time over*: of the first byte, between two parts, of the attempt or of the request.
- *refused*: any status but 200, or an error in place of the answer. A fault in the middle of an answer of status
  200 is charged for what had come.

"""
HEADS = {
    "nothing": "nothing",
    "start": "its start alone",
    "content": "content, no counts",
    "counted input, content": "the input's count, content",
    "content, counts": "content, then counts",
}


def page_of():
    rows = [
        f"| how it ended | {' | '.join(HEADS[sent] for sent in SENT)} |",
        f"|{' --- |' * (len(SENT) + 1)}",
    ]
    for end in ENDS:
        cells = [" + ".join(charge(end, sent)[1]) if sent in EXPECTED[end] else "—" for sent in SENT]
        rows.append(f"| {end} | {' | '.join(cells)} |")
    return HEAD + "\n".join(rows) + "\n"
