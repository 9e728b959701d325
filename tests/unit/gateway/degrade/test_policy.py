"""The policy on a clock that the test moves: which steps, who is let in, what is counted."""

import asyncio
import dataclasses
import time

import pytest

from fakes.providers import Clock
from trireme.errors import DeadlineError, OverloadedError, UnavailableError
from trireme.gateway.degrade.policy import FORGET_SECONDS, STALE_SECONDS, Degrade
from trireme.gateway.degrade.rows import STEPS
from trireme.gateway.degrade.wants import Deadlines
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import parse_gateway_file
from trireme.observe import metrics as names
from trireme.providers.models import ServedModel

FILE = """
[degrade.rag]
running = 1
waiting = 4
fewer_candidates = 1.0
no_reranking = 2.0
extractive = 3.0
stale = 4.0
smaller_model = 5.0
smaller = "llm"
refuse = {batch = 6.0, normal = 7.0, high = 8.0}
calm_seconds = 1.0
"""
RAG = ServedModel("rag", "answer", True, versions=(("llm", "v"), ("rag", "v"), ("reranker", "v")))
KNOWN = {
    "rag": RAG,
    "llm": ServedModel("llm", "chat", True),
    "reranker": ServedModel("reranker", "rerank", True),
}


class Backlogs:
    """A reader of what the test sets; an error is raised."""

    def __init__(self):
        self.said = {}
        self.is_closed = False

    async def read(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def close(self):
        self.is_closed = True


class Tally:
    def __init__(self):
        self.counts, self.gauges, self.seen = {}, {}, []

    def add(self, metric, *labels, count=1):
        self.counts[(metric.name, *labels)] = self.counts.get((metric.name, *labels), 0) + count

    def set(self, metric, value, *labels):
        self.gauges[(metric.name, *labels)] = value

    def observe(self, metric, seconds, *labels):
        self.seen.append((metric.name, *labels, seconds))


class World:
    def __init__(self, file=FILE):
        self.clock, self.backlogs, self.tally = Clock(), Backlogs(), Tally()
        parsed = parse_gateway_file(file.encode(), "gateway.toml")
        self.degrade = Degrade(parsed, lambda: KNOWN, self.backlogs, self.tally, self.clock)

    async def hear(self, **said):
        self.backlogs.said = said
        await self.degrade.look()

    def choose(self, exchange=None, can=STEPS, model="rag"):
        return self.degrade.choose(exchange or asking(), model, can)

    async def enter(self, exchange=None, model="rag", steps=()):
        return await self.degrade.enter(exchange or asking(), model, steps)

    def deadline(self, seconds):
        return asking(deadlines=Deadlines(self.clock() + seconds))


def asking(**fields):
    exchange = Exchange({}, "chat", {}, "req")
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def run(act, **more):
    async def whole():
        world = World(**more)
        await act(world)
        await world.degrade.close()
        assert world.backlogs.is_closed

    asyncio.run(whole())


def test_each_step_is_taken_in_order_as_the_models_behind_the_route_say_that_more_waits():
    async def act(world):
        for level, seconds in enumerate((0.5, 1.0, 2.0, 3.0)):
            await world.hear(reranker=seconds)
            assert world.choose() == STEPS[:level]
        for level, seconds in ((4, 4.0), (5, 5.0)):
            await world.hear(reranker=seconds)
            assert world.choose() == STEPS[:level]
            assert world.tally.gauges[names.DEGRADE_LEVEL.name, "rag"] == level
            assert world.tally.gauges[names.ROUTE_BACKLOG.name, "rag"] == seconds

    run(act)


def test_steps_are_reversed_one_by_one_while_nothing_waits_also_without_any_request():
    async def act(world):
        await world.hear(reranker=5.0)
        levels = []
        for _ in range(7):
            await world.hear(reranker=0.0)
            levels.append(world.tally.gauges[names.DEGRADE_LEVEL.name, "rag"])
            world.clock.move(1.0)
        assert levels == [5, 4, 3, 2, 1, 0, 0]
        assert world.choose() == ()

    run(act)


def test_the_backlog_of_the_llm_counts_until_answers_are_extractive():
    async def act(world):
        await world.hear(llm=100.0)
        assert world.choose() == STEPS[:3]
        await world.enter(steps=("extractive",))
        with pytest.raises(OverloadedError):
            await world.enter(steps=())

    run(act)


def test_other_models_of_the_server_do_not_count_and_named_ones_alone_do_where_there_are_any():
    async def act(world):
        await world.hear(embedding=100.0)
        assert world.choose() == ()

    run(act)

    async def named(world):
        await world.hear(reranker=100.0)
        assert world.choose() == ()
        await world.hear(embedding=2.0)
        assert world.choose() == STEPS[:2]

    run(named, file=FILE + 'behind = ["embedding"]\n')


def test_without_backlogs_of_triton_the_gateways_own_line_says_how_much_waits():
    async def act(world):
        world.backlogs.said = UnavailableError("away")
        first = await world.enter()
        world.clock.move(1.0)
        first.end()
        running = await world.enter()
        waiting = [asyncio.create_task(world.enter()) for _ in range(2)]
        await asyncio.sleep(0)
        # Two calls of 1 s each wait for one place.
        assert world.choose() == STEPS[:2]
        assert world.tally.gauges == {}
        await world.degrade.look()
        assert world.tally.gauges[names.ROUTE_WAITING.name, "rag"] == 2
        for task in waiting:
            task.cancel()
        running.end()

    run(act)


def test_backlogs_that_were_read_long_ago_say_nothing_of_now():
    async def act(world):
        await world.hear(reranker=2.0)
        world.backlogs.said = UnavailableError("away")
        world.clock.move(STALE_SECONDS + 1)
        await world.degrade.look()
        assert world.tally.gauges[names.ROUTE_BACKLOG.name, "rag"] == 0

    run(act)


def test_steps_that_mean_nothing_for_a_call_are_passed_over():
    async def act(world):
        await world.hear(reranker=5.0)
        assert world.choose(can=("stale", "smaller_model")) == ("stale", "smaller_model")
        assert world.choose(can=()) == ()
        assert world.choose(model="other") == ()

    run(act)


def test_the_lowest_priority_is_refused_first_and_told_when_to_come_again():
    async def act(world):
        for seconds, refused in (
            (5.9, ""),
            (6.0, "batch"),
            (7.0, "batch normal"),
            (8.0, "batch normal high"),
        ):
            await world.hear(reranker=seconds)
            for priority in ("batch", "normal", "high"):
                exchange = asking(priority=priority)
                if priority in refused.split():
                    with pytest.raises(
                        OverloadedError, match=f"of priority {priority} are refused"
                    ) as caught:
                        await world.enter(exchange)
                    assert caught.value.retry_after == seconds
                else:
                    (await world.enter(exchange)).end()
        counts = [
            world.tally.counts.get((names.SHED.name, "rag", priority, "backlog"))
            for priority in ("batch", "normal", "high")
        ]
        assert counts == [3, 2, 1]

    run(act)


def test_nobody_is_refused_any_more_as_soon_as_less_waits():
    async def act(world):
        await world.hear(reranker=9.0)
        with pytest.raises(OverloadedError):
            await world.enter()
        await world.hear(reranker=6.9)
        (await world.enter()).end()

    run(act)


def test_work_that_was_refused_is_counted_in_seconds_as_work_that_was_offered():
    async def act(world):
        turn = await world.enter()
        world.clock.move(2.0)
        turn.end()
        await world.hear(reranker=9.0)
        with pytest.raises(OverloadedError):
            await world.enter()
        assert world.tally.counts[names.SHED_WORK.name, "rag"] == 2.0

    run(act)


def test_a_request_that_would_not_wait_for_so_long_is_refused_at_once():
    async def act(world):
        await world.hear(reranker=4.0)
        with pytest.raises(OverloadedError, match="longer than the request waits"):
            await world.enter(world.deadline(3.0))
        (await world.enter(world.deadline(5.0))).end()

    run(act)


def test_a_request_whose_deadline_has_passed_is_not_started_on_any_route():
    async def act(world):
        late = world.deadline(1.0)
        world.clock.move(1.0)
        for model in ("rag", "other"):
            with pytest.raises(DeadlineError):
                await world.enter(late, model)
        assert world.tally.counts[names.SHED.name, "rag", "normal", "deadline"] == 1

    run(act)


def test_a_deadline_takes_the_steps_with_which_an_answer_still_comes_in_time():
    async def act(world):
        for steps, seconds in (((), 8.0), (STEPS[:1], 6.0), (STEPS[:2], 5.0), (STEPS[:3], 0.5)):
            turn = await world.enter(steps=steps)
            world.clock.move(seconds)
            turn.end()
        assert world.choose(world.deadline(9.0)) == ()
        assert world.choose(world.deadline(7.0)) == STEPS[:1]
        assert world.choose(world.deadline(2.0)) == STEPS[:3]
        assert world.choose(world.deadline(2.0), can=("extractive",)) == ("extractive",)
        # A stream has begun long before it ends.
        streamed = dataclasses.replace(world.deadline(7.0), stream=True)
        assert world.choose(streamed) == ()

    run(act)


def test_what_runs_is_over_when_it_failed_or_was_cancelled_too():
    async def act(world):
        async def fail():
            raise UnavailableError("away")

        for _ in range(3):
            with pytest.raises(UnavailableError):
                await world.degrade.run(asking(), "rag", fail)
        held = asyncio.Event()
        running = asyncio.create_task(world.degrade.run(asking(), "rag", held.wait))
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])

        async def answer():
            return 7

        assert await world.degrade.run(asking(), "rag", answer) == 7

    run(act)


