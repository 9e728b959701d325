"""Many requests that end in every way while the store comes and goes: nothing is held at last, nothing lost."""

import asyncio
import contextlib
import random

import pytest

from fakes.providers import ScriptedProvider, fault, target_of
from fakes.spending import World, ask, call_of, cap, exchange_of
from trireme.access.keys import Key
from trireme.budget.caps import EACH
from trireme.errors import TriremeError
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.breaker import BreakerPolicy
from trireme.providers.chat import Finished, Started, TextDelta, Usage

KEYS = [Key("key_1", "acme", "ann"), Key("key_2", "acme", "bob"), Key("key_3", "beta")]
WORDS = [TextDelta(f"word{n} ") for n in range(6)]
ENDS = (
    (Usage(7, 6), Finished("stop")),
    (Finished("stop"),),
    (fault("next", "cut"),),
    (fault("next", "timeout"),),
)
CAP = 30_000


def script_of(dice):
    if dice.random() < 0.2:
        return (fault("next", dice.choice(["connect", "overloaded", "rate_limit"])),)
    return (Started("m", dice.choice([None, 7])), *WORDS[: dice.randrange(7)], *dice.choice(ENDS))


async def request(world, dice, attempts):
    """One client, which may go at any moment."""
    targets = [target_of(ScriptedProvider(script_of(dice))) for _ in range(dice.randint(1, 3))]
    stop = dice.choice([None, None, {"sentences": 1}])
    call = call_of(max_tokens=dice.choice([2, 50]), stream=dice.random() < 0.5, stop_when=stop)
    exchange = exchange_of(dice.choice(KEYS))
    task = asyncio.create_task(ask(world, call, *targets, exchange=exchange, attempts=attempts))
    if dice.random() < 0.4:
        for _ in range(dice.randrange(60)):
            await asyncio.sleep(0)
        task.cancel()
    with contextlib.suppress(TriremeError, asyncio.CancelledError):
        await task
    return [one for target in targets for one in target.entry.keys[0].calls]


async def come_and_go(world, dice):
    """The store's outages, and holds that expire meanwhile."""
    while True:
        await asyncio.sleep(dice.random() * 0.01)
        world.budgets.is_away = dice.random() < 0.3
        if dice.random() < 0.2:
            world.wait(31)


async def check_caps(world):
    while True:
        for (tenant, _, window, _), amounts in world.budgets.counters.items():
            if tenant == "acme" and window == "day":
                assert amounts[0] + amounts[1] <= CAP
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("has_outages", [False, True], ids=["steady", "outages"])
def test_whatever_ends_how_counters_and_ledger_agree_and_nothing_is_held(seed, has_outages):
    dice = random.Random(seed)
    world = World(cap(CAP, user=""), cap(10_000, tenant=EACH, user=EACH), file="shrink = true\n")
    policy = AttemptPolicy(pause=0.0, breaker=BreakerPolicy(failures=10**9))

    async def scenario():
        async with world.running():
            attempts = Attempts(policy)
            beside = [asyncio.create_task(check_caps(world))]
            if has_outages:
                beside.append(asyncio.create_task(come_and_go(world, dice)))
            calls = []
            for _ in range(10):
                many = await asyncio.gather(*(request(world, dice, attempts) for _ in range(30)))
                calls += [call for each in many for call in each]
            if not has_outages:
                assert not beside[0].done()
            for task in beside:
                task.cancel()
            world.budgets.is_away = False
            world.wait(31)
            await world.budgets.expire()
            await world.spending.settle_all()
            await world.spending.reconcile()
            rows = await world.rows()
            assert len(world.spending._settling) == len(world.spending._leases) == 0
            assert all(amounts[1] == amounts[3] == 0 for amounts in world.budgets.counters.values())
            second = await world.spending.reconcile()
            assert (second.tokens, second.nanos) == (0, 0)
            return calls, rows

    calls, rows = asyncio.run(scenario())
    settled = {row.attempt for row in rows if "." not in row.attempt}
    # Every call has its row; what was held and never called, or refused meanwhile, has one of nothing.
    assert len(settled) >= len(calls) > 100
    free = [row for row in rows if row.outcome == "unheld"]
    assert all(row.tokens == row.nanos == 0 for row in free)
    assert world.metric("trireme_budget_rows_lost_total") == 0
