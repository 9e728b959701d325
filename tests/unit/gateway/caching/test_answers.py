"""Answers over a store in memory: who asks upstream, who reads along, and what is kept."""

import asyncio
import dataclasses
from contextlib import aclosing
from functools import partial

import pytest

from fakes.memory_cache import MemoryCache
from fakes.providers import ScriptedProvider, fault, target_of
from trireme.access.keys import Key
from trireme.cache.exact import ExactTier
from trireme.cache.port import Found
from trireme.errors import DeadlineError, ResourceExhaustedError
from trireme.gateway.caching.answers import Answers, Caching, TierRow
from trireme.gateway.caching.codec import encode_events
from trireme.gateway.caching.fingerprints import Fingerprints
from trireme.gateway.caching.locks import QuestionLocks
from trireme.gateway.caching.loose import Loose
from trireme.gateway.chains import Chain
from trireme.gateway.degrade.wants import Deadlines
from trireme.gateway.exchange import Exchange
from trireme.gateway.file import parse_gateway_file
from trireme.gateway.spending.spending import Spending
from trireme.providers.chat import ChatCall, Finished, Message, Started, Text, TextDelta, Usage
from trireme.providers.port import ProviderError
from trireme.providers.targets import Attempt, OpenAnswer

WHOLE = [Started("m-1"), TextDelta("one "), TextDelta("two"), Usage(3, 2), Finished("stop")]
CALL = ChatCall(
    "anthropic", "m", (Message("user", (Text("hi"),)),), tenant="acme", temperature=0.0, stream=True
)
LOOSE = Loose()
FILE = """
[providers.a]
kind = "openai"
[providers.b]
kind = "openai"
[models.off]
chain = ["a:m"]
exact = "off"
"""


class Hits(Spending):
    def __init__(self):
        self.hits = []

    def record_hit(self, exchange, tier, usage, target):
        self.hits.append((exchange.request_id, tier, usage, target.label))


class Upstream:
    """Opens an answer as a script says: events, errors, and functions whose result is awaited. `calls` counts."""

    def __init__(self, *scripts, opens=()):
        self.scripts = scripts or (WHOLE,)
        # For each call, in order: what is done before its answer opens.
        self.opens = list(opens)
        self.calls = 0
        self.running = 0
        self.target = target_of(ScriptedProvider())

    async def ask(self, served=None, degraded=()):
        script = self.scripts[min(self.calls, len(self.scripts) - 1)]
        self.calls += 1
        if self.opens:
            step = self.opens.pop(0)
            if isinstance(step, BaseException):
                raise step
            if step is not None:
                await step()
        events = self._events(script)
        await anext(events)
        made = (Attempt(self.target.label, "ok"),)
        return OpenAnswer(served or self.target, events, made, degraded=degraded)

    async def _events(self, script):
        self.running += 1
        try:
            yield Usage()
            for step in script:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await step()
                else:
                    yield step
        finally:
            self.running -= 1


class Gateway:
    """One gateway process; several share `store`."""

    def __init__(self, upstream, store=None, *, file=FILE, tiers=None, has_locks=True, locks=None):
        self.upstream = upstream
        self.store = store or MemoryCache()
        self.spending = Hits()
        self.counts = []
        self.chain = Chain((upstream.target,), ())
        self.answers = Answers(
            Caching(
                parse_gateway_file(file.encode(), "f"),
                Fingerprints(parse_gateway_file(file.encode(), "f").providers, None),
                self.spending,
                [TierRow(ExactTier(self.store), 1.0)] if tiers is None else tiers,
                (locks or QuestionLocks(self.store)) if has_locks else None,
                self,
            )
        )

    def count_lookup(self, tier, outcome, seconds=None):
        self.counts.append((tier, outcome))

    async def open(
        self, call=CALL, name="r", cache_control="", ask=None, *, notes=(), loose=LOOSE, timeout=None
    ):
        headers = {"cache-control": cache_control} if cache_control else {}
        exchange = Exchange({}, "chat", headers, name, key=Key("k", call.tenant, "u"))
        if timeout is not None:
            exchange.deadlines = Deadlines(exchange.started + timeout)
        exchange.notes.extend(notes)
        opened = await self.answers.open(call, self.chain, exchange, ask or self.upstream.ask, loose)
        return exchange, opened

    async def read(self, *words, **more):
        """Events and the header of one request, until what it began is kept."""
        exchange, opened = await self.open(*words, **more)
        events = await drain(opened)
        await self.settle()
        return events, dict(exchange.notes)["x-trireme-cache"]

    async def settle(self):
        while self.answers._tasks:
            await asyncio.wait(self.answers._tasks)


