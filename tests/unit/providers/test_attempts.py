"""The attempt loop over scripted providers, on a clock that the scripts move."""

import asyncio
import contextlib
import dataclasses
import logging
import random
from collections.abc import AsyncGenerator

import pytest

from fakes.providers import WHOLE, Clock, ScriptedProvider, fault, target_of
from trireme.errors import InvalidInputError
from trireme.providers.attempts import AttemptPolicy, Attempts
from trireme.providers.breaker import BreakerPolicy
from trireme.providers.chat import (
    ChatCall,
    Finished,
    RefusalDelta,
    Sources,
    Started,
    TextDelta,
    ThinkingDelta,
    ToolStart,
    Usage,
    is_content,
)
from trireme.providers.port import AttemptLimits, ProviderError

STREAMED = ChatCall("openai", "chain", stream=True)
NOT_STREAMED = ChatCall("openai", "chain")
MODES = pytest.mark.parametrize("call", [STREAMED, NOT_STREAMED], ids=["streamed", "whole"])
EMPTY = (Started("m"), Usage(3, 0), Finished("stop"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(clock):
    """make(**policy) -> Attempts whose pauses are as long as they can be."""

    def attempts(policy=None, draw=lambda: 1.0, **more):
        return Attempts(policy or AttemptPolicy(**more), clock, clock.sleep, draw)

    return attempts


async def read(attempts, call, targets, seconds=600.0):
    """Who answered, the events, and the attempts."""
    answer = await attempts.open(call, targets, seconds)
    events = [event async for event in answer.events]
    return answer.served_by.label, events, answer.attempts


def run(attempts, call, *targets, seconds=600.0):
    return asyncio.run(read(attempts, call, targets, seconds))


def error_of(attempts, call, *targets, seconds=600.0, of=ProviderError):
    with pytest.raises(of) as caught:
        run(attempts, call, *targets, seconds=seconds)
    return caught.value


def outcomes(attempts):
    return [(attempt.target, attempt.outcome) for attempt in attempts]


# What an answer is.


@MODES
def test_the_first_target_answers_and_no_other_is_called(make, call):
    one, other = ScriptedProvider(), ScriptedProvider()
    served_by, events, made = run(make(), call, target_of(one), target_of(other, name="b"))
    assert (served_by, events, outcomes(made)) == ("a:m", list(WHOLE), [("a:m", "ok")])
    assert (one.ends, other.calls) == (["whole"], [])


@MODES
@pytest.mark.parametrize(
    "script",
    [
        EMPTY,
        (Started("m"), RefusalDelta("I will not"), Finished("refusal")),
        (Started("m"), Finished("refusal")),
        (Started("m"), Finished("filter"), Usage(3, 0)),
    ],
    ids=["empty", "refusal", "bare refusal", "filtered"],
)
def test_an_empty_answer_and_a_refusal_are_answers(make, call, script):
    other = ScriptedProvider()
    served_by, events, _ = run(make(), call, target_of(ScriptedProvider(script)), target_of(other, name="b"))
    assert (served_by, events, other.calls) == ("a:m", list(script), [])


@pytest.mark.parametrize(
    "content",
    [TextDelta("x"), RefusalDelta("x"), ThinkingDelta("x"), ToolStart(0, "id", "f"), Sources(())],
    ids=lambda event: type(event).__name__,
)
def test_a_stream_is_open_as_soon_as_there_is_content_and_not_before(make, content):
    async def scenario():
        before, after = asyncio.Event(), asyncio.Event()
        provider = ScriptedProvider(
            (Started("m"), Usage(3), before.wait, content, after.wait, Finished("stop"))
        )
        opening = asyncio.ensure_future(make().open(STREAMED, [target_of(provider)], 600.0))
        for _ in range(20):
            await asyncio.sleep(0)
        was_open = opening.done()
        before.set()
        answer = await opening
        got = [await anext(answer.events) for _ in range(3)]
        after.set()
        return was_open, got, [event async for event in answer.events]

    assert asyncio.run(scenario()) == (False, [Started("m"), Usage(3), content], [Finished("stop")])


def test_a_whole_answer_is_open_only_when_its_generator_has_ended(make):
    async def scenario():
        end = asyncio.Event()
        provider = ScriptedProvider((*WHOLE, end.wait))
        opening = asyncio.ensure_future(make().open(NOT_STREAMED, [target_of(provider)], 600.0))
        for _ in range(20):
            await asyncio.sleep(0)
        was_open = opening.done()
        end.set()
        await opening
        return was_open, provider.ends

    assert asyncio.run(scenario()) == (False, ["whole"])


@MODES
def test_an_answer_of_several_choices_needs_the_end_of_each(make, call):
    call = ChatCall("openai", "chain", stream=call.stream, choices=2)
    half = (Started("m"), Finished("stop", 0))
    both = (*half, Finished("length", 1))
    served_by, events, made = run(
        make(most=2),
        call,
        target_of(ScriptedProvider(half, both)),
    )
    assert (served_by, events) == ("a:m", list(both))
    assert outcomes(made) == [("a:m", "cut"), ("a:m", "ok")]


# What follows a fault before content.

BEFORE_CONTENT = {
    "at once": (),
    "after lifecycle": (Started("m"), Usage(3)),
    "after empty text": (Started("m"), TextDelta("")),
    "after its end": (Started("m"), Finished("stop")),
}


@MODES
@pytest.mark.parametrize("before", BEFORE_CONTENT.values(), ids=BEFORE_CONTENT)
@pytest.mark.parametrize("kind", ["malformed", "cut", "timeout", "connect", "overloaded"])
def test_a_fault_before_content_is_tried_again_once_and_then_the_next_target_answers(
    make, clock, call, before, kind
):
    one, other = ScriptedProvider((*before, fault(kind=kind))), ScriptedProvider()
    served_by, events, made = run(make(), call, target_of(one), target_of(other, name="b"))
    assert (served_by, events) == ("b:m", list(WHOLE))
    assert outcomes(made) == [("a:m", kind), ("a:m", kind), ("b:m", "ok")]
    assert (one.ends, clock.waits) == (["error", "error"], [0.5])


def test_a_whole_answer_that_breaks_off_after_content_is_dropped_and_asked_for_again(make):
    provider = ScriptedProvider((*WHOLE[:2], fault(kind="cut")), WHOLE)
    served_by, events, made = run(make(), NOT_STREAMED, target_of(provider))
    assert (served_by, events, outcomes(made)) == ("a:m", list(WHOLE), [("a:m", "cut"), ("a:m", "ok")])


@MODES
@pytest.mark.parametrize("script", [(), (Started("m"),), (Started("m"), Usage(1, 1))])
def test_an_end_without_content_and_without_finish_is_a_cut(make, call, script):
    one = ScriptedProvider(script)
    _, events, made = run(make(), call, target_of(one), target_of(ScriptedProvider(), name="b"))
    assert events == list(WHOLE)
    assert outcomes(made) == [("a:m", "cut"), ("a:m", "cut"), ("b:m", "ok")]


def test_what_no_other_key_can_mend_is_asked_of_the_same_key_again_and_then_of_the_next_target(make):
    one, other_key, other = ScriptedProvider((fault(),)), ScriptedProvider(), ScriptedProvider()
    _, _, made = run(make(), STREAMED, target_of(one, other_key), target_of(other, name="b"))
    assert outcomes(made) == [("a:m", "overloaded"), ("a:m", "overloaded"), ("b:m", "ok")]
    assert (len(one.calls), other_key.calls) == (2, [])


@MODES
@pytest.mark.parametrize("remedy", ["next", "larger"])
def test_what_the_same_target_cannot_mend_goes_to_the_next_at_once(make, clock, call, remedy):
    one, other = ScriptedProvider((fault(remedy, "not_found", status=404),)), ScriptedProvider()
    served_by, _, made = run(make(), call, target_of(one), target_of(other, name="b"))
    assert served_by == "b:m"
    assert outcomes(made) == [("a:m", "not_found"), ("b:m", "ok")]
    assert (made[0].status, clock.waits) == (404, [])


@MODES
def test_what_nobody_can_mend_is_raised_at_once(make, call):
    other = ScriptedProvider()
    one = ScriptedProvider((Started("m"), fault("give_up", "invalid", status=400)))
    error = error_of(make(), call, target_of(one), target_of(other, name="b"))
    assert (error.kind, error.status, outcomes(error.attempts)) == ("invalid", 400, [("a:m", "invalid")])
    assert other.calls == []


@MODES
def test_a_key_that_is_refused_is_followed_by_the_next_key_and_rests(make, clock, call):
    bad, good = ScriptedProvider((fault("rotate", "auth", status=401),)), ScriptedProvider()
    attempts, target = make(), target_of(bad, good)
    served_by, _, made = run(attempts, call, target)
    assert (served_by, outcomes(made)) == ("a:m", [("a:m", "auth"), ("a:m", "ok")])
    assert attempts.snapshot() == {"a:m#1": 60.0}
    clock.move(59.0)
    run(attempts, call, target)
    assert (len(bad.calls), len(good.calls)) == (1, 2)
    clock.move(2.0)
    run(attempts, call, target)
    assert (len(bad.calls), len(good.calls)) == (2, 3)


def limited(retry_after=0.0, remedy="rotate"):
    return (fault(remedy, "rate_limit", status=429, retry_after=retry_after),)


LIMITED = pytest.mark.parametrize("remedy", ["rotate", "again"])


@LIMITED
def test_a_key_at_its_rate_limit_is_followed_by_the_next_at_once_and_rests_as_long_as_asked(
    make, clock, remedy
):
    one, other = ScriptedProvider(limited(2.0, remedy)), ScriptedProvider()
    attempts = make()
    _, _, made = run(attempts, STREAMED, target_of(one, other))
    assert outcomes(made) == [("a:m", "rate_limit"), ("a:m", "ok")]
    assert (attempts.snapshot(), clock.waits) == ({"a:m#1": 2.0}, [])


@LIMITED
def test_the_only_key_at_its_rate_limit_is_waited_for_where_that_is_short(make, clock, caplog, remedy):
    provider, other = ScriptedProvider(limited(2.0, remedy), WHOLE), ScriptedProvider()
    attempts = make()
    _, _, made = run(attempts, STREAMED, target_of(provider), target_of(other, name="b"))
    assert outcomes(made) == [("a:m", "rate_limit"), ("a:m", "ok")]
    assert (attempts.snapshot(), clock.waits, caplog.records) == ({}, [2.5], [])


@LIMITED
def test_the_last_key_at_its_rate_limit_is_waited_for_where_the_others_rest(make, clock, remedy):
    keys = ScriptedProvider(limited(90.0, remedy)), ScriptedProvider(limited(2.0, remedy), WHOLE)
    _, _, made = run(make(), STREAMED, target_of(*keys))
    assert outcomes(made) == [("a:m", "rate_limit"), ("a:m", "rate_limit"), ("a:m", "ok")]
    assert clock.waits == [2.5]


@LIMITED
def test_the_only_key_at_its_rate_limit_for_long_leaves_the_call_to_the_next_target(make, clock, remedy):
    one, other = ScriptedProvider(limited(30.0, remedy)), ScriptedProvider()
    _, _, made = run(make(), STREAMED, target_of(one), target_of(other, name="b"))
    assert outcomes(made) == [("a:m", "rate_limit"), ("b:m", "ok")]
    assert clock.waits == []


def test_a_rate_limit_without_a_time_does_not_bench_the_key_at_once(make):
    attempts = make(breaker=BreakerPolicy(failures=3))
    run(attempts, STREAMED, target_of(ScriptedProvider(limited(), WHOLE)))
    assert attempts.snapshot() == {}
    error_of(attempts, STREAMED, target_of(ScriptedProvider(limited())))
    error_of(attempts, STREAMED, target_of(ScriptedProvider(limited())))
    assert attempts.snapshot() == {"a:m#1": 10.0}


@MODES
def test_when_every_key_is_refused_the_next_target_answers(make, call):
    keys = [ScriptedProvider((fault("rotate", "auth", status=401),)) for _ in range(2)]
    served_by, _, made = run(make(), call, target_of(*keys), target_of(ScriptedProvider(), name="b"))
    assert (served_by, outcomes(made)) == ("b:m", [("a:m", "auth"), ("a:m", "auth"), ("b:m", "ok")])


def test_a_refused_key_rests_as_long_as_its_provider_asks_where_that_is_longer(make):
    attempts = make()
    refused = ScriptedProvider((fault("rotate", "billing", status=402, retry_after=90.0),))
    run(attempts, STREAMED, target_of(refused, ScriptedProvider()))
    assert attempts.snapshot() == {"a:m#1": 90.0}


def test_a_refused_key_is_told_to_the_log_by_its_number(make, caplog):
    keys = ScriptedProvider(), ScriptedProvider()
    keys[0].scripts = ((fault("rotate", "billing", status=402),),)
    with caplog.at_level(logging.WARNING):
        run(make(), STREAMED, target_of(*keys))
    assert [record.getMessage() for record in caplog.records] == [
        "a:m refuses key 1 (billing, status 402); it rests for 60 s"
    ]


def test_an_error_of_our_own_in_a_provider_is_a_failed_attempt_and_its_text_is_in_no_log(make, caplog):
    one = ScriptedProvider((Started("m"), KeyError("sk-canary")))
    error = error_of(make(), STREAMED, target_of(one))
    assert (error.kind, str(error)) == (
        "internal",
        "a:m failed inside of the gateway; its log says where",
    )
    assert "KeyError" in caplog.text and "fakes/providers.py" in caplog.text
    assert "sk-canary" not in caplog.text


@MODES
def test_an_error_that_is_no_fault_of_providers_goes_through_and_the_call_is_closed(make, call):
    one, other = (
        ScriptedProvider((Started("m"), InvalidInputError("stop: too long", "stop"))),
        ScriptedProvider(),
    )
    error = error_of(make(), call, target_of(one), target_of(other, name="b"), of=InvalidInputError)
    assert (error.param, one.ends, other.calls) == ("stop", ["error"], [])


def test_a_provider_that_fails_before_its_generator_is_there_is_a_failed_attempt(make):
    class Broken(ScriptedProvider):
        def chat(self, call, model, limits):
            raise fault("next", "connect")

    served_by, _, made = run(make(), STREAMED, target_of(Broken()), target_of(ScriptedProvider(), name="b"))
    assert (served_by, outcomes(made)) == ("b:m", [("a:m", "connect"), ("b:m", "ok")])


class Given(AsyncGenerator):
    """Events and errors one by one, as an object that must be closed also after an error."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.is_closed = False

    async def asend(self, value):
        if not self.steps:
            raise StopAsyncIteration
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def athrow(self, *error):
        raise error[0]

    async def aclose(self):
        self.is_closed = True


@MODES
@pytest.mark.parametrize(
    "steps", [(fault(),), (Started("m"),), (*WHOLE[:2], fault())], ids=["at once", "end", "late"]
)
def test_what_a_provider_gives_is_closed_also_where_it_is_no_generator_function(make, call, steps):
    class Wrapping(ScriptedProvider):
        def chat(self, call, model, limits):
            return given[-1]

    given = [Given(*steps)]
    with pytest.raises(ProviderError):
        run(make(most=1), call, target_of(Wrapping()))
    assert given[0].is_closed


# Pauses, deadline, limits.


def test_pauses_are_random_from_nothing_up_to_a_bound_that_doubles(make, clock):
    draws = iter([0.0, 0.25])
    providers = [ScriptedProvider((fault(),)), ScriptedProvider((fault(),))]
    attempts = make(AttemptPolicy(most=9, pause=0.5), draw=lambda: next(draws))
    error_of(attempts, STREAMED, target_of(providers[0]), target_of(providers[1], name="b"))
    assert clock.waits == [0.0, 0.25]


def test_a_short_retry_after_is_waited_for(make, clock):
    provider = ScriptedProvider((fault(kind="rate_limit", status=429, retry_after=4.0),), WHOLE)
    run(make(draw=lambda: 0.5), STREAMED, target_of(provider))
    assert clock.waits == [4.25]


def test_a_long_retry_after_benches_the_target_for_so_long_and_the_next_answers(make, clock):
    one, other = ScriptedProvider((fault(kind="rate_limit", retry_after=30.0),)), ScriptedProvider()
    attempts, targets = make(), (target_of(one), target_of(other, name="b"))
    assert outcomes(run(attempts, STREAMED, *targets)[2]) == [("a:m", "rate_limit"), ("b:m", "ok")]
    assert (attempts.snapshot(), clock.waits) == ({"a:m#1": 30.0}, [])
    clock.move(29.0)
    assert outcomes(run(attempts, STREAMED, *targets)[2]) == [("a:m", "skipped"), ("b:m", "ok")]
    clock.move(1.0)
    run(attempts, STREAMED, *targets)
    assert len(one.calls) == 2


def test_nobody_waits_for_a_pause_that_ends_after_the_deadline(make, clock):
    one, other = ScriptedProvider((fault(kind="rate_limit", retry_after=4.0),)), ScriptedProvider()
    _, _, made = run(make(), STREAMED, target_of(one), target_of(other, name="b"), seconds=4.4)
    assert outcomes(made) == [("a:m", "rate_limit"), ("b:m", "ok")]
    assert clock.waits == []


def test_each_attempt_gets_its_own_limits_or_what_is_left_of_the_deadline(make, clock):
    def wait():
        clock.move(97.0)

    limits = AttemptLimits(first=10.0, between=4.0, total=50.0)
    one = ScriptedProvider((wait, fault("next", "timeout")))
    other = ScriptedProvider()
    targets = target_of(one, limits=limits), target_of(other, name="b", limits=limits)
    _, _, made = run(make(), STREAMED, *targets, seconds=100.0)
    assert one.calls[0].limits == limits
    assert other.calls[0].limits == AttemptLimits(3.0, 3.0, 3.0)
    assert [attempt.seconds for attempt in made] == [97.0, 0.0]


def test_an_answer_that_is_not_streamed_has_all_its_time_for_its_first_byte(make):
    limits = AttemptLimits(first=10.0, between=4.0, total=50.0)
    provider = ScriptedProvider()
    run(
        make(), dataclasses.replace(STREAMED, stream=False), target_of(provider, limits=limits), seconds=100.0
    )
    assert provider.calls[0].limits == AttemptLimits(50.0, 4.0, 50.0)


def test_a_pause_that_took_until_the_deadline_is_followed_by_no_call(clock):
    async def sleep(seconds):
        clock.move(100.0)

    provider = ScriptedProvider((fault(),))
    attempts = Attempts(AttemptPolicy(), clock, sleep)
    error_of(attempts, STREAMED, target_of(provider), seconds=100.0)
    assert len(provider.calls) == 1


@pytest.mark.parametrize("remedy", ["again", "next", "rotate"])
def test_after_the_deadline_nobody_is_called(make, clock, remedy):
    def wait():
        clock.move(100.0)

    one, other = ScriptedProvider((wait, fault(remedy, "timeout"))), ScriptedProvider()
    error = error_of(make(), STREAMED, target_of(one, one), target_of(other, name="b"), seconds=100.0)
    assert (error.kind, len(one.calls), other.calls) == ("timeout", 1, [])


def test_a_deadline_that_is_over_at_once_is_a_timeout_without_a_call(make):
    provider = ScriptedProvider()
    error = error_of(make(), STREAMED, target_of(provider), seconds=0.0)
    assert (error.kind, error.attempts, provider.calls) == ("timeout", (), [])


def test_the_deadlines_of_clients_do_not_close_a_provider_to_others(make, clock):
    def wait():
        clock.move(1.0)

    provider = ScriptedProvider((wait, fault(kind="timeout")))
    attempts = make(breaker=BreakerPolicy(failures=2))
    for _ in range(9):
        error_of(attempts, STREAMED, target_of(provider), seconds=1.0)
    assert attempts.snapshot() == {}
    for _ in range(2):
        error_of(attempts, STREAMED, target_of(provider), seconds=1.2)
    assert attempts.snapshot() == {"a:m#1": 10.0}


# Limits of the number of calls.


def test_no_request_makes_more_calls_than_the_most(make):
    providers = [ScriptedProvider((fault(),)) for _ in range(5)]
    targets = [target_of(provider, name=f"p{n}") for n, provider in enumerate(providers)]
    error = error_of(make(most=4), STREAMED, *targets)
    assert [len(provider.calls) for provider in providers] == [2, 2, 0, 0, 0]
    assert len(error.attempts) == 4


def test_without_retry_budget_the_next_target_is_asked_at_once(make, clock):
    attempts = make(retry_share=0.0, breaker=BreakerPolicy(failures=100))
    one, other = ScriptedProvider((fault(),)), ScriptedProvider()
    made = [run(attempts, STREAMED, target_of(one), target_of(other, name="b"))[2] for _ in range(6)]
    # The floor lets three through, then none.
    assert [len(attempt) for attempt in made] == [3, 3, 3, 2, 2, 2]
    assert len(clock.waits) == 3


def test_traffic_fills_the_retry_budget(clock):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    policy = AttemptPolicy(retry_share=0.1, breaker=BreakerPolicy(failures=100))
    attempts = Attempts(policy, clock, sleep)
    for _ in range(50):
        run(attempts, STREAMED, target_of(ScriptedProvider()))
    for _ in range(15):
        error_of(attempts, STREAMED, target_of(ScriptedProvider((fault(),))))
    # The floor of 3, and a tenth of 65 requests.
    assert len(waits) == 3 + 6


# Circuits.


def test_a_target_that_fails_in_a_row_is_skipped_without_a_call_until_a_probe(make, clock):
    attempts = make(breaker=BreakerPolicy(failures=3, rest=10.0))
    one, other = ScriptedProvider(*[(fault("next"),)] * 3, WHOLE), ScriptedProvider()
    targets = target_of(one), target_of(other, name="b")
    made = [run(attempts, STREAMED, *targets)[2][0].outcome for _ in range(5)]
    assert made == ["overloaded"] * 3 + ["skipped"] * 2
    clock.move(10.0)
    assert run(attempts, STREAMED, *targets)[0] == "a:m"
    assert (len(one.calls), attempts.snapshot()) == (4, {})


@MODES
def test_a_whole_answer_in_between_starts_the_count_of_failures_anew(make, call):
    attempts = make(breaker=BreakerPolicy(failures=3))
    failing, healthy = target_of(ScriptedProvider((fault("next"),))), target_of(ScriptedProvider())
    for target in (failing, failing, healthy, failing, failing):
        with contextlib.suppress(ProviderError):
            run(attempts, call, target)
    assert attempts.snapshot() == {}


def test_the_attempt_that_opens_the_circuit_is_not_repeated(make, clock):
    attempts = make(breaker=BreakerPolicy(failures=1))
    provider = ScriptedProvider((fault(),))
    error_of(attempts, STREAMED, target_of(provider))
    assert (len(provider.calls), clock.waits) == (1, [])


def test_a_circuit_that_opens_during_the_pause_stops_the_repeated_call(clock):
    provider = ScriptedProvider((fault(),))

    async def sleep(seconds):
        if len(provider.calls) == 1:
            with pytest.raises(ProviderError):
                await attempts.open(STREAMED, [target_of(provider)], 600.0)

    attempts = Attempts(AttemptPolicy(breaker=BreakerPolicy(failures=2)), clock, sleep, lambda: 1.0)
    error = error_of(attempts, STREAMED, target_of(provider))
    assert (len(provider.calls), len(error.attempts)) == (2, 1)


@MODES
@pytest.mark.parametrize(
    "remedy, kind",
    [
        ("give_up", "unknown"),
        ("larger", "unknown"),
        ("next", "invalid"),
        ("next", "too_large"),
        ("next", "too_long"),
    ],
)
def test_faults_of_the_client_open_no_circuit(make, call, remedy, kind):
    attempts = make(breaker=BreakerPolicy(failures=2))
    provider = ScriptedProvider((fault(remedy, kind, status=400),))
    for _ in range(9):
        error_of(attempts, call, target_of(provider))
    assert attempts.snapshot() == {}


def test_what_fails_inside_of_the_gateway_opens_no_circuit(make):
    attempts = make(breaker=BreakerPolicy(failures=2))
    for _ in range(9):
        error_of(attempts, STREAMED, target_of(ScriptedProvider((KeyError("x"),))))
    assert attempts.snapshot() == {}


def test_a_probe_that_meets_a_fault_of_the_client_leaves_its_place(make, clock):
    attempts = make(breaker=BreakerPolicy(failures=1))
    provider = ScriptedProvider((fault("next"),), (fault("give_up", "invalid"),), WHOLE)
    error_of(attempts, STREAMED, target_of(provider))
    clock.move(10.0)
    error_of(attempts, STREAMED, target_of(provider))
    assert run(attempts, STREAMED, target_of(provider))[0] == "a:m"


def test_a_probe_frees_its_place_when_its_answer_begins_also_where_the_whole_of_it_takes_long(make, clock):
    async def scenario():
        attempts, end = make(breaker=BreakerPolicy(failures=1)), asyncio.Event()
        provider = ScriptedProvider((fault("next"),), (*WHOLE[:2], end.wait, *WHOLE[2:]), WHOLE)
        with pytest.raises(ProviderError):
            await attempts.open(NOT_STREAMED, [target_of(provider)], 600.0)
        clock.move(10.0)
        probe = asyncio.ensure_future(attempts.open(NOT_STREAMED, [target_of(provider)], 600.0))
        for _ in range(20):
            await asyncio.sleep(0)
        events = (await read(attempts, NOT_STREAMED, [target_of(provider)]))[1]
        was_open = probe.done()
        end.set()
        await probe
        return was_open, events

    assert asyncio.run(scenario()) == (False, list(WHOLE))


def test_streams_that_begin_and_break_off_open_the_circuit(make):
    attempts = make(breaker=BreakerPolicy(failures=3))
    provider = ScriptedProvider((*WHOLE[:2], fault(kind="cut")))
    for _ in range(3):
        error_of(attempts, STREAMED, target_of(provider))
    assert attempts.snapshot() == {"a:m#1": 10.0}
    assert len(provider.calls) == 3


# What is raised when all failed.


@MODES
def test_the_first_fault_is_raised_and_carries_all_attempts(make, call):
    targets = [
        target_of(ScriptedProvider(refuses="tools: this model takes none")),
        target_of(ScriptedProvider((fault("next", "rate_limit", status=429),)), name="b"),
        target_of(ScriptedProvider((fault("next", "not_found", status=404),)), name="c"),
    ]
    error = error_of(make(), call, *targets)
    assert (error.kind, error.status, error.retry_after) == ("rate_limit", 429, 0.0)
    assert outcomes(error.attempts) == [("a:m", "skipped"), ("b:m", "rate_limit"), ("c:m", "not_found")]


@pytest.mark.parametrize("asked", [86_400.0, float("inf")])
def test_nobody_is_told_to_wait_for_longer_than_the_longest_rest(make, asked):
    targets = [
        target_of(ScriptedProvider((fault("next", "rate_limit", retry_after=asked),))),
        target_of(ScriptedProvider((fault("next", "not_found"),)), name="b"),
    ]
    attempts = make()
    error = error_of(attempts, STREAMED, *targets)
    assert (error.kind, error.retry_after) == ("rate_limit", 600.0)
    assert attempts.snapshot() == {"a:m#1": 600.0}


def test_when_all_targets_rest_the_first_fault_says_when_the_first_of_them_is_tried_again(make):
    targets = [
        target_of(ScriptedProvider((fault("next", "overloaded", retry_after=90.0),))),
        target_of(ScriptedProvider((fault("again", "rate_limit", retry_after=20.0),)), name="b"),
    ]
    error = error_of(make(), STREAMED, *targets)
    assert (error.kind, error.retry_after) == ("overloaded", 20.0)


def test_a_target_that_was_not_asked_yet_and_does_not_rest_leaves_the_first_fault_as_it_is(make):
    targets = [
        target_of(ScriptedProvider((fault("next", "rate_limit", retry_after=90.0),))),
        target_of(ScriptedProvider(), name="b"),
    ]
    error = error_of(make(most=1), STREAMED, *targets)
    assert (error.kind, error.retry_after) == ("rate_limit", 90.0)


@pytest.mark.parametrize(
    "kind, told",
    [("rate_limit", "rate_limit"), ("not_found", "not_found"), ("cut", "overloaded"), ("auth", "overloaded")],
)
def test_when_all_targets_rest_already_nobody_is_called_and_the_client_is_told_until_when(make, kind, told):
    attempts = make()
    one = ScriptedProvider((fault("next", kind, retry_after=20.0),))
    other = ScriptedProvider((fault("next", "auth", retry_after=90.0),))
    targets = target_of(one), target_of(other, name="b")
    error_of(attempts, STREAMED, *targets)
    error = error_of(attempts, STREAMED, *targets)
    assert (error.kind, error.retry_after) == (told, 20.0)
    assert str(error) == f"every provider of this model rests after a fault ({kind}); try again in 20 s"
    assert outcomes(error.attempts) == [("a:m", "skipped"), ("b:m", "skipped")]
    assert (len(one.calls), len(other.calls)) == (1, 1)


@MODES
def test_targets_that_cannot_take_the_call_are_skipped_without_a_call(make, call):
    one, other = ScriptedProvider(refuses="tools: this model takes none"), ScriptedProvider()
    served_by, _, made = run(make(), call, target_of(one), target_of(other, name="b"))
    assert (served_by, outcomes(made)) == ("b:m", [("a:m", "skipped"), ("b:m", "ok")])
    assert one.calls == []


def test_where_no_target_can_take_the_call_the_first_reason_is_told(make):
    refusing = [ScriptedProvider(refuses="n: one answer alone"), ScriptedProvider(refuses="tools: none")]
    error = error_of(make(), STREAMED, *map(target_of, refusing), of=InvalidInputError)
    assert (str(error), error.param) == ("n: one answer alone", "n")


def test_a_call_without_targets_is_refused(make):
    error = error_of(make(), STREAMED, of=InvalidInputError)
    assert str(error) == "no provider may answer for this model; ask for another"


# After content.


def test_a_fault_after_content_ends_the_stream_and_no_other_target_is_asked(make):
    one, other = ScriptedProvider((*WHOLE[:2], fault(kind="cut"))), ScriptedProvider()
    got = []

    async def scenario():
        answer = await make().open(STREAMED, [target_of(one), target_of(other, name="b")], 600.0)
        assert outcomes(answer.attempts) == [("a:m", "ok")]
        async for event in answer.events:
            got.append(event)

    with pytest.raises(ProviderError) as caught:
        asyncio.run(scenario())
    assert (caught.value.kind, outcomes(caught.value.attempts)) == ("cut", [("a:m", "cut")])
    assert (got, one.ends, other.calls) == (list(WHOLE[:2]), ["error"], [])


def test_the_attempts_of_a_fault_after_content_hold_those_before(make):
    one = ScriptedProvider((fault("next"),))
    other = ScriptedProvider((*WHOLE[:2], fault(kind="stall")))
    error = error_of(make(), STREAMED, target_of(one), target_of(other, name="b"))
    assert outcomes(error.attempts) == [("a:m", "overloaded"), ("b:m", "stall")]


def test_a_stream_that_ends_after_content_without_its_finish_is_a_cut(make):
    provider = ScriptedProvider(WHOLE[:4])
    error = error_of(make(), STREAMED, target_of(provider))
    assert (error.kind, len(provider.calls)) == ("cut", 1)


# Leaving.


async def consume(attempts, call, targets):
    answer = await attempts.open(call, targets, 600.0)
    try:
        return [event async for event in answer.events]
    finally:
        await answer.events.aclose()


async def cancel_after(steps, work, times=1):
    """Whether `work` was done after so many turns of the loop; else it is cancelled, so many times, and awaited."""
    task = asyncio.ensure_future(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    is_done = task.done()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(task, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return is_done


@MODES
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("second", [False, True], ids=["first target", "second target"])
def test_a_cancel_at_any_moment_closes_the_running_call_and_leaves_nothing(clock, call, second, times):
    """A request of one failed attempt, a pause and an answer, cancelled at each turn of the loop in turn."""
    for steps in range(200):
        one = ScriptedProvider((Started("m"), fault("next" if second else "again")), WHOLE)
        other = ScriptedProvider()
        attempts = Attempts(AttemptPolicy(), clock, clock.sleep, lambda: 1.0)
        work = consume(attempts, call, [target_of(one), target_of(other, name="b")])
        is_done = asyncio.run(cancel_after(steps, work, times))
        assert "" not in one.ends + other.ends, steps
        if is_done:
            break
    assert is_done and steps > 9


@MODES
def test_a_probe_that_is_cancelled_at_any_moment_leaves_its_place(clock, call):
    for steps in range(200):
        attempts = Attempts(AttemptPolicy(breaker=BreakerPolicy(failures=1)), clock, clock.sleep)
        error_of(attempts, call, target_of(ScriptedProvider((fault(),))))
        clock.move(10.0)
        is_done = asyncio.run(cancel_after(steps, consume(attempts, call, [target_of(ScriptedProvider())])))
        assert run(attempts, call, target_of(ScriptedProvider()))[0] == "a:m"
        if is_done:
            break
    assert is_done and steps > 6


@MODES
@pytest.mark.parametrize("count", range(6))
def test_closing_the_events_early_closes_the_call_even_before_the_first_is_read(make, call, count):
    provider = ScriptedProvider()

    async def scenario():
        answer = await make().open(call, [target_of(provider)], 600.0)
        got = [await anext(answer.events) for _ in range(min(count, len(WHOLE)))]
        await answer.events.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return got

    assert asyncio.run(scenario()) == list(WHOLE[:count])
    assert provider.ends == ["closed" if call.stream else "whole"]


def test_leaving_counts_for_no_circuit(make):
    attempts = make(breaker=BreakerPolicy(failures=1))
    for steps in range(6):
        asyncio.run(cancel_after(steps, consume(attempts, STREAMED, [target_of(ScriptedProvider())])))
    assert attempts.snapshot() == {}


def test_an_error_in_closing_a_failed_call_does_not_hide_its_fault(make):
    class Sticky(ScriptedProvider):
        async def chat(self, call, model, limits):
            try:
                yield TextDelta("one")
                yield TextDelta("two")
            finally:
                raise OSError("the socket is gone")

    async def scenario():
        answer = await make().open(STREAMED, [target_of(Sticky())], 600.0)
        await anext(answer.events)
        await answer.events.aclose()

    asyncio.run(scenario())


# Any script.

REMEDIES = ["again", "rotate", "next", "larger", "give_up"]


def some_script(draw):
    steps = list(draw.choice([WHOLE, EMPTY, WHOLE[:1], WHOLE[:3], ()]))
    if draw.random() < 0.7:
        remedy = draw.choice(REMEDIES)
        broken = fault(remedy, f"kind {draw.random()}", retry_after=draw.choice([0.0, 0.0, 2.0, 90.0]))
        steps.insert(draw.randint(0, len(steps)), broken)
    return tuple(steps)


def some_targets(draw, clock):
    targets = []
    for name in "abcd"[: draw.randint(1, 4)]:
        keys = [
            ScriptedProvider(*[some_script(draw) for _ in range(3)], refuses=draw.choice(["", "", "", "no"]))
            for _ in range(draw.randint(1, 3))
        ]
        keys = [key for key in keys if not key.refuses] or keys[:1]
        targets.append(target_of(*keys, name=name))
    return targets


async def outcome_of(attempts, call, targets):
    """The events of a whole answer; or the events until an error, and the error."""
    got = []
    try:
        answer = await attempts.open(call, targets, 30.0)
        async for event in answer.events:
            got.append(event)
    except (ProviderError, InvalidInputError) as error:
        return got, error
    return got, None


def check_outcome(call, got, error, providers, before):
    calls = [called for provider in providers for called in provider.calls]
    assert len(calls) - before <= 3
    assert all(called.end in {"whole", "error", "closed"} for called in calls)
    if error is None:
        assert [event.choice for event in got if isinstance(event, Finished)] == [0]
        assert got in [list(WHOLE), list(EMPTY)]
    elif got:
        # Only a stream may break off, only after content, and it says so.
        assert call.stream and any(is_content(event) for event in got)
    if isinstance(error, ProviderError) and not got:
        made = [attempt for attempt in error.attempts if attempt.outcome != "skipped"]
        assert len(made) == len(calls) - before
        if made and error.remedy != "give_up":
            assert error.kind == made[0].outcome


@pytest.mark.parametrize("seed", range(300))
def test_any_script_has_one_outcome_and_at_most_three_calls_and_no_half_answer_is_whole(seed):
    draw = random.Random(seed)
    clock = Clock()
    policy = AttemptPolicy(breaker=BreakerPolicy(failures=draw.choice([1, 2, 5])))
    attempts = Attempts(policy, clock, clock.sleep, draw.random)
    targets = some_targets(draw, clock)
    providers = [key for target in targets for key in target.entry.keys]

    async def scenario():
        for _ in range(6):
            before = sum(len(provider.calls) for provider in providers)
            call = draw.choice([STREAMED, NOT_STREAMED])
            got, error = await outcome_of(attempts, call, targets)
            check_outcome(call, got, error, providers, before)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            clock.move(draw.choice([0.0, 1.0, 20.0, 100.0]))

    asyncio.run(scenario())


class Notes:
    """A meter that notes how each attempt ended, "" of one that never did."""

    step = ""

    def __init__(self):
        self.ends = []

    async def begin(self, call, target):
        self.ends.append("")
        return NotedAttempt(call, self.ends, len(self.ends) - 1)


class NotedAttempt:
    def __init__(self, call, ends, place):
        self.call, self._ends, self._place = call, ends, place

    def watch(self, events):
        return events

    def end(self, outcome):
        assert not self._ends[self._place]
        self._ends[self._place] = outcome


@MODES
def test_who_is_cancelled_while_a_call_closes_has_paid_for_it_all_the_same(clock, call):
    """Of an answer that is closed after its first content, and of a failed attempt before it."""

    async def look_at_the_beginning(attempts, meter):
        targets = [target_of(ScriptedProvider((Started("m"), fault("again")), WHOLE))]
        answer = await attempts.open(call, targets, 600.0, meter)
        try:
            await anext(answer.events)
        finally:
            await answer.events.aclose()

    for steps in range(200):
        meter = Notes()
        attempts = Attempts(AttemptPolicy(), clock, clock.sleep, lambda: 1.0)
        is_done = asyncio.run(cancel_after(steps, look_at_the_beginning(attempts, meter), 3))
        assert "" not in meter.ends, steps
        if is_done:
            break
    assert is_done and steps > 5
