"""The semantic tier: what it serves, what it does not, and that it never raises or waits too long."""

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from fakes.memory_promises import MemoryPromises
from fakes.memory_semantic import MemorySemanticIndex
from fakes.semantic import DIMENSIONS, TableScorer, Watch, WordEmbedder
from trireme.cache.port import Entry, Question
from trireme.cache.promise import Check, Promises, SemanticRule
from trireme.cache.semantic import SemanticLimits, SemanticParts, SemanticTier, place_of
from trireme.errors import UnavailableError

RULE = SemanticRule("models.m", 0.01, 0.02, 0.5)
ASKED = "What is the tallest tower in Paris?"
AGAIN = "Which tower in Paris is the tallest?"
OTHER = "Which tower in Paris is the oldest?"
LIMITS = SemanticLimits(least_similarity=0.4, seconds=60.0)


class Store:
    """A CacheStore in memory."""

    def __init__(self):
        self.kept = {}
        self.fault = None

    async def get(self, key):
        if self.fault:
            raise self.fault
        return self.kept.get(key)

    async def put(self, key, value, seconds):
        if self.fault:
            raise self.fault
        self.kept[key] = value


class World:
    """A tier over fakes, and all of them."""

    def __init__(self, rule=RULE, limits=LIMITS, **parts):
        self.index = MemorySemanticIndex(DIMENSIONS)
        self.store = Store()
        self.embedder = WordEmbedder()
        self.scorer = TableScorer({(ASKED, AGAIN): 0.9})
        self.checks = MemoryPromises()
        self.promises = Promises(self.checks, seconds=0.01)
        self.watch = Watch()
        self.rule = rule
        self.tier = SemanticTier(
            SemanticParts(
                **{
                    "index": self.index,
                    "store": self.store,
                    "embedder": self.embedder,
                    "scorer": self.scorer,
                    "promises": self.promises,
                    "watch": self.watch,
                    "rule_of": lambda tenant, model: self.rule,
                    "read_text": bytes.decode,
                }
                | parts
            ),
            limits,
        )

    async def keep(self, question, body=b"The Eiffel Tower."):
        await self.tier.keep(question, Entry(question.key, body, time.time()))
        await self.settle()

    async def settle(self):
        while self.tier._tasks:
            await asyncio.wait(set(self.tier._tasks))

    async def find(self, question):
        found = await self.tier.find(question)
        return found.entry.body if found else self.watch.outcomes[-1] if self.watch.outcomes else None


@asynccontextmanager
async def opened(**parts):
    world = World(**parts)
    if world.rule is not None:
        world.promises.standing(world.rule)
        await world.promises.refresh()
    await world.tier.start()
    yield world
    await world.tier.close()


def question(text=ASKED, tenant="acme", partition="p", **changes):
    return replace(Question(tenant, f"{tenant}:{partition}:{text}", partition, text, "m"), **changes)


def run(work, **parts):
    async def inner():
        async with opened(**parts) as world:
            await work(world)

    asyncio.run(inner())


def test_a_question_in_other_words_gets_the_answer_with_its_scores():
    async def work(world):
        await world.keep(question())
        found = await world.tier.find(question(AGAIN))
        assert found.entry.body == b"The Eiffel Tower."
        assert found.entry.key == question().key
        assert found.tier == "semantic"
        assert found.details["score"] == "0.9"
        assert 0.4 < float(found.details["sim"]) < 1.0
        assert found.entry.made_at == pytest.approx(time.time(), abs=60)
        assert world.watch.outcomes == ["hit"]

    run(work)


def test_all_candidates_are_scored_in_one_call_and_the_best_is_served():
    async def work(world):
        better = "What tower is the tallest in Paris?"
        world.scorer.table[frozenset((AGAIN, better))] = 0.95
        await world.keep(question())
        await world.keep(question(better), b"Better.")
        assert await world.find(question(AGAIN)) == b"Better."
        assert [len(others) for _, others in world.scorer.calls] == [2]

    run(work)


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ({}, {"tenant": "other"}),
        ({}, {"tenant": "Acme"}),
        ({}, {"partition": "q"}),
    ],
)
def test_another_tenant_or_partition_gets_nothing(kept, asked):
    async def work(world):
        await world.keep(question(**kept))
        assert await world.find(question(AGAIN)) == b"The Eiffel Tower."
        assert await world.find(question(AGAIN, **asked)) == "nothing"

    run(work)


