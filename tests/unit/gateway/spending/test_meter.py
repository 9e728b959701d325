"""Holds before attempts, through the real attempt loop, over stores in memory."""

import asyncio
import contextlib

import pytest

from fakes.providers import WHOLE, ScriptedProvider, fault, target_of
from fakes.spending import INPUT, World, ask, call_of, cap, exchange_of
from trireme.access.keys import Key
from trireme.budget.caps import MOST
from trireme.errors import BudgetExceededError, InvalidInputError, ResourceExhaustedError, UnavailableError
from trireme.gateway.spending.meter import with_max_tokens
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.chat import ChatCall, Finished, Started, TextDelta, Usage

SHRINK = "shrink = true\n"
SECOND = """
[providers.b]
kind = "openai"
url = "http://127.0.0.1:1/v1"
"""
FREE = (
    SECOND
    + """
[prices."b:m"]
input = 0.0
output = 0.0
"""
)


def run(world, scenario):
    async def all_of_it():
        async with world.running():
            return await scenario()

    return asyncio.run(all_of_it())


def test_an_attempt_holds_the_worst_case_and_is_settled_with_what_was_used():
    world = World(cap(10_000))
    seen = []

    async def look():
        seen.append(await world.budgets.read("acme", "ann"))

    provider = ScriptedProvider((Started("m"), TextDelta("one"), look, Usage(7, 3), Finished("stop")))

    async def scenario():
        await ask(world, call_of(max_tokens=50), target_of(provider))
        return await world.rows(), await world.amounts()

    (row,), amounts = run(world, scenario)
    assert [(one.held_tokens, one.held_nanos) for one in seen[0]] == [(INPUT + 50, INPUT * 3 + 500)] * 9
    assert amounts == (10, 0, 7 + 30, 0)
    assert (row.input_tokens, row.output_tokens, row.counted_by, row.outcome) == (7, 3, "provider", "ok")
    assert (row.held_tokens, row.nanos, row.served, row.asked) == (INPUT + 50, 37, "a:m", "m")
    assert row.first_ms >= 0


def test_a_budget_that_leaves_too_little_refuses_and_says_which_and_how_much():
    world = World(cap(INPUT, window="day"))

    async def scenario():
        with pytest.raises(BudgetExceededError) as caught:
            await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()))
        return caught.value, await world.amounts(), await world.rows()

    error, amounts, rows = run(world, scenario)
    assert (error.level, error.window, error.unit) == ("user", "day", "tokens")
    assert (error.cap, error.spent, error.held, error.retry_after) == (INPUT, 0, 0, 0.0)
    for words in (
        "user's budget of this day",
        f"{INPUT} tokens in all",
        "0 tokens spent",
        f"{INPUT + 50} tokens",
        "anew at",
    ):
        assert words in str(error)
    assert (amounts, rows) == ((0, 0, 0, 0), [])
    labels = {"level": "user", "window": "day", "unit": "tokens"}
    assert world.metric("trireme_budget_refused_total", **labels) == 1


def test_only_a_minute_is_worth_waiting_for_and_not_where_the_request_never_fits():
    def wait_of(tokens, spent):
        world = World(cap(tokens, window="minute"))

        async def scenario():
            for _ in range(spent):
                await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()))
                await world.rows()
            with pytest.raises(BudgetExceededError) as caught:
                await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider()))
            return caught.value.retry_after

        return run(world, scenario)

    assert 0 < wait_of(INPUT + 51, 1) <= 60
    assert wait_of(INPUT, 0) == 0


def test_a_target_that_a_budget_does_not_allow_is_passed_over_for_a_cheaper_one():
    world = World(cap(nanos=100), file=FREE)
    dear, other = ScriptedProvider(), ScriptedProvider()

    async def scenario():
        await ask(world, call_of(max_tokens=50), target_of(dear), target_of(other, name="b"))
        return await world.rows()

    (row,) = run(world, scenario)
    assert (row.served, len(dear.calls), len(other.calls)) == ("b:m", 0, 1)