async def drain(opened):
    async with aclosing(opened.events) as events:
        return [event async for event in events if event != Usage()]


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


def test_an_answer_is_kept_when_it_is_whole_and_the_next_equal_call_gets_its_events():
    async def go():
        gateway = Gateway(Upstream())
        assert await gateway.read() == (WHOLE, "miss")
        events, header = await gateway.read(name="r2")
        assert (events, header) == (WHOLE, "exact; age=0")
        assert gateway.upstream.calls == 1
        assert gateway.spending.hits == [("r2", "exact", Usage(3, 2), "a:m")]
        assert gateway.counts == [("exact", "miss"), ("exact", "hit")]
        # A whole answer from a stream's.
        assert (await gateway.read(dataclasses.replace(CALL, stream=False)))[1].startswith("exact")
        assert len(gateway.answers._flights) == 0

    run(go())


def test_a_request_knows_which_tiers_were_asked_and_which_one_answered():
    async def go():
        gateway = Gateway(Upstream())
        for name, hit in (("r", []), ("r2", ["exact"])):
            exchange, opened = await gateway.open(name=name)
            await drain(opened)
            await gateway.settle()
            assert (exchange.tiers_asked, exchange.tiers_hit) == (["exact"], hit)
        first, leading = await gateway.open(dataclasses.replace(CALL, model="m2"))
        second, following = await gateway.open(dataclasses.replace(CALL, model="m2"))
        assert (first.tiers_hit, second.tiers_hit) == ([], ["flight"])
        await asyncio.gather(drain(leading), drain(following))
        await gateway.settle()

    run(go())


def test_without_caches_a_call_is_asked():
    async def go():
        upstream = Upstream()
        opened = await Answers().open(CALL, Chain((), ()), Exchange({}, "chat", {}, "r"), upstream.ask)
        assert await drain(opened) == WHOLE

    run(go())


@pytest.mark.parametrize(
    ("call", "cache_control"),
    [
        (dataclasses.replace(CALL, temperature=0.5), ""),
        (dataclasses.replace(CALL, temperature=None), ""),
        (dataclasses.replace(CALL, model="off"), ""),
        (CALL, "no-store"),
    ],
)
def test_a_call_that_is_not_eligible_goes_past_the_caches(call, cache_control):
    async def go():
        gateway = Gateway(Upstream())
        for _ in range(2):
            assert await gateway.read(call, cache_control=cache_control) == (WHOLE, "bypass")
        assert gateway.upstream.calls == 2
        assert gateway.store.values == {}

    run(go())


def test_what_the_client_says_of_caches_is_done():
    async def go():
        gateway = Gateway(Upstream())
        with pytest.raises(DeadlineError, match="only-if-cached"):
            await gateway.read(cache_control="only-if-cached")
        assert gateway.upstream.calls == 0
        # Not read, but kept.
        assert await gateway.read(cache_control="no-cache") == (WHOLE, "bypass")
        assert (await gateway.read(cache_control="only-if-cached"))[1] == "exact; age=0"
        assert (await gateway.read(cache_control="max-age=60"))[1] == "exact; age=0"
        await gateway.read(cache_control="no-cache")
        assert gateway.upstream.calls == 2
        with pytest.raises(DeadlineError, match="not kept"):
            await gateway.read(dataclasses.replace(CALL, temperature=1.0), cache_control="only-if-cached")

    run(go())


@pytest.mark.parametrize(
    "script",
    [
        WHOLE[:-1],
        [*WHOLE[:-1], Finished("filter")],
        [*WHOLE[:-1], Finished("length")],
        [*WHOLE[:2], fault("again", "cut")],
    ],
)
def test_an_answer_that_is_not_whole_is_not_kept(script):
    async def go():
        gateway = Gateway(Upstream(script))
        for _ in range(2):
            try:
                await gateway.read()
            except ProviderError:
                await gateway.settle()
        assert gateway.upstream.calls == 2
        assert gateway.store.values == {}

    run(go())