def test_what_a_rule_parts_is_not_scored():
    async def work(world):
        world.scorer.table[frozenset((ASKED, OTHER))] = 0.99
        await world.keep(question())
        twenty = "What is the 20 tallest tower in Paris?"
        assert await world.find(question(twenty)) == "rule_numbers"
        assert world.scorer.calls == []

    run(work)


def test_a_score_below_the_threshold_is_a_miss():
    async def work(world):
        world.scorer.table[frozenset((ASKED, AGAIN))] = 0.49
        await world.keep(question())
        assert await world.find(question(AGAIN)) == "score"

    run(work)


@pytest.mark.parametrize("score", [float("nan"), None])
def test_a_score_that_is_none_is_a_miss(score):
    async def work(world):
        world.scorer.table[frozenset((ASKED, AGAIN))] = score
        await world.keep(question())
        assert await world.find(question(AGAIN)) in ("score", "long")

    run(work)


def test_a_far_question_is_not_scored():
    async def work(world):
        await world.keep(question("How do penguins stay warm?"))
        assert await world.find(question(AGAIN)) == "far"
        assert world.scorer.calls == []

    run(work, limits=replace(LIMITS, least_similarity=0.9))


def test_a_question_whose_answer_is_gone_is_forgotten():
    async def work(world):
        await world.keep(question())
        world.store.kept.clear()
        assert await world.find(question(AGAIN)) == "gone"
        await world.settle()
        assert await world.find(question(AGAIN)) == "nothing"

    run(work)


@pytest.mark.parametrize(
    "asked", [question("Was ist das höchste Gebäude?"), question("What is my name again?")]
)
def test_what_is_not_eligible_is_neither_looked_for_nor_kept(asked):
    async def work(world):
        await world.keep(asked)
        await world.find(asked)
        assert world.embedder.texts == []
        assert world.store.kept == {}

    run(work)


def test_a_question_without_text_or_leave_is_left_alone():
    async def work(world):
        await world.keep(question(text=""))
        await world.keep(question(may_keep=False))
        assert world.store.kept == {}
        await world.keep(question())
        for asked in (question(text=""), question(AGAIN, may_read=False)):
            assert await world.tier.find(asked) is None
        assert world.watch.outcomes == []

    run(work)


def test_the_tier_is_off_without_a_rule():
    async def work(world):
        await world.keep(question())
        assert await world.tier.find(question(AGAIN)) is None
        assert world.embedder.texts == []

    run(work, rule=None)


def test_an_entry_that_is_too_old_for_the_request_is_not_served():
    async def work(world):
        await world.keep(question())
        assert await world.find(question(AGAIN, max_age=60.0)) == b"The Eiffel Tower."
        assert await world.find(question(AGAIN, max_age=0.0)) == "old"

    run(work)


def test_a_text_that_does_not_fit_is_a_miss_and_is_not_kept():
    async def work(world):
        world.embedder.most = 3
        await world.keep(question())
        assert world.store.kept == {}
        assert await world.find(question(AGAIN)) == "long"

    run(work)


@pytest.mark.parametrize("part", ["embedder", "scorer", "store"])
@pytest.mark.parametrize("fault", [UnavailableError("away"), RuntimeError("broken")])
def test_a_part_that_fails_is_a_miss(part, fault):
    async def work(world):
        await world.keep(question())
        getattr(world, part).fault = fault
        assert await world.find(question(AGAIN)) == "failed"
        await world.keep(question("What is the tallest tower in Rome?"))
        getattr(world, part).fault = None
        assert await world.find(question(AGAIN)) == b"The Eiffel Tower."

    run(work)


@pytest.mark.parametrize("part", ["embedder", "scorer"])
def test_a_part_that_is_slow_is_a_miss(part):
    async def work(world):
        await world.keep(question())
        getattr(world, part).seconds = 60.0
        assert await world.find(question(AGAIN)) == "slow"

    run(work, limits=replace(LIMITS, seconds=1.0))