def test_money_alone_is_not_spent_on_what_has_no_price():
    def outcome(*caps):
        world = World(*caps)
        provider = ScriptedProvider()

        async def scenario():
            await ask(world, call_of(max_tokens=50), target_of(provider, model="unknown"))
            return await world.rows()

        try:
            return run(world, scenario)[0]
        except ResourceExhaustedError as error:
            assert not provider.calls
            return str(error)

    assert 'prices."a:unknown"' in outcome(cap(nanos=10**9)) and "gateway.toml" in outcome(cap(nanos=10**9))
    row = outcome(cap(nanos=10**9, tokens=1000))
    assert (row.tokens, row.nanos, row.prices) == (5, 0, "")
    # Tokens of the whole gateway keep nobody to money of a user's.
    assert "prices" in outcome(cap(nanos=10**9), cap(tokens=10_000, tenant="", user=""))
    assert outcome().tokens == 5


def test_max_tokens_shrinks_to_what_is_left_and_the_answer_says_so():
    world = World(cap(INPUT + 30), file=SHRINK)
    provider = ScriptedProvider()
    exchange = exchange_of()

    async def scenario():
        await ask(
            world, call_of(max_tokens=500, body={"max_tokens": 500}), target_of(provider), exchange=exchange
        )

    run(world, scenario)
    (called,) = provider.calls
    assert (called.call.max_tokens, called.call.body["max_tokens"]) == (30, 30)
    assert exchange.notes == [("x-trireme-max-tokens", "30")]
    assert world.metric("trireme_budget_shrunk_total") == 1


def test_money_shrinks_max_tokens_too_and_every_choice_has_its_share():
    world = World(cap(nanos=INPUT * 3 + 10 * 47), file=SHRINK + "least_tokens = 20\n")
    provider = ScriptedProvider((Started("m"), TextDelta("x"), Finished("stop", 0), Finished("stop", 1)))

    async def scenario():
        await ask(world, call_of(max_tokens=500, choices=2), target_of(provider))

    run(world, scenario)
    assert provider.calls[0].call.max_tokens == 23


@pytest.mark.parametrize("left", [INPUT + 15, 3, 0])
def test_it_does_not_shrink_below_the_least(left):
    world = World(cap(left), file=SHRINK)

    async def scenario():
        with pytest.raises(BudgetExceededError):
            await ask(world, call_of(max_tokens=500), target_of(ScriptedProvider()))

    run(world, scenario)


def test_the_header_speaks_of_the_attempt_that_answered():
    world = World(cap(nanos=INPUT * 3 + 300), file=SHRINK + FREE)
    exchange = exchange_of()

    async def scenario():
        targets = [target_of(ScriptedProvider([fault("next")])), target_of(ScriptedProvider(), name="b")]
        await ask(world, call_of(max_tokens=500), *targets, exchange=exchange)

    run(world, scenario)
    assert exchange.notes == []


def test_where_a_budget_holds_the_most_output_is_sent_along_and_else_not():
    for caps, sent in (((cap(100_000),), 4096), ((), None)):
        world = World(*caps)
        provider = ScriptedProvider()

        async def scenario(world=world, provider=provider):
            await ask(world, call_of(), target_of(provider))
            return await world.rows()

        (row,) = run(world, scenario)
        assert provider.calls[0].call.max_tokens == sent
        assert (row.held_tokens, row.tokens) == (INPUT + 4096, 5)


@pytest.mark.parametrize(
    ("surface", "body", "written"),
    [
        ("openai", {"max_completion_tokens": 9}, {"max_completion_tokens": 3}),
        ("openai", {"max_tokens": 9}, {"max_tokens": 3}),
        ("openai", {}, {"max_completion_tokens": 3}),
        ("completions", {}, {"max_tokens": 3}),
        ("anthropic", {"max_tokens": 9, "x": 1}, {"max_tokens": 3, "x": 1}),
        ("responses", {"max_output_tokens": 9}, {"max_output_tokens": 9}),
    ],
)
def test_max_tokens_goes_into_the_body_that_is_sent_on(surface, body, written):
    call = with_max_tokens(ChatCall(surface, "m", body=body, max_tokens=9), 3)
    assert (call.max_tokens, call.body) == (3, written)


def test_anthropics_thinking_keeps_its_room():
    world = World(cap(INPUT + 30), file=SHRINK)
    body = {"thinking": {"type": "enabled", "budget_tokens": 30}}

    async def scenario():
        with pytest.raises(BudgetExceededError):
            call = ChatCall("anthropic", "m", call_of().messages, body, max_tokens=500)
            await ask(world, call, target_of(ScriptedProvider()))

    run(world, scenario)