def test_an_answer_whose_client_went_away_is_cancelled_and_not_kept():
    async def go():
        async def never():
            await asyncio.sleep(3600)

        gateway = Gateway(Upstream([*WHOLE[:2], never]))
        _, opened = await gateway.open()
        assert await anext(opened.events) == WHOLE[0]
        await opened.events.aclose()
        await gateway.settle()
        assert (gateway.upstream.running, gateway.store.values, gateway.store.locks) == (0, {}, {})
        assert len(gateway.answers._flights) == 0

    run(go())


def test_an_answer_that_nobody_began_to_read_is_cancelled():
    async def go():
        gateway = Gateway(Upstream())
        _, opened = await gateway.open()
        await opened.events.aclose()
        await gateway.settle()
        assert (gateway.upstream.running, gateway.store.values) == (0, {})

    run(go())


def test_answers_of_another_target_or_shortened_by_a_budget_are_not_kept():
    async def go():
        upstream = Upstream()
        other = target_of(ScriptedProvider(), name="b")
        gateway = Gateway(upstream)
        await gateway.read(ask=lambda: upstream.ask(other))
        await gateway.read(notes=[("x-trireme-max-tokens", "5")])
        assert gateway.store.values == {}
        assert upstream.calls == 2

    run(go())


def test_an_answer_over_the_limit_of_bytes_is_not_kept():
    async def go():
        gateway = Gateway(Upstream(), file=FILE + "\n[cache]\nentry_bytes = 10")
        await gateway.read()
        assert gateway.store.values == {}

    run(go())


def test_a_first_target_that_cannot_take_the_call_is_not_answered_for():
    async def go():
        gateway = Gateway(Upstream())
        await gateway.read()
        gateway.upstream.target.entry.keys[0].refuses = "n: no"
        assert (await gateway.read())[1] == "bypass"

    run(go())


def test_an_answer_of_a_version_that_the_provider_runs_no_more_is_not_served():
    async def go():
        newer = [Started("m-2"), *WHOLE[1:]]
        gateway = Gateway(Upstream(WHOLE, newer))
        await gateway.read()
        # Seen in an answer that is not even kept.
        await gateway.read(dataclasses.replace(CALL, temperature=1.0))
        assert await gateway.read() == (newer, "miss")
        assert gateway.counts[-1] == ("exact", "stale")
        assert await gateway.read() == (newer, "exact; age=0")

    run(go())


def test_100_equal_calls_at_once_are_one_call_upstream_and_each_follower_is_a_hit():
    async def go():
        gateway = Gateway(Upstream())
        answers = await asyncio.gather(*(gateway.read(name=f"r{n}") for n in range(100)))
        assert [events for events, _ in answers] == [WHOLE] * 100
        assert sorted(header for _, header in answers) == ["flight"] * 99 + ["miss"]
        assert gateway.upstream.calls == 1
        assert [hit[1:] for hit in gateway.spending.hits] == [("flight", Usage(3, 2), "a:m")] * 99
        assert len(gateway.store.values) == 1
        assert (gateway.store.locks, len(gateway.answers._flights)) == ({}, 0)

    run(go())


def test_100_equal_calls_at_four_gateways_are_one_call_upstream():
    async def go():
        store, held = MemoryCache(), asyncio.Event()
        upstream = Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]])
        gateways = [Gateway(upstream, store) for _ in range(4)]
        asked = [asyncio.create_task(gateways[n % 4].read(name=f"r{n}")) for n in range(100)]
        while upstream.calls == 0:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        held.set()
        answers = await asyncio.gather(*asked)
        assert all(events == WHOLE for events, _ in answers)
        assert upstream.calls == 1
        assert sum(header == "miss" for _, header in answers) == 1
        assert sum(len(gateway.spending.hits) for gateway in gateways) == 99
        assert store.locks == {}

    run(go())


