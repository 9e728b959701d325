"""What is paid beside chats: models of our own, and answers of caches."""

import asyncio

import pytest

from fakes.providers import target_of
from fakes.spending import World, cap, exchange_of
from trireme.budget.caps import MOST
from trireme.errors import BudgetExceededError, InvalidInputError
from trireme.providers.chat import Usage

LOCAL = '[prices."local:embedding"]\ninput = 1.0\noutput = 0.0\n'


def embedding_exchange():
    exchange = exchange_of(endpoint="embeddings")
    exchange.model, exchange.served_by = "embedding", "local:embedding"
    return exchange


def pay(world, tokens, act, count):
    async def scenario():
        async with world.running():
            try:
                answer = await world.spending.pay(embedding_exchange(), tokens, act, count)
            except InvalidInputError as error:
                answer = error
            return answer, await world.rows(), await world.amounts()

    return asyncio.run(scenario())


async def give_vectors():
    return "vectors"


def test_a_model_of_our_own_is_held_for_and_settled_with_what_it_counted():
    world = World(cap(100), file=LOCAL)
    held = []

    async def act():
        held.append((await world.budgets.read("acme", "ann"))[-1].held_tokens)
        return "vectors"

    answer, (row,), amounts = pay(world, 40, act, lambda answer: 7)
    assert (answer, held, amounts) == ("vectors", [40], (7, 0, 7000, 0))
    assert (row.served, row.endpoint, row.provider) == ("local:embedding", "embeddings", "local")
    assert (row.input_tokens, row.counted_by, row.outcome, row.asked) == (7, "provider", "ok", "embedding")


def test_what_a_model_does_not_say_is_charged_by_its_bound():
    _, (row,), amounts = pay(World(cap(100)), 40, give_vectors, lambda answer: None)
    assert (row.tokens, row.counted_by, amounts) == (40, "bound", (40, 0, 0, 0))


def test_a_call_that_fails_costs_nothing_and_one_that_was_left_its_bound():
    async def fail():
        raise InvalidInputError("too long")

    _, (row,), amounts = pay(World(cap(100)), 40, fail, lambda answer: 7)
    assert (row.tokens, row.outcome, amounts) == (0, "invalid_arg", (0, 0, 0, 0))

    world = World(cap(100))

    async def leave():
        async with world.running():
            began = asyncio.Event()

            async def wait():
                began.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(world.spending.pay(embedding_exchange(), 40, wait, lambda _: 7))
            await began.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await world.rows(), await world.amounts()

    (row,), amounts = asyncio.run(leave())
    assert (row.tokens, row.outcome, amounts) == (40, "client_gone", (40, 0, 0, 0))


def test_a_budget_refuses_a_model_of_our_own_before_it_is_called():
    world = World(cap(39))
    called = []

    async def act():
        called.append(1)

    async def scenario():
        async with world.running():
            with pytest.raises(BudgetExceededError):
                await world.spending.pay(embedding_exchange(), 40, act, lambda _: 7)

    asyncio.run(scenario())
    assert called == []


@pytest.mark.parametrize(("share", "tokens", "nanos"), [(0.0, 0, 0), (0.5, 5, 19), (1.0, 9, 37)])
def test_a_cached_answer_is_charged_its_share_and_the_rest_is_saved(share, tokens, nanos):
    world = World(cap(100), file=f"[cache]\nhit_share = {share}\n")

    async def scenario():
        async with world.running():
            exchange = exchange_of()
            exchange.model = "m"
            world.spending.record_hit(exchange, "exact", Usage(6, 3, 1), target_of(None))
            return await world.rows(), await world.amounts()

    (row,), amounts = asyncio.run(scenario())
    assert (row.tier, row.counted_by, row.outcome) == ("exact", "cached", "ok")
    assert row.nanos + row.saved_nanos == 5 + 2 + 30
    assert (row.tokens, row.nanos, amounts) == (tokens, nanos, (tokens, 0, nanos, 0))


def test_an_absurd_count_of_a_cached_answer_is_counted_as_the_most_there_is():
    world = World(file="[cache]\nhit_share = 1.0\n")

    async def scenario():
        async with world.running():
            exchange = exchange_of()
            exchange.model = "m"
            world.spending.record_hit(exchange, "exact", Usage(2**70, 2**64, -5), target_of(None))
            return await world.rows()

    (row,) = asyncio.run(scenario())
    assert row.tokens <= MOST
    assert row.nanos + row.saved_nanos <= MOST


def test_a_machine_that_costs_by_the_hour_is_measured():
    """5 s and 256 tokens are the least that says anything."""
    world = World(file='[prices."local:embedding"]\ndollars_per_hour = 3.6\ntokens_per_second = 1000\n')
    noted = []
    world.spending._prices.rates.note = lambda *noting: noted.append(noting)

    async def act():
        await asyncio.sleep(0.02)

    _, (row,), _ = pay(world, 40, act, lambda answer: 7)
    ((target, tokens, started, ended),) = noted
    assert (target, tokens, row.nanos) == ("local:embedding", 7, 7_000)
    assert ended - started == pytest.approx(row.total_ms / 1000)


def test_spent_tokens_are_counted_by_tenant():
    world = World()
    pay(world, 40, give_vectors, lambda answer: 7)
    assert world.metric("trireme_budget_spent_tokens_total", tenant="acme") == 7
    assert world.metric("trireme_budget_holds") == 0
    assert world.metric("trireme_budget_store_away") == 0


def test_what_ended_is_told_as_it_goes_into_the_ledger():
    world = World(cap(100), file=LOCAL)

    async def scenario():
        async with world.running():
            await world.spending.pay(embedding_exchange(), 40, give_vectors, lambda answer: 7)
            world.spending.record_hit(exchange_of(), "exact", Usage(6, 3, 1), target_of(None))
            return await world.rows()

    rows = asyncio.run(scenario())
    assert len(rows) == 2
    told = {row.attempt: (row.tokens, row.nanos, row.saved_nanos, row.tier) for row in world.told}
    assert told == {row.attempt: (row.tokens, row.nanos, row.saved_nanos, row.tier) for row in rows}


def test_budgets_in_force_are_those_of_the_gateway_where_no_tenant_is_named():
    world = World(
        cap(1, tenant="", user=""), cap(2, tenant="*", user=""), cap(3, user="*"), cap(4, user="bob")
    )

    async def scenario():
        async with world.running():
            caps = world.spending.caps
            return [
                [one.tokens for one in found]
                for found in (caps("", ""), caps("acme", ""), caps("acme", "ann"))
            ]

    assert asyncio.run(scenario()) == [[1], [1, 2], [1, 2, 3]]
