"""Ten times the load that a route carries, second by second on a clock of the test: who waits, and for how long."""

import asyncio
import heapq
import itertools
import random

import pytest

from fakes.providers import Clock
from trireme.access.priorities import PRIORITIES
from trireme.errors import OverloadedError
from trireme.gateway.degrade.policy import Degrade
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import parse_gateway_file

SEATS, SECONDS = 8, 60.0
# Of an answer, as many of each.
TOOK = (0.175, 0.255, 0.415, 0.495)
# A request a second for each of them would fill every seat.
SATURATED = SEATS / (sum(TOOK) / len(TOOK))
SHARES = (0.5, 0.45, 0.05)
FILE = """
[degrade.llm]
running = 8
waiting = 64
refuse = {batch = 0.05, normal = 0.1, high = 0.2}
"""


class Run:
    """Requests at random moments. answered: by priority the seconds from their coming to their end."""

    def __init__(self, file, seed=1):
        self.clock = Clock()
        self.degrade = Degrade(parse_gateway_file(file.encode(), "gateway.toml"), clock=self.clock)
        self.line = self.degrade._routes["llm"].line
        self._random = random.Random(seed)
        self._number = itertools.count()
        self._ends, self._tasks = [], {}
        self.begin()

    def begin(self):
        self.came = dict.fromkeys(PRIORITIES, 0)
        self.answered = {priority: [] for priority in PRIORITIES}

    async def load(self, rate, seconds, shares=SHARES):
        end = self.clock() + seconds
        coming = self.clock()
        while (coming := coming + self._random.expovariate(rate)) < end:
            await self._pass_until(coming)
            priority = self._random.choices(PRIORITIES, shares)[0]
            self.came[priority] += 1
            exchange = Exchange({}, "chat", {}, "req", priority=priority)
            task = asyncio.ensure_future(self.degrade.enter(exchange, "llm"))
            self._tasks[task] = (priority, self.clock())
            await self._see()

    async def _pass_until(self, moment):
        while self._ends and self._ends[0][0] <= moment:
            at, _, turn, priority, came = heapq.heappop(self._ends)
            self.clock.move(at - self.clock())
            self.answered[priority].append(at - came)
            turn.end()
            await self._see()
        self.clock.move(moment - self.clock())

    async def _see(self):
        for _ in range(3):
            await asyncio.sleep(0)
        for task in [one for one in self._tasks if one.done()]:
            priority, came = self._tasks.pop(task)
            if task.exception() is None:
                ends = self.clock() + self._random.choice(TOOK)
                entry = (ends, next(self._number), task.result(), priority, came)
                heapq.heappush(self._ends, entry)
            else:
                assert isinstance(task.exception(), OverloadedError)

    def p95(self):
        every = sorted(itertools.chain(*self.answered.values()))
        return every[int(0.95 * len(every))]

    def share(self, priority):
        return len(self.answered[priority]) / self.came[priority]

    async def close(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.degrade.close()


def measured(file, shares=SHARES):
    """The p95 at 0.8 of what fills the seats, at ten times that and after it, and the run."""

    async def work():
        run, p95 = Run(file), []
        for times, seconds in ((1, 4 * SECONDS), (10, SECONDS), (1, 4 * SECONDS)):
            run.begin()
            await run.load(0.8 * SATURATED * times, seconds, shares)
            p95.append(run.p95())
            if times > 1:
                over = {one: run.share(one) for one in PRIORITIES if run.came[one]}
                answers = sum(map(len, run.answered.values())) / seconds
        await run.close()
        return p95, over, answers

    return asyncio.run(work())


def test_ten_times_the_load_leaves_the_p95_of_answers_and_the_high_priority_as_they_are():
    (usual, over, after), shares, answers = measured(FILE)
    assert over < 1.06 * usual
    assert after < 1.06 * usual
    assert shares["high"] > 0.99
    assert shares["batch"] < 0.01 < shares["normal"] < 0.25
    # The seats stay taken.
    assert answers > 0.95 * SATURATED


def test_without_a_measure_of_the_load_everybody_would_wait_as_long_as_it_may():
    (usual, over, _), shares, _ = measured(FILE + "offered_seconds = 1e9\n")
    assert over > 1.2 * usual
    assert shares["high"] < 0.97


def test_a_reserved_place_takes_the_wait_away_for_a_tenth_of_the_answers():
    (usual, over, _), shares, answers = measured(FILE + "reserved = 1\n")
    assert over < usual
    assert shares["high"] > 0.99
    assert 0.88 * SATURATED < answers < 0.95 * SATURATED


@pytest.mark.parametrize("shares", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_a_load_of_one_priority_alone_leaves_the_p95_of_answers_too(shares):
    (usual, over, after), _, answers = measured(FILE, shares)
    assert over < 1.02 * usual
    assert after < 1.06 * usual
    assert answers > 0.95 * SATURATED