def test_a_follower_reads_what_is_there_before_the_answer_is_whole():
    async def go():
        held = asyncio.Event()
        gateway = Gateway(Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]]))
        _, first = await gateway.open()
        _, second = await gateway.open()
        assert [await anext(second.events) for _ in range(2)] == WHOLE[:2]
        assert not held.is_set()
        held.set()
        assert await drain(second) == WHOLE[2:]
        assert await drain(first) == WHOLE
        await gateway.settle()

    run(go())


def test_a_leader_that_leaves_takes_the_answer_from_nobody():
    async def go():
        held = asyncio.Event()
        gateway = Gateway(Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]]))
        _, first = await gateway.open()
        _, second = await gateway.open()
        await first.events.aclose()
        held.set()
        assert await drain(second) == WHOLE
        await gateway.settle()
        assert (gateway.upstream.calls, len(gateway.store.values)) == (1, 1)

    run(go())


def test_a_follower_that_leaves_takes_the_answer_from_nobody():
    async def go():
        held = asyncio.Event()
        gateway = Gateway(Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]]))
        _, first = await gateway.open()
        _, second = await gateway.open()
        await second.events.aclose()
        held.set()
        assert await drain(first) == WHOLE
        await gateway.settle()
        # Nothing was served to it whole.
        assert gateway.spending.hits == []

    run(go())


async def _started(upstream, calls):
    while upstream.calls < calls:
        await asyncio.sleep(0)


def test_a_leader_whose_client_goes_away_before_any_content_is_followed_by_another_leader():
    async def go():
        held = asyncio.Event()
        gateway = Gateway(Upstream(opens=[held.wait]))
        tasks = [asyncio.create_task(gateway.read(name=f"r{n}")) for n in range(5)]
        await _started(gateway.upstream, 1)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks[1:])
        assert [events for events, _ in answers] == [WHOLE] * 4
        assert gateway.upstream.calls == 2

    run(go())


def test_a_leader_that_its_budget_refuses_is_followed_by_another_leader():
    async def go():
        refusal = ResourceExhaustedError("no tokens are left")
        gateway = Gateway(Upstream(opens=[refusal] * 5))
        answers = await asyncio.gather(
            *(gateway.read(name=f"r{n}") for n in range(8)), return_exceptions=True
        )
        assert answers[:5] == [refusal] * 5
        assert [events for events, _ in answers[5:]] == [WHOLE] * 3
        assert gateway.upstream.calls == 6

    run(go())


def test_after_three_leaders_whose_providers_failed_everybody_asks_and_gets_its_own_error():
    async def go():
        faults = [fault("next", f"kind{n}") for n in range(10)]
        gateway = Gateway(Upstream(opens=list(faults)))
        answers = await asyncio.gather(
            *(gateway.read(name=f"r{n}") for n in range(10)), return_exceptions=True
        )
        assert {id(answer) for answer in answers} == {id(one) for one in faults}
        assert gateway.upstream.calls == 10
        assert len(gateway.answers._flights) == 0

    run(go())


def test_followers_of_an_answer_that_breaks_off_are_told_with_errors_of_their_own():
    async def go():
        held = asyncio.Event()
        cut = fault("again", "cut", status=502)
        cut.attempts = (Attempt("a:m", "cut"),)
        gateway = Gateway(Upstream([*WHOLE[:2], held.wait, cut]))
        opened = [(await gateway.open())[1] for _ in range(3)]
        held.set()
        told = await asyncio.gather(*(drain(one) for one in opened), return_exceptions=True)
        await gateway.settle()
        assert [(one.kind, one.status) for one in told] == [("cut", 502)] * 3
        assert [len(one.attempts) for one in told] == [1, 0, 0]
        assert gateway.spending.hits == []

    run(go())


def test_an_answer_that_a_budget_shortened_is_the_leaders_alone():
    async def go():
        upstream = Upstream(opens=[lambda: asyncio.sleep(0.01)])
        gateway = Gateway(upstream)

        async def shortened(exchange):
            opened = await upstream.ask()
            exchange.notes.append(("x-trireme-max-tokens", "5"))
            return opened

        async def one(name):
            exchange = Exchange({}, "chat", {}, name, key=Key("k", "acme", "u"))
            ask = (lambda: shortened(exchange)) if name == "r0" else upstream.ask
            opened = await gateway.answers.open(CALL, gateway.chain, exchange, ask)
            return await drain(opened)

        assert await asyncio.gather(*(one(f"r{n}") for n in range(4))) == [WHOLE] * 4
        await gateway.settle()
        assert upstream.calls == 4

    run(go())