def test_an_upstream_that_goes_on_behind_the_last_paid_token_is_closed():
    world = World(cap(10_000))
    words = [TextDelta(f"w{n} ") for n in range(9)]
    provider = ScriptedProvider((Started("m"), *words, Usage(7, 9), Finished("stop")))

    async def scenario():
        events = await ask(world, call_of(max_tokens=4), target_of(provider))
        return events, await world.rows()

    events, (row,) = run(world, scenario)
    assert events[-5:] == [*words[:4], Finished("length")]
    assert provider.ends == ["closed"]
    assert (row.outcome, row.output_tokens, row.counted_by) == ("stopped", 5, "counted")


def test_an_answer_of_just_as_many_tokens_as_were_paid_is_not_cut():
    world = World(cap(10_000))

    async def scenario():
        events = await ask(world, call_of(max_tokens=2), target_of(ScriptedProvider()))
        return events, await world.rows()

    events, (row,) = run(world, scenario)
    assert (events, row.outcome) == (list(WHOLE), "ok")


@pytest.mark.parametrize("is_capped", [True, False])
def test_two_limits_in_one_body_are_one_where_a_budget_holds(is_capped):
    """Servers differ in which of both they read: one that was not held for would go over the budget."""
    world = World(*([cap(10_000)] if is_capped else []))
    provider = ScriptedProvider()
    body = {"max_completion_tokens": 2, "max_tokens": 5_000}

    async def scenario():
        await ask(world, call_of(max_tokens=2, body=body), target_of(provider))

    run(world, scenario)
    (sent,) = provider.calls
    assert sent.call.body == (dict.fromkeys(body, 2) if is_capped else body)


def test_an_absurd_count_is_billed_as_the_most_there_is():
    """A bill that the ledger's columns cannot hold would keep all behind it waiting."""
    world = World(file='[prices."a:dear"]\ninput = 1000.0\noutput = 1000.0\n')
    provider = ScriptedProvider((Started("m"), TextDelta("one"), Usage(2**70, 2**70), Finished("stop")))

    async def scenario():
        await ask(world, call_of(), target_of(provider, model="dear"))
        return await world.rows(), await world.amounts()

    (row,), amounts = run(world, scenario)
    assert (row.tokens, row.nanos) == (amounts[0], amounts[2])
    assert max(row.tokens, row.nanos) <= MOST


def test_an_attempt_that_fails_is_settled_before_the_next_is_held():
    """So that one budget for one attempt pays for a chain of them."""
    world = World(cap(INPUT + 60), file=SECOND)
    targets = [target_of(ScriptedProvider([fault("next")]), name=name) for name in "ab"]
    targets.append(target_of(ScriptedProvider(), name="a", model="m"))

    async def scenario():
        await ask(world, call_of(max_tokens=50), *targets)
        return await world.rows()

    rows = run(world, scenario)
    assert [(row.outcome, row.tokens) for row in rows] == [("overloaded", 0), ("overloaded", 0), ("ok", 5)]


def test_the_next_attempt_waits_for_the_settlement_of_the_one_before():
    world = World(cap(INPUT + 60), file=SECOND)
    settle = world.budgets.settle

    async def slowly(bill):
        await asyncio.sleep(0.05)
        return await settle(bill)

    world.budgets.settle = slowly
    targets = [target_of(ScriptedProvider([fault("next")])), target_of(ScriptedProvider(), name="b")]

    async def scenario():
        return await ask(world, call_of(max_tokens=50), *targets)

    assert run(world, scenario)


def test_a_client_may_name_any_max_tokens():
    world = World()

    async def scenario():
        await ask(world, call_of(max_tokens=10**18), target_of(ScriptedProvider()))
        return await world.rows()

    (row,) = run(world, scenario)
    assert (row.held_tokens, row.held_nanos, row.tokens) == (MOST, MOST, 5)


def test_what_a_call_says_wrongly_is_found_before_anything_is_held():
    world = World(cap(10_000))

    async def scenario():
        with pytest.raises(InvalidInputError):
            call = call_of(max_tokens=50, stop_when={"words": 2})
            await ask(world, call, target_of(ScriptedProvider()))
        return await world.amounts()

    assert run(world, scenario) == (0, 0, 0, 0)