def test_it_looks_in_the_background_until_it_is_closed():
    async def act(world):
        looked = asyncio.Event()

        async def read():
            looked.set()
            return {}

        world.backlogs.read = read
        await world.degrade.start()
        async with asyncio.timeout(30):
            await looked.wait()

    run(act)


def test_without_a_policy_nothing_is_read_and_all_are_let_in():
    async def act(world):
        await world.degrade.start()
        assert world.degrade.row_of("rag") is None
        assert world.choose() == ()
        (await world.enter()).end()
        assert world.tally.counts == {}

    run(act, file="")


def test_an_exchange_without_deadlines_has_all_the_time():
    assert asking().seconds_left() is None
    assert asking(deadlines=Deadlines(time.monotonic() - 5)).seconds_left() == 0.001


def test_a_reader_that_hangs_is_asked_once_and_what_it_said_before_is_forgotten():
    async def act(world):
        await world.hear(reranker=9.0)
        assert world.choose() == STEPS
        asked, may_answer = [], asyncio.Event()

        async def read():
            asked.append(True)
            await may_answer.wait()
            return {"reranker": 9.0}

        world.backlogs.read = read
        for _ in range(2):
            world.clock.move(STALE_SECONDS)
            await world.degrade.look()
        assert len(asked) == 1
        assert world.tally.gauges[names.ROUTE_BACKLOG.name, "rag"] == 0.0
        # What it says at last is as old as the question.
        world.clock.move(0.5)
        may_answer.set()
        await world.degrade.look()
        assert world.tally.gauges[names.ROUTE_BACKLOG.name, "rag"] == 0.0
        await world.degrade.look()
        assert world.tally.gauges[names.ROUTE_BACKLOG.name, "rag"] == 9.0

    run(act)