def test_calls_that_may_not_read_or_keep_join_nobody():
    async def go():
        held = asyncio.Event()
        gateway = Gateway(Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]]))
        opened = [(await gateway.open())[1]]
        for words in ("no-cache", "no-store"):
            opened.append((await gateway.open(cache_control=words))[1])
        held.set()
        assert [await drain(one) for one in opened] == [WHOLE] * 3
        assert gateway.upstream.calls == 3
        await gateway.settle()

    run(go())


def test_no_tenant_reads_along_with_another():
    async def go():
        gateway = Gateway(Upstream())
        await asyncio.gather(
            *(gateway.read(dataclasses.replace(CALL, tenant=tenant)) for tenant in ("acme", "acme2", "Acme"))
        )
        assert gateway.upstream.calls == 3

    run(go())


def test_without_a_store_equal_calls_of_one_process_are_one():
    async def go():
        gateway = Gateway(Upstream(), tiers=[], has_locks=False)
        answers = await asyncio.gather(*(gateway.read() for _ in range(9)))
        assert all(events == WHOLE for events, _ in answers)
        assert gateway.upstream.calls == 1

    run(go())


def test_a_store_that_is_away_costs_no_answer():
    async def go():
        gateway = Gateway(Upstream())
        gateway.store.is_away = True
        for _ in range(2):
            assert await gateway.read() == (WHOLE, "miss")
        await gateway.answers.close()

    run(go())


class Tier:
    """A tier of a name that finds what it is told to, and remembers what it should keep."""

    def __init__(self, name, find=None):
        self.name = name
        self.found = find
        self.kept = []
        self.asked = 0

    async def find(self, question):
        self.asked += 1
        if isinstance(self.found, Exception):
            raise self.found
        if callable(self.found):
            return await self.found()
        return self.found

    async def keep(self, question, entry):
        self.kept.append(entry)

    async def close(self):
        return None


def test_tiers_are_asked_in_turn_and_a_hit_of_a_later_one_is_not_copied_up():
    async def go():
        first, last = Tier("exact"), Tier("semantic")
        gateway = Gateway(Upstream(), tiers=[TierRow(first, 1.0), TierRow(last, 1.0)])
        await gateway.read()
        assert first.kept == last.kept
        (entry,) = last.kept
        last.found = Found(entry, "semantic", {"sim": "0.97"})
        assert await gateway.read() == (WHOLE, "semantic; sim=0.97; age=0")
        assert len(first.kept) == 1
        first.found = Found(entry, "exact")
        assert (await gateway.read())[1] == "exact; age=0"
        assert (first.asked, last.asked) == (4, 2)

    run(go())


def test_a_tier_that_is_late_or_raises_is_a_miss_and_the_next_is_asked():
    async def go():
        async def never():
            await asyncio.sleep(3600)

        late, broken = Tier("late", never), Tier("broken", ValueError("x"))
        rows = [TierRow(late, 0.01), TierRow(broken, 1.0)]
        gateway = Gateway(Upstream(), tiers=rows, has_locks=False)
        assert await gateway.read() == (WHOLE, "miss")
        assert gateway.counts == [("late", "late"), ("broken", "failed")]

    run(go())


def test_a_gateway_that_died_holds_a_question_no_longer_than_its_lock():
    async def go():
        store, held = MemoryCache(), asyncio.Event()
        dead = QuestionLocks(store, lock_seconds=0.1)
        gateway = Gateway(Upstream(), store)
        exchange, opened = await Gateway(Upstream([*WHOLE[:2], held.wait]), store, locks=dead).open()
        # It prolongs nothing any more.
        await dead.close()
        assert await gateway.read() == (WHOLE, "miss")
        await opened.events.aclose()
        assert exchange.cache_tier == ""

    run(go())