def test_who_goes_while_a_hold_is_made_leaves_none_behind():
    world = World(cap(10_000))
    provider = ScriptedProvider()
    reserved = asyncio.Event

    async def scenario():
        began, go_on = reserved(), reserved()
        reserve = world.budgets.reserve

        async def slowly(claim):
            held = await reserve(claim)
            began.set()
            await go_on.wait()
            return held

        world.budgets.reserve = slowly
        task = asyncio.create_task(ask(world, call_of(max_tokens=5), target_of(provider)))
        await began.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        held = (await world.budgets.read("acme", "ann"))[0].held_tokens
        go_on.set()
        return held, await world.amounts(), await world.rows()

    held, amounts, (row,) = run(world, scenario)
    assert held == INPUT + 5
    assert (amounts, row.outcome, row.tokens) == ((0, 0, 0, 0), "unheld", 0)
    assert provider.calls == []


def test_without_a_store_a_budget_refuses_and_who_has_none_is_served():
    world = World(cap(10_000))
    bob = exchange_of(Key("key_bob", "acme", "bob"))

    async def scenario():
        world.budgets.is_away = True
        with pytest.raises(UnavailableError):
            await ask(world, call_of(max_tokens=5), target_of(ScriptedProvider()))
        faults = world.spending.faults()
        await ask(world, call_of(max_tokens=5), target_of(ScriptedProvider()), exchange=bob)
        rows = list(world.ledger.rows)
        world.budgets.is_away = False
        return faults, rows, await world.rows()

    faults, before, rows = run(world, scenario)
    assert faults == ["the budget store does not answer"]
    assert [(row.user, row.tokens) for row in rows] == [("bob", 5)]
    assert before == [] or len(before) == 1


def test_the_file_may_open_budgets_while_the_store_is_away_and_the_ledger_still_has_the_rows():
    world = World(cap(10_000), file='without_store = "open"\n')

    async def scenario():
        world.budgets.is_away = True
        await ask(world, call_of(max_tokens=5), target_of(ScriptedProvider()))
        await world.spending._settling.try_again()
        rows = list(world.ledger.rows.values())
        world.budgets.is_away = False
        await world.spending.settle_all()
        before = await world.amounts()
        await world.spending.reconcile()
        return rows, before, await world.amounts(), await world.rows()

    (recorded,), before, amounts, rows = run(world, scenario)
    assert (recorded.epoch, recorded.row.tokens) == ("", 5)
    assert before[:2] == (5, 0) and amounts[:2] == (5, 0)
    assert len(rows) == 1


def test_caps_that_were_never_read_let_nobody_through():
    world = World()

    def away(revision):
        raise UnavailableError("away")

    world.caps.read = away

    async def scenario():
        with pytest.raises(UnavailableError):
            await ask(world, call_of(), target_of(ScriptedProvider()), attempts=Attempts(AttemptPolicy()))

    run(world, scenario)


SENTENCES = [TextDelta(f"This is sentence {n}. ") for n in range(5)]


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
def test_an_answer_that_is_sufficient_is_stopped_and_refunded_also_where_its_client_does_not_stream(
    is_streamed,
):
    world = World(cap(10_000))
    provider = ScriptedProvider((Started("m", 7), *SENTENCES, Usage(7, 25), Finished("stop")))

    async def scenario():
        call = call_of(max_tokens=500, stream=is_streamed, stop_when={"sentences": 2})
        events = await ask(world, call, target_of(provider))
        return events, await world.rows(), await world.amounts()

    events, (row,), amounts = run(world, scenario)
    assert (
        "".join(one.text for one in events if isinstance(one, TextDelta))
        == "This is sentence 0. This is sentence 1. "
    )
    assert events[-1] == Finished("stop")
    assert provider.ends == ["closed"] and provider.calls[0].call.stream
    assert (row.outcome, row.input_tokens, row.counted_by) == ("stopped", 7, "counted")
    assert amounts[:2] == (row.tokens, 0) and row.tokens < 30


def test_a_models_own_stop_holds_where_a_request_does_not_say():
    world = World(file='[models.short]\nchain = ["a:m"]\nstop_when = {sentences = 1}\n')
    provider = ScriptedProvider((Started("m"), *SENTENCES, Finished("stop")))

    async def scenario():
        short = await ask(world, call_of(model_name="short"), target_of(provider))
        never = await ask(world, call_of(model_name="short", stop_when={}), target_of(provider))
        return short, never

    short, never = run(world, scenario)
    assert (len(short), len(never)) == (3, 7)