def test_after_failures_in_a_row_nobody_waits_for_a_while():
    async def work(world):
        await world.keep(question())
        world.scorer.fault = UnavailableError("away")
        outcomes = [await world.find(question(AGAIN)) for _ in range(5)]
        assert outcomes == ["failed"] * 3 + ["resting"] * 2
        assert len(world.scorer.calls) == 3

    run(work, limits=replace(LIMITS, faults=3))


def test_a_cancelled_lookup_is_cancelled():
    async def work(world):
        await world.keep(question())
        world.scorer.seconds = 60.0
        task = asyncio.create_task(world.tier.find(question(AGAIN)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(work)


def test_the_vector_of_a_question_that_was_looked_for_is_not_made_again():
    async def work(world):
        assert await world.find(question()) == "nothing"
        await world.keep(question())
        assert world.embedder.texts == [ASKED]

    run(work)


def test_what_is_too_much_in_the_background_is_dropped():
    async def work(world):
        world.embedder.seconds = 0.01
        for n in range(5):
            asked = question(f"What is the height of tower {n}?")
            await world.tier.keep(asked, Entry(asked.key, b"x", 0.0))
        assert world.watch.work == ["dropped"] * 3
        await world.settle()
        assert len(world.store.kept) == 2

    run(work, limits=replace(LIMITS, background=2))


def test_nothing_is_served_before_it_is_known_how_the_promise_stands():
    async def inner():
        world = World()
        world.checks.is_away = True
        await world.tier.start()
        await world.keep(question())
        assert await world.find(question(AGAIN)) == "unread"
        await world.tier.close()

    asyncio.run(inner())


def test_a_tier_that_is_off_serves_nothing_and_gathers_evidence_that_costs_no_call():
    async def work(world):
        await world.keep(question())
        world.promises.record(Check(RULE.scope, "acme/m", 0.9, False))
        assert await world.find(question(AGAIN)) == "off"
        await world.settle()
        await world.keep(question(AGAIN), b"The Eiffel tower")
        assert world.watch.work[-2:] in (["agreed", "kept"], ["kept", "agreed"])
        assert await world.find(question(AGAIN, key="again")) == "off"
        await world.settle()
        await world.keep(question(AGAIN, key="again"), b"Another building, of 1999")
        assert "differed" in world.watch.work
        await world.promises.refresh()
        assert [check.agreed for check in world.checks.read(RULE.scope).checks] == [False, True, False]

    run(work)


def test_a_raised_threshold_is_kept_to_and_what_lies_below_is_compared():
    async def work(world):
        for _ in range(500):
            world.checks.record(Check(RULE.scope, "acme/m", 0.95, True))
        for n in range(40):
            world.checks.record(Check(RULE.scope, "acme/m", 0.6, n % 2 == 0))
        await world.promises.refresh()
        await world.keep(question())
        assert await world.find(question(AGAIN)) == "raised"
        await world.keep(question(AGAIN), b"the eiffel tower")
        await world.promises.refresh()
        assert world.checks.read(RULE.scope).checks[-1] == Check(RULE.scope, "acme/m", 0.9, True)
        world.scorer.table[frozenset((ASKED, AGAIN))] = 0.96
        assert await world.find(question(AGAIN)) == b"The Eiffel Tower."

    run(work)


def test_an_entry_of_another_question_is_a_miss():
    async def work(world):
        await world.keep(question())
        await world.keep(question("How do penguins stay warm?"), b"By feathers.")
        world.store.kept[place_of("acme", question().key)] = world.store.kept[
            place_of("acme", question("How do penguins stay warm?").key)
        ]
        assert await world.find(question(AGAIN)) == "gone"

    run(work)


def test_bytes_in_the_store_that_are_no_entry_are_a_miss():
    async def work(world):
        await world.keep(question())
        world.store.kept[place_of("acme", question().key)] = b"short"
        assert await world.find(question(AGAIN)) == "gone"

    run(work)