def test_a_reader_that_hangs_does_not_keep_the_policy_from_closing():
    async def act(world):
        hangs = asyncio.Event()

        async def read():
            hangs.set()
            await asyncio.Event().wait()

        world.backlogs.read = read
        await world.degrade.start()
        await hangs.wait()

    async def whole():
        world = World()
        await act(world)
        async with asyncio.timeout(60):
            await world.degrade.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(whole())


def test_a_model_named_with_its_provider_stands_in_the_same_line():
    async def act(world):
        await world.hear(reranker=8.0)
        for model in ("rag", "local:rag"):
            assert world.choose(model=model) == STEPS
            with pytest.raises(OverloadedError):
                await world.enter(model=model)
        assert world.degrade.row_of("other:rag") is None

    run(act)


def test_the_name_of_a_chain_without_that_model_is_another_route():
    async def act(world):
        assert world.degrade.row_of("mine") is not None
        assert world.degrade.row_of("local:mine") is None

    run(
        act,
        file='[providers.p]\nkind = "openai"\n[models.mine]\nchain = ["p:m"]\n[degrade.mine]\nrunning = 1',
    )


@pytest.mark.parametrize("priority", ["batch", "normal"])
def test_who_says_a_lower_priority_is_let_in_for_no_longer_where_that_has_no_seconds(priority):
    async def act(world):
        await world.hear(rag=2.0)
        with pytest.raises(OverloadedError):
            await world.enter(asking(priority=priority))
        (await world.enter(asking(priority="high"))).end()

    run(act, file="[degrade.rag]\nrefuse = {normal = 2.0}")