def test_a_long_answer_keeps_its_lock_while_it_is_made():
    async def calls(seconds):
        """How many there were of two gateways, with locks that nobody prolongs after so many seconds."""
        store, held = MemoryCache(), asyncio.Event()
        upstream = Upstream([*WHOLE[:2], held.wait, *WHOLE[2:]])
        one = Gateway(upstream, store, locks=QuestionLocks(store, lock_seconds=seconds))
        other = Gateway(upstream, store, locks=QuestionLocks(store, lock_seconds=seconds))
        first = asyncio.create_task(one.read())
        await _started(upstream, 1)
        second = asyncio.create_task(other.read())
        await asyncio.sleep(5 * seconds)
        held.set()
        assert [(await task)[0] for task in (first, second)] == [WHOLE] * 2
        return upstream.calls

    # A machine that stands still for as long as the lock holds loses it.
    assert any(asyncio.run(calls(seconds)) == 1 for seconds in (0.06, 0.25, 1.0, 2.0))


def test_what_another_request_found_is_not_served_to_one_that_takes_nothing_so_old():
    async def go():
        store = MemoryCache()
        await Gateway(Upstream(), store).read()
        gateway = Gateway(Upstream(), store)
        gateway.answers._caching = dataclasses.replace(
            gateway.answers._caching, now=lambda clock=gateway.answers._caching.now: clock() + 100
        )
        (row,) = gateway.answers._caching.tiers
        found, may_look = row.tier.find, asyncio.Event()
        looks = []

        async def find(question):
            # The leader's first look is too early; the one with the lock is not.
            looks.append(question)
            if len(looks) == 1 or question.max_age is not None:
                return None
            await may_look.wait()
            return await found(question)

        row.tier.find = find
        leading = asyncio.create_task(gateway.read())
        following = asyncio.create_task(gateway.read(cache_control="max-age=5"))
        await asyncio.sleep(0.05)
        may_look.set()
        assert (await leading)[1] == "exact; age=100"
        await following
        assert gateway.upstream.calls == 1

    run(go())


@pytest.mark.parametrize("events", [WHOLE[:-1], WHOLE[:1], [*WHOLE[:-1], Finished("filter")], WHOLE[1:]])
def test_an_entry_that_is_no_whole_answer_is_a_miss_whoever_wrote_it(events):
    async def go():
        tier = Tier("exact")
        gateway = Gateway(Upstream(), tiers=[TierRow(tier, 1.0)], has_locks=False)
        await gateway.read()
        (entry,) = tier.kept
        tier.found = Found(dataclasses.replace(entry, body=encode_events(events, 1 << 20)), "exact")
        assert await gateway.read() == (WHOLE, "miss")
        assert gateway.counts[-1] == ("exact", "stale")

    run(go())


def test_calls_with_the_same_left_out_share_an_answer_that_is_kept_for_nobody_and_others_do_not():
    async def go():
        gate = asyncio.Event()
        gateway = Gateway(Upstream(opens=[gate.wait, gate.wait]))
        loose = Loose(("extractive",))
        asking = [
            asyncio.create_task(
                gateway.open(name=name, loose=how, ask=partial(gateway.upstream.ask, degraded=how.steps))
            )
            for name, how in (("a", loose), ("b", loose), ("c", LOOSE))
        ]
        while gateway.upstream.calls < 2:
            await asyncio.sleep(0)
        # A whole answer's lock alone is others' to wait for.
        assert len(gateway.store.locks) == 1
        gate.set()
        found = [await task for task in asking]
        assert [await drain(opened) for _, opened in found] == [WHOLE] * 3
        await gateway.settle()
        assert gateway.upstream.calls == 2
        assert [exchange.cache_tier for exchange, _ in found] == ["", "flight", ""]
        # The one that reads along says what its answer lacks; of the other the asker says it.
        assert [exchange.degraded for exchange, _ in found] == [(), ("extractive",), ()]
        assert len(gateway.store.values) == 1

    run(go())


def test_a_semantic_hit_is_not_compared_with_an_answer_that_lacks_something():
    async def go():
        begun = []

        class Tier(ExactTier):
            async def find(self, question):
                found = await super().find(question)
                return None if found is None else Found(found.entry, "semantic")

        class Shadow:
            def note(self, question):
                return ""

            def begin(self, question, found, ask):
                begun.append(question)

            async def close(self):
                return None

        store = MemoryCache()
        gateway = Gateway(Upstream(), store, tiers=[TierRow(Tier(store), 1.0)])
        gateway.answers._caching = dataclasses.replace(gateway.answers._caching, shadow=Shadow())
        await gateway.read()
        await gateway.read(loose=Loose(("extractive",)))
        assert begun == []
        await gateway.read()
        assert len(begun) == 1

    run(go())


