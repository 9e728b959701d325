"""The line: who runs, who waits, who is turned away; nobody is called whose time is over."""

import asyncio
import random
import time

import pytest

from fakes.providers import Clock
from trireme.errors import DeadlineError, OverloadedError
from trireme.gateway.degrade.line import Line, Place


class Crowd:
    """Callers by name, each a task that enters; `began` has the order in which they were let in."""

    def __init__(self, running, waiting):
        self.clock = Clock()
        self.line = Line(running, waiting, self.clock)
        self.began = []
        self._tasks = {}

    async def come(self, *names, deadline=None):
        for name in names:
            self._tasks[name] = asyncio.create_task(self._enter(name, deadline))
            await settle()

    async def _enter(self, name, deadline):
        place = await self.line.enter(deadline)
        self.began.append(name)
        return place

    async def leave(self, name, **how):
        (await self._tasks[name]).leave(**how)
        await settle()

    async def cancel(self, name):
        self._tasks[name].cancel()
        await settle()

    async def fault_of(self, name):
        with pytest.raises((OverloadedError, DeadlineError)) as caught:
            await self._tasks[name]
        return caught.value


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def run(act, running=1, waiting=2):
    async def whole():
        crowd = Crowd(running, waiting)
        await act(crowd)

    asyncio.run(whole())


def test_they_are_let_in_in_the_order_in_which_they_came():
    async def act(crowd):
        await crowd.come("a", "b", "c")
        assert crowd.began == ["a"]
        await crowd.leave("a")
        assert crowd.began == ["a", "b"]
        await crowd.leave("b")
        assert crowd.began == ["a", "b", "c"]

    run(act)


def test_beyond_the_line_a_caller_is_turned_away_at_once_and_told_when_to_come_again():
    async def act(crowd):
        await crowd.come("a", "b", "c", "d")
        error = await crowd.fault_of("d")
        assert isinstance(error, OverloadedError)
        assert error.retry_after >= 1
        assert crowd.line.waiting == 2

    run(act)


def test_who_is_cancelled_in_line_is_as_if_he_had_not_come():
    async def act(crowd):
        await crowd.come("a", "b", "c")
        await crowd.cancel("b")
        assert crowd.line.waiting == 1
        await crowd.leave("a")
        assert crowd.began == ["a", "c"]
        await crowd.leave("c")
        assert (crowd.line.running, crowd.line.waiting) == (0, 0)

    run(act)


def test_who_is_cancelled_in_the_moment_of_his_call_gives_his_turn_on():
    async def act(crowd):
        await crowd.come("a", "b", "c")
        place = await crowd._tasks["a"]
        place.leave()
        crowd._tasks["b"].cancel()
        await settle()
        assert crowd.began == ["a", "c"]
        assert crowd.line.running == 1

    run(act)


def test_whose_deadline_passed_before_his_turn_is_not_let_in():
    async def act(crowd):
        await crowd.come("a")
        await crowd.come("late", deadline=crowd.clock() + 60)
        await crowd.come("c")
        crowd.clock.move(60)
        await crowd.leave("a")
        assert isinstance(await crowd.fault_of("late"), DeadlineError)
        assert crowd.began == ["a", "c"]

    run(act)


def test_whose_deadline_passes_while_he_waits_is_told_so_then():
    async def act(crowd):
        await crowd.come("a")
        await crowd.come("late", deadline=crowd.clock() + 0.001)
        assert isinstance(await crowd.fault_of("late"), DeadlineError)
        assert (crowd.line.running, crowd.line.waiting) == (1, 0)

    run(act)


def test_who_comes_too_late_is_not_let_in_though_nobody_runs():
    async def act(crowd):
        await crowd.come("late", deadline=crowd.clock())
        assert isinstance(await crowd.fault_of("late"), DeadlineError)
        assert crowd.line.running == 0

    run(act)


def test_the_backlog_is_the_time_until_all_in_line_have_begun():
    async def act(crowd):
        await crowd.come("a", "b")
        assert crowd.line.backlog == 0
        crowd.clock.move(4)
        await crowd.leave("a")
        assert crowd.line.service_seconds == pytest.approx(4)
        await crowd.come("c", "d", "e", "f")
        # Four wait for two places, each held for 4 s.
        assert crowd.line.waiting == 3
        assert crowd.line.backlog == pytest.approx(3 * 4 / 2)

    run(act, running=2, waiting=9)


def test_an_upstream_that_stands_still_shows_in_the_backlog_before_any_call_has_ended():
    async def act(crowd):
        await crowd.come("a", "b")
        crowd.clock.move(30)
        assert crowd.line.backlog == pytest.approx(30)

    run(act)


def test_who_was_called_and_has_not_come_yet_counts_as_begun_now():
    async def act(crowd):
        await crowd.come("a", "b", "c")
        (await crowd._tasks["a"]).leave()
        # "b" was called, and its task has not run since.
        assert crowd.began == ["a"]
        assert crowd.line.service_seconds == 0

    run(act)


def test_a_call_that_failed_says_nothing_of_how_long_calls_take():
    async def act(crowd):
        await crowd.come("a")
        crowd.clock.move(50)
        await crowd.leave("a", is_whole=False)
        assert crowd.line.service_seconds == 0
        assert crowd.line.running == 0

    run(act)


def test_leaving_twice_is_leaving_once():
    async def act(crowd):
        await crowd.come("a", "b", "c")
        await crowd.leave("a")
        await crowd.leave("a")
        assert crowd.began == ["a", "b"]
        assert crowd.line.running == 1

    run(act)


def test_a_place_without_a_line_keeps_nobody_waiting():
    Place(None, 0.0).leave()


@pytest.mark.parametrize("seed", range(5))
def test_however_calls_end_the_line_is_empty_after_them(seed):
    async def act():
        dice = random.Random(seed)
        line = Line(3, 8)
        most = 0

        async def call():
            nonlocal most
            deadline = dice.choice((None, time.monotonic() + dice.random() / 100))
            place = await line.enter(deadline)
            most = max(most, line.running)
            try:
                await asyncio.sleep(dice.choice((0, 0, 0.001)))
                if dice.random() < 0.3:
                    raise RuntimeError
            finally:
                for _ in range(dice.choice((1, 2))):
                    place.leave(is_whole=dice.random() < 0.5)

        tasks = []
        for _ in range(300):
            tasks.append(asyncio.create_task(call()))
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            if dice.random() < 0.4:
                dice.choice(tasks).cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        known = (OverloadedError, DeadlineError, RuntimeError, asyncio.CancelledError, type(None))
        assert all(isinstance(one, known) for one in ended)
        assert (line.running, line.waiting, line.backlog) == (0, 0, 0.0)
        assert 1 <= most <= 3

    asyncio.run(act())