def test_one_slow_call_does_not_shorten_all_answers_with_a_deadline_for_ever():
    async def act(world):
        turn = await world.enter()
        world.clock.move(30.0)
        turn.end()
        assert world.choose(world.deadline(10.0)) == STEPS[:1]
        world.clock.move(FORGET_SECONDS + 1)
        assert world.choose(world.deadline(10.0)) == ()
        # The next call says how long they take by now.
        turn = await world.enter()
        world.clock.move(1.0)
        turn.end()
        assert world.choose(world.deadline(10.0)) == ()
        assert world.choose(world.deadline(0.9)) == STEPS[:1]

    run(act)


def test_a_call_that_its_deadline_broke_off_would_have_taken_longer_and_any_other_says_nothing():
    async def act(world):
        turn = await world.enter(world.deadline(10.0))
        world.clock.move(3.0)
        turn.end(is_whole=False)
        assert world.choose(world.deadline(1.0)) == ()
        turn = await world.enter(world.deadline(10.0))
        world.clock.move(10.0)
        turn.end(is_whole=False)
        assert world.choose(world.deadline(10.0)) == STEPS[:1]

    run(act)


def test_how_long_a_client_takes_to_read_a_stream_is_not_how_long_an_answer_takes():
    async def act(world):
        turn = await world.enter(asking(stream=True))
        world.clock.move(500.0)
        turn.end()
        assert world.choose(world.deadline(10.0)) == ()

    run(act)


LOADED = """
[degrade.llm]
running = 2
waiting = 8
refuse = {batch = 50.0, normal = 60.0, high = 70.0}
offered_seconds = 70.0
"""


async def answer_one(world, seconds, model="llm"):
    """One call of so many seconds, which the line's mean is made of."""
    turn = await world.enter(asking(priority="high"), model)
    world.clock.move(seconds)
    turn.end()