def test_what_another_request_found_past_its_age_is_not_served_to_one_that_takes_none_such():
    async def go():
        store = MemoryCache()
        await Gateway(Upstream(), store).read(loose=Loose((), False, 1e6))
        gateway = Gateway(Upstream(), store)
        (row,) = gateway.answers._caching.tiers
        late = 2 * gateway.answers._caching.file.cache.seconds
        now = gateway.answers._caching.now
        gateway.answers._caching = dataclasses.replace(gateway.answers._caching, now=lambda: now() + late)
        found, may_look = row.tier.find, asyncio.Event()
        looks = []

        async def find(question):
            looks.append(question)
            if len(looks) == 1 or not question.takes_stale:
                return None
            await may_look.wait()
            return await found(question)

        row.tier.find = find
        leading = asyncio.create_task(gateway.read(loose=Loose((), True, 1e6)))
        following = asyncio.create_task(gateway.read())
        # The leader looks once more with the lock, and the other waits for it.
        while len(looks) < 3:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        may_look.set()
        assert (await leading)[1].startswith("exact; age=")
        assert await following == (WHOLE, "miss")
        assert gateway.upstream.calls == 1

    run(go())


def test_who_has_more_time_does_not_read_along_with_a_call_that_ends_sooner():
    async def go():
        gate = asyncio.Event()
        late = fault("next", "timeout")
        gateway = Gateway(Upstream([*WHOLE[:2], gate.wait, late], WHOLE), has_locks=False)
        _, short = await gateway.open(name="short", timeout=300)
        # Those with as much time or less share it.
        followers = [
            (await gateway.open(name=name, timeout=seconds)) for name, seconds in (("a", 300), ("b", 200))
        ]
        assert [exchange.cache_tier for exchange, _ in followers] == ["flight", "flight"]
        exchange, patient = await gateway.open(name="patient")
        assert exchange.cache_tier == ""
        gate.set()
        assert await drain(patient) == WHOLE
        for _, opened in (("", short), *followers):
            with pytest.raises(ProviderError):
                await drain(opened)
        await gateway.settle()
        assert gateway.upstream.calls == 2

    run(go())


def test_a_follower_waits_no_longer_than_its_own_deadline():
    async def go():
        gate = asyncio.Event()
        gateway = Gateway(Upstream(opens=[gate.wait]))
        leading = asyncio.create_task(gateway.open(name="leader"))
        while not gateway.upstream.calls:
            await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await gateway.open(name="late", timeout=0.01)
        gate.set()
        _, opened = await leading
        assert await drain(opened) == WHOLE
        await gateway.settle()
        assert gateway.upstream.calls == 1

    run(go())


def test_a_follower_reads_no_longer_than_its_own_deadline_and_its_leader_reads_on():
    async def go():
        gate = asyncio.Event()
        gateway = Gateway(Upstream([*WHOLE[:2], gate.wait, *WHOLE[2:]]))
        _, leading = await gateway.open(name="leader")
        with pytest.raises(DeadlineError):
            # A machine may be so slow that it is late before it begins.
            await drain((await gateway.open(name="late", timeout=0.3))[1])
        gate.set()
        assert await drain(leading) == WHOLE
        await gateway.settle()
        assert gateway.spending.hits == []

    run(go())


def test_who_waits_for_another_gateways_answer_does_so_no_longer_than_its_deadline():
    async def go():
        store = MemoryCache()
        gate = asyncio.Event()
        first, second = Gateway(Upstream(opens=[gate.wait]), store), Gateway(Upstream(), store)
        leading = asyncio.create_task(first.open(name="leader"))
        while not first.upstream.calls:
            await asyncio.sleep(0)
        with pytest.raises(DeadlineError):
            await second.open(name="late", timeout=0.05)
        assert (second.upstream.calls, len(second.answers._flights)) == (0, 0)
        gate.set()
        _, opened = await leading
        assert await drain(opened) == WHOLE
        await first.settle()
        await second.settle()

    run(go())
