"""Shadow checks: which hits are asked upstream as well, and what comes of it."""

import asyncio
from io import StringIO

import pytest

from fakes.memory_promises import MemoryPromises
from fakes.semantic import Watch
from trireme.cache.port import Entry, Found, Question
from trireme.cache.promise import Check, Promises, SemanticRule, Standing
from trireme.errors import UnavailableError
from trireme.gateway.caching.codec import encode_events
from trireme.gateway.caching.semantic_watch import GatewaySemanticWatch
from trireme.gateway.caching.shadow import ShadowChecks, read_text
from trireme.gateway.log import Log
from trireme.gateway.metrics import GatewayMetrics
from trireme.providers.chat import Finished, Started, TextDelta
from trireme.providers.targets import OpenAnswer

RULE = SemanticRule("models.m", 0.01, 0.02, 0.5)
QUESTION = Question("acme", "k", "p", "What is the capital of France?", "m")


def events(*texts, ends=True):
    return [Started("m"), *(TextDelta(text) for text in texts), *([Finished("stop")] if ends else [])]


FOUND = Found(
    Entry("other", encode_events(events("The capital is ", "Paris."), 10_000), 0.0),
    "semantic",
    {"sim": "0.95", "score": "0.9"},
)


def answering(given):
    closed = []

    async def stream():
        try:
            for event in given:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            closed.append(True)

    async def ask():
        if isinstance(given, Exception):
            raise given
        return OpenAnswer(None, stream(), ())

    ask.closed = closed
    return ask


class World:
    def __init__(self, draw=0.0, running=8):
        self.store = MemoryPromises()
        self.promises = Promises(self.store)
        self.watch = Watch()
        self.shadow = ShadowChecks(
            self.promises,
            lambda tenant, model: RULE if model == "m" else None,
            self.watch,
            draw=lambda: draw,
            running=running,
        )

    async def check(self, given):
        begun = self.shadow.begin(QUESTION, FOUND, answering(given))
        await self.shadow.close()
        await self.promises.refresh()
        return begun, [check.agreed for check in self.store.read(RULE.scope).checks]


def run(work, **options):
    async def inner():
        world = World(**options)
        world.promises.standing(RULE)
        await world.promises.refresh()
        await work(world)

    asyncio.run(inner())


@pytest.mark.parametrize(
    ("texts", "agreed"), [(("the capital is paris",), True), (("It is Lyon, since 1999.",), False)]
)
def test_a_check_compares_the_kept_answer_with_the_providers(texts, agreed):
    async def work(world):
        assert await world.check(events(*texts)) == (True, [agreed])
        assert world.watch.work == ["agreed" if agreed else "differed"]
        assert world.store.read(RULE.scope).checks[0] == Check(RULE.scope, "acme/m", 0.9, agreed)

    run(work)


@pytest.mark.parametrize(
    "given",
    [
        UnavailableError("away"),
        events("The capital", ends=False),
        [Started("m"), UnavailableError("cut")],
        [*events("The capital", ends=False), Finished("length")],
        [*events("The capital", ends=False), Finished("filter")],
    ],
)
def test_a_call_that_fails_or_is_cut_says_nothing(given):
    async def work(world):
        assert await world.check(given) == (True, [])
        assert world.watch.work == ["failed"]

    run(work)


def test_only_the_share_of_hits_is_checked():
    async def work(world):
        assert await world.check(events("x")) == (False, [])

    # Of the first hits 0.2 are.
    run(work, draw=0.2)

    async def other(world):
        begun, _ = await world.check(events("x"))
        assert begun

    run(other, draw=0.19)


def test_no_more_checks_run_at_once_than_may():
    async def work(world):
        assert world.shadow.begin(QUESTION, FOUND, answering(events("Paris")))
        assert not world.shadow.begin(QUESTION, FOUND, answering(events("Paris")))
        assert world.watch.work == ["dropped"]
        await world.shadow.close()

    run(work, running=1)


def test_the_answer_is_closed_when_it_was_read():
    async def work(world):
        ask = answering(events("Paris"))
        world.shadow.begin(QUESTION, FOUND, ask)
        await world.shadow.close()
        assert ask.closed == [True]

    run(work)


def test_a_miss_says_that_the_cache_is_off():
    async def work(world):
        assert world.shadow.note(QUESTION) == ""
        world.promises.record(Check(RULE.scope, "acme/m", 0.9, False))
        assert world.shadow.note(QUESTION) == "; semantic=off"
        assert world.shadow.note(Question("acme", "k", "p", "", "m")) == ""
        assert world.shadow.note(Question("acme", "k", "p", "What?", "n")) == ""

    run(work)


def test_the_text_of_an_entry_that_cannot_be_read_is_empty():
    assert read_text(FOUND.entry.body) == "The capital is Paris."
    assert read_text(b"\x00") == ""


def test_a_standing_is_shown_and_a_change_is_logged():
    metrics, stream = GatewayMetrics(), StringIO()
    watch = GatewaySemanticWatch(metrics, Log(stream))
    watch.looked("rule_names", 0.01)
    watch.worked("agreed")
    watch.stands(Standing("models.m", 299, 0, 0.009969, True, {}), False)
    assert stream.getvalue() == ""
    watch.stands(Standing("models.m", 300, 1, 0.0157, False, {}), True)
    shown = metrics.render([]).decode()
    for line in (
        'trireme_semantic_lookups_total{outcome="rule_names"} 1.0',
        'trireme_semantic_work_total{outcome="agreed"} 1.0',
        'trireme_semantic_false_hits_upper{scope="models.m"} 0.0157',
        'trireme_semantic_checks{result="differed",scope="models.m"} 1.0',
        'trireme_semantic_is_on{scope="models.m"} 0.0',
    ):
        assert line in shown
    assert "semantic cache of models.m is off: 1 of 300 checks differed, at most 1.57% " in stream.getvalue()