async def outcomes(world, priority, count, model="llm"):
    """Of so many requests that come at once: turns that began, tasks that wait, refusals."""
    tasks = [asyncio.ensure_future(world.enter(asking(priority=priority), model)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    refused = [task for task in tasks if task.done() and task.exception() is not None]
    begun = [task.result() for task in tasks if task.done() and task.exception() is None]
    waiting = [task for task in tasks if not task.done()]
    return begun, waiting, refused


async def give_up(waiting):
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_who_alone_overloads_a_route_does_not_wait_and_who_does_not_waits_as_before():
    async def act(world):
        # Each call takes 1.4 s of one of two places: 100 requests in 70 s fill both.
        await answer_one(world, 1.4)
        for _ in range(100):
            world.degrade._routes["llm"].offered.note("normal")
        high, waits, _ = await outcomes(world, "high", 3)
        assert (len(high), len(waits)) == (2, 1)
        _, waiting, refused = await outcomes(world, "normal", 2)
        assert (len(waiting), len(refused)) == (0, 2)
        with pytest.raises(OverloadedError, match="more requests of priority normal and above come"):
            raise refused[0].exception()
        assert world.tally.counts[names.SHED.name, "llm", "normal", "load"] == 2
        await give_up(waits)
        for turn in high:
            turn.end(is_whole=False)
        # A place is free: nothing is gained by refusing; nor lost by others to whom priority gives it.
        [turn], _, _ = await outcomes(world, "normal", 1)
        _, _, refused = await outcomes(world, "batch", 1)
        assert len(refused) == 1
        turn.end(is_whole=False)

    run(act, file=LOADED)


def test_a_reserved_place_is_left_to_those_whose_load_fits():
    async def act(world):
        await answer_one(world, 1.4)
        for _ in range(100):
            world.degrade._routes["llm"].offered.note("normal")
        begun, _, refused = await outcomes(world, "normal", 2)
        assert (len(begun), len(refused)) == (1, 1)
        high, _, _ = await outcomes(world, "high", 1)
        assert len(high) == 1
        # Without such a load it is a place as any.
        for turn in (*begun, *high):
            turn.end(is_whole=False)
        world.clock.move(77)
        begun, _, _ = await outcomes(world, "normal", 2)
        assert len(begun) == 2
        for turn in begun:
            turn.end()

    run(act, file=f"{LOADED}reserved = 1\n")


def test_everybody_may_wait_again_once_no_more_comes_than_is_answered():
    async def act(world):
        await answer_one(world, 1.4)
        for _ in range(100):
            world.degrade._routes["llm"].offered.note("normal")
        begun, _, refused = await outcomes(world, "normal", 3)
        assert (len(begun), len(refused)) == (2, 1)
        for turn in begun:
            turn.end(is_whole=False)
        world.clock.move(77)
        begun, waiting, refused = await outcomes(world, "normal", 3)
        assert (len(begun), len(waiting), len(refused)) == (2, 1, 0)
        await give_up(waiting)
        for turn in begun:
            turn.end()

    run(act, file=LOADED)


def test_a_burst_of_as_much_work_as_refuse_lets_wait_waits():
    async def act(world):
        await answer_one(world, 1.4)
        begun, waiting, refused = await outcomes(world, "normal", 10)
        assert (len(begun), len(waiting), len(refused)) == (2, 8, 0)
        await give_up(waiting)
        for turn in begun:
            turn.end()

    run(act, file=LOADED)


def test_a_route_that_declares_no_refusal_lets_all_wait_whatever_comes():
    async def act(world):
        await answer_one(world, 100.0)
        begun, waiting, refused = await outcomes(world, "batch", 10)
        assert (len(begun), len(waiting), len(refused)) == (2, 8, 0)
        await give_up(waiting)
        for turn in begun:
            turn.end()

    run(act, file="[degrade.llm]\nrunning = 2\nwaiting = 8\noffered_seconds = 0.1")


def test_steps_come_before_refusals_of_a_load_and_stay_while_it_lasts():
    file = f"{LOADED}stale = 1.0\ncalm_seconds = 1.0\n"

    async def act(world):
        await answer_one(world, 1.4)
        for _ in range(100):
            world.degrade._routes["llm"].offered.note("normal")
        assert world.choose(model="llm", can={"stale"}) == ()
        begun, waiting, refused = await outcomes(world, "normal", 4)
        assert (len(begun), len(waiting), len(refused)) == (2, 2, 0)
        assert world.choose(model="llm", can={"stale"}) == ("stale",)
        _, _, refused = await outcomes(world, "normal", 1)
        assert len(refused) == 1
        await give_up(waiting)
        for turn in begun:
            turn.end(is_whole=False)
        for _ in range(5):
            await world.hear(llm=0.0)
            world.clock.move(1.0)
        assert world.choose(model="llm", can={"stale"}) == ("stale",)
        world.clock.move(80.0)
        for _ in range(3):
            await world.hear(llm=0.0)
            world.clock.move(1.0)
        assert world.choose(model="llm", can={"stale"}) == ()

    run(act, file=file)


def test_how_long_each_stood_in_line_is_counted():
    async def act(world):
        [first], _, _ = await outcomes(world, "normal", 1)
        [second], [third], _ = await outcomes(world, "normal", 2)
        world.clock.move(1.5)
        first.end()
        (await third).end()
        second.end()
        assert world.tally.seen == [(names.ROUTE_WAIT.name, "llm", seconds) for seconds in (0.0, 0.0, 1.5)]
        await world.degrade.look()
        load = world.degrade._routes["llm"].line.load(3 / 70)
        assert 0 < load == world.tally.gauges[names.ROUTE_OFFERED.name, "llm", "batch"]

    run(act, file=LOADED)


SMALLER = """
[models.small]
chain = ["local:llm"]
[degrade.small]
running = 1
waiting = 1
[degrade.rag]
running = 1
waiting = 4
smaller_model = 1.0
smaller = "small"
refuse = {batch = 6.0}
"""


def test_who_is_given_the_smaller_model_waits_for_its_place_and_takes_none_of_the_models_it_named():
    async def act(world):
        enter = world.degrade.enter
        steps = ("smaller_model",)
        first = await enter(asking(), "rag", steps, "small")
        routes = world.degrade._routes
        assert (routes["rag"].line.running, routes["small"].line.running) == (0, 1)
        second = asyncio.ensure_future(enter(asking(), "rag", steps, "small"))
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError, match="1 calls of this model run and 1 wait"):
            await enter(asking(), "rag", steps, "small")
        assert world.tally.counts[names.SHED.name, "small", "normal", "backlog"] == 1
        # The named model itself is free.
        own = await enter(asking(), "rag", (), "rag")
        own.end()
        first.end()
        (await second).end()
        assert routes["small"].line.running == 0

    run(act, file=SMALLER)


def test_who_is_given_the_smaller_model_is_still_refused_by_the_policy_of_the_one_it_named():
    async def act(world):
        await world.hear(rag=7.0)
        with pytest.raises(OverloadedError, match="wait for model 'rag'"):
            await world.degrade.enter(asking(priority="batch"), "rag", ("smaller_model",), "small")
        assert world.degrade._routes["small"].line.running == 0

    run(act, file=SMALLER)


def test_a_smaller_model_without_a_policy_takes_the_place_of_the_one_that_was_named():
    async def act(world):
        turn = await world.degrade.enter(asking(), "rag", ("smaller_model",), "other")
        assert world.degrade._routes["rag"].line.running == 1
        turn.end()

    run(act, file=SMALLER)


def test_a_request_knows_how_long_it_stood_in_lines_and_a_route_how_many_stand_there():
    async def act(world):
        first = await world.enter(model="llm")
        asked = asking()
        second = asyncio.ensure_future(world.enter(asked, model="llm"))
        await asyncio.sleep(0)
        assert ("llm", 1) in [(name, waiting) for name, _, waiting in world.degrade.standing()]
        world.clock.move(1.5)
        first.end()
        (await second).end()
        assert asked.waited == 1.5
        free = asking()
        (await world.enter(free, model="llm")).end()
        assert free.waited == 0.0

    run(act, file="[degrade.llm]\nrunning = 1\nwaiting = 4\n")
