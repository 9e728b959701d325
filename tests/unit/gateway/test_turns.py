import asyncio
from contextlib import asynccontextmanager

import pytest

from trireme.gateway.turns import Turns


class Crowd:
    """Callers that note when their turn begins, and keep it until they are told to end."""

    def __init__(self, count, each=None):
        self._turns = Turns(count, each)
        self._ends = {}
        self._tasks = {}
        self.began = []

    async def come(self, name):
        """`name` is a letter, the group, and what tells it from others of the group."""
        self._ends[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._take(name))
        await settle()

    async def end(self, name):
        self._ends[name].set()
        await self._tasks[name]
        await settle()

    async def cancel(self, name):
        self._tasks[name].cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._tasks[name]
        await settle()

    async def close(self):
        for name in list(self._tasks):
            self._tasks[name].cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _take(self, name):
        async with self._turns.turn(name[0]):
            self.began.append(name)
            await self._ends[name].wait()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def crowd(count, each=None):
    made = Crowd(count, each)
    try:
        yield made
    finally:
        await made.close()


def run(count, work):
    async def all_of_it():
        async with crowd(count) as made:
            await work(made)

    asyncio.run(all_of_it())


def test_as_many_as_there_are_places_begin_at_once():
    async def work(people):
        for name in ("a1", "a2", "a3"):
            await people.come(name)
        assert people.began == ["a1", "a2"]
        await people.end("a2")
        assert people.began == ["a1", "a2", "a3"]

    run(2, work)


def test_the_group_with_the_fewest_goes_first_and_then_who_came_first():
    async def work(people):
        for name in ("a1", "a2", "a3", "a4", "b1", "c1", "b2"):
            await people.come(name)
        await people.end("a1")
        await people.end("a2")
        await people.end("b1")
        await people.end("c1")
        assert people.began == ["a1", "a2", "b1", "a3", "c1", "b2"]

    run(2, work)


def test_who_goes_away_while_waiting_takes_no_turn():
    async def work(people):
        for name in ("a1", "a2", "a3"):
            await people.come(name)
        await people.cancel("a2")
        await people.end("a1")
        assert people.began == ["a1", "a3"]

    run(1, work)


def test_who_goes_away_at_work_gives_the_turn_on():
    async def work(people):
        await people.come("a1")
        await people.come("a2")
        await people.cancel("a1")
        assert people.began == ["a1", "a2"]

    run(1, work)


def test_who_is_called_and_cancelled_at_once_gives_the_turn_on():
    async def work():
        turns = Turns(1)
        began = []

        async def take(name):
            async with turns.turn("a"):
                began.append(name)

        async with turns.turn("a"):
            gone, other = asyncio.create_task(take("gone")), asyncio.create_task(take("other"))
            await settle()
        # Called when the block ended, and not run since.
        gone.cancel()
        await asyncio.gather(gone, other, return_exceptions=True)
        assert gone.cancelled()
        assert began == ["other"]

    asyncio.run(work())


def test_a_turn_of_a_long_line_costs_no_more_than_one_of_a_short_line():
    class Name(str):
        looked_up = 0

        def __hash__(self):
            type(self).looked_up += 1
            return super().__hash__()

    async def look_ups(people):
        Name.looked_up, turns, group = 0, Turns(2), Name("a")

        async def take():
            async with turns.turn(group):
                await asyncio.sleep(0)

        await asyncio.gather(*(take() for _ in range(people)))
        return Name.looked_up

    assert asyncio.run(look_ups(400)) < 3 * asyncio.run(look_ups(200))
