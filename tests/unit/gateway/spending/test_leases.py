"""Holds that run are kept; those of a gateway that died end."""

import asyncio

from fakes.providers import ScriptedProvider, target_of
from fakes.spending import World, ask, call_of, cap
from trireme.budget.port import Progress
from trireme.gateway.spending.health import StoreHealth
from trireme.gateway.spending.leases import Leases
from trireme.providers.chat import Finished, Started, TextDelta, Usage


def test_an_attempt_that_outlasts_its_lease_is_kept_with_what_it_has_used():
    world = World(cap(10_000))
    used = []

    async def last():
        world.wait(20)
        await world.spending._leases.extend()
        await world.budgets.expire()
        used.extend(hold["used"] for hold in world.budgets.holds.values())

    script = (Started("m", 7), TextDelta("ten bytes "), last, last, Usage(7, 3), Finished("stop"))

    async def scenario():
        async with world.running():
            await ask(world, call_of(max_tokens=50), target_of(ScriptedProvider(script)))
            return await world.rows(), len(world.spending._leases)

    (row,), running = asyncio.run(scenario())
    assert (row.outcome, row.tokens, running) == ("ok", 10, 0)
    assert used == [(7 + 4, 7 + 40)] * 2


def test_a_hold_that_has_ended_is_not_extended_again():
    world = World()
    asked = []

    async def extend(running, seconds):
        asked.append((running, seconds))
        return [one.id for one in running if one.id == "gone"]

    async def scenario():
        world.budgets.extend = extend
        leases = Leases(world.budgets, 30.0, StoreHealth())
        await leases.extend()
        for name in ("gone", "here", "done"):
            leases.add(name, lambda name=name: Progress(name, 1, 2))
        leases.remove("done")
        leases.remove("never")
        await leases.extend()
        await leases.extend()
        return len(leases)

    assert asyncio.run(scenario()) == 1
    both = [Progress("gone", 1, 2), Progress("here", 1, 2)]
    assert asked == [(both, 30.0), (both[1:], 30.0)]
