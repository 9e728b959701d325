"""Circuits that open, rest and are tried again, on a clock that the test moves."""

import pytest

from fakes.providers import Clock
from trireme.providers.breaker import BreakerPolicy, Breakers

KEY = ("a", "m", 0)
POLICY = BreakerPolicy(failures=3, window=60.0, rest=10.0, longest_rest=600.0, circuits=4)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def breakers(clock):
    return Breakers(POLICY, clock)


def fail(breakers, times=1, key=KEY):
    for _ in range(times):
        breakers.take(key).fail("overloaded")


def test_a_circuit_opens_after_so_many_failures_in_a_row(breakers):
    fail(breakers, 2)
    assert breakers.wait_for(KEY) == 0
    fail(breakers)
    assert breakers.take(KEY) is None
    assert (breakers.wait_for(KEY), breakers.reason_of(KEY)) == (10.0, "overloaded")
    assert breakers.snapshot() == {KEY: 10.0}


def test_a_success_in_between_starts_the_count_anew(breakers):
    fail(breakers, 2)
    breakers.take(KEY).succeed()
    fail(breakers, 2)
    assert breakers.take(KEY) is not None


def test_failures_further_apart_than_the_window_do_not_add_up(breakers, clock):
    for _ in range(9):
        fail(breakers)
        assert breakers.wait_for(KEY) == 0
        clock.move(60.5)


def test_each_key_of_a_provider_has_a_circuit_of_its_own(breakers):
    fail(breakers, 3)
    assert breakers.take(("a", "m", 1)) is not None
    assert breakers.take(("a", "other", 0)) is not None


def test_after_the_rest_one_call_alone_is_let_through(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    assert breakers.wait_for(KEY) == 0
    assert breakers.take(KEY) is not None
    assert breakers.take(KEY) is None
    # The probe runs: nobody knows until when, so that the rest is said.
    assert breakers.wait_for(KEY) == 10.0
    assert breakers.snapshot() == {KEY: 0.0}


def test_a_probe_that_succeeds_closes_the_circuit(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    breakers.take(KEY).succeed()
    assert breakers.snapshot() == {}
    fail(breakers, 2)
    assert breakers.take(KEY) is not None


def test_a_probe_that_fails_opens_it_for_another_rest(breakers, clock):
    fail(breakers, 3)
    clock.move(100.0)
    fail(breakers)
    assert breakers.take(KEY) is None
    clock.move(10.0)
    assert breakers.take(KEY) is not None


def test_a_probe_that_is_released_leaves_its_place_to_the_next(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    breakers.take(KEY).release()
    assert breakers.take(KEY) is not None
    assert breakers.take(KEY) is None


def test_a_probe_whose_answer_has_begun_lets_others_call(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    breakers.take(KEY).answer()
    assert breakers.take(KEY) is not None
    assert breakers.take(KEY) is not None


def test_an_answer_after_the_rest_that_breaks_off_opens_the_circuit_at_once(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    probe = breakers.take(KEY)
    probe.answer()
    probe.fail("cut")
    assert breakers.take(KEY) is None


def test_answers_that_begin_and_always_break_off_open_the_circuit(breakers):
    for _ in range(3):
        permit = breakers.take(KEY)
        permit.answer()
        permit.fail("cut")
    assert breakers.take(KEY) is None


def test_a_call_from_before_the_opening_does_not_close_it(breakers, clock):
    old = breakers.take(KEY)
    fail(breakers, 3)
    old.answer()
    old.succeed()
    assert breakers.take(KEY) is None
    clock.move(10.0)
    probe = breakers.take(KEY)
    old.release()
    assert breakers.take(KEY) is None, "the probe's place is the probe's"
    probe.succeed()
    assert breakers.take(KEY) is not None


@pytest.mark.parametrize("first, second", [(100.0, 20.0), (20.0, 100.0)])
def test_the_later_of_two_deadlines_holds(breakers, first, second):
    one, two = breakers.take(KEY), breakers.take(KEY)
    one.bench(first, "rate_limit")
    two.bench(second, "auth")
    assert breakers.wait_for(KEY) == 100.0
    assert breakers.reason_of(KEY) == ("rate_limit" if first > second else "auth")


def test_late_failures_do_not_shorten_a_rest(breakers):
    calls = [breakers.take(KEY) for _ in range(4)]
    calls[0].bench(100.0, "rate_limit")
    for permit in calls[1:]:
        permit.fail("overloaded")
    assert (breakers.wait_for(KEY), breakers.reason_of(KEY)) == (100.0, "rate_limit")


def test_no_provider_rests_longer_than_the_longest_rest(breakers):
    breakers.take(KEY).bench(86_400.0, "rate_limit")
    assert breakers.wait_for(KEY) == 600.0


def test_what_was_released_counts_for_nothing(breakers):
    for _ in range(9):
        breakers.take(KEY).release()
    assert breakers.take(KEY) is not None
    assert breakers.snapshot() == {}


def test_only_so_many_circuits_are_kept_and_those_that_rest_longest_stay(breakers):
    for index in range(3):
        breakers.take(("a", "m", index)).bench(100.0 + index, "auth")
    for index in range(3, 50):
        fail(breakers, 1, ("a", "m", index))
    assert breakers.snapshot() == {("a", "m", index): 100.0 + index for index in range(3)}
    for index in range(50, 60):
        fail(breakers, 3, ("a", "m", index))
    assert len(breakers.snapshot()) <= 4


def test_a_circuit_that_was_forgotten_with_its_probe_starts_anew(breakers, clock):
    fail(breakers, 3)
    clock.move(10.0)
    probe = breakers.take(KEY)
    for index in range(1, 9):
        breakers.take(("a", "m", index)).bench(100.0, "auth")
    probe.succeed()
    assert breakers.take(KEY) is not None
