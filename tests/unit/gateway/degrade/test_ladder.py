import pytest

from fakes.providers import Clock
from trireme.gateway.degrade.ladder import Ladder, Rung

RUNGS = (Rung("first", 1.0), Rung("second", 2.0), Rung("third", 4.0))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ladder(clock):
    return Ladder(RUNGS, 0.5, 1.0, clock)


def test_steps_are_taken_in_their_order_as_the_backlog_grows(ladder):
    assert ladder.look(0.9, 0.9) == ()
    assert ladder.look(1.0, 1.0) == ("first",)
    assert ladder.look(3.9, 3.9) == ("first", "second")
    assert ladder.look(4.0, 4.0) == ("first", "second", "third")


def test_a_backlog_that_jumps_takes_all_of_them_at_once(ladder):
    assert ladder.look(9.0, 9.0) == ("first", "second", "third")


def test_steps_are_taken_back_one_by_one_each_after_a_calm_time(ladder, clock):
    ladder.look(9.0, 9.0)
    seen = []
    for _ in range(8):
        seen.append(len(ladder.look(0.0, 0.0)))
        clock.move(0.5)
    assert seen == [3, 3, 2, 2, 1, 1, 0, 0]


def test_a_backlog_between_calm_and_the_threshold_changes_nothing_however_long_it_lasts(ladder, clock):
    ladder.look(2.0, 2.0)
    for backlog in (1.0, 1.9, 1.0, 1.5):
        clock.move(100)
        assert ladder.look(backlog, backlog) == ("first", "second")


def test_a_backlog_that_swings_around_a_threshold_takes_its_step_once(ladder, clock):
    changes, before = 0, ()
    for backlog in (2.1, 1.9, 2.1, 0.9, 2.1, 1.9) * 10:
        clock.move(0.4)
        steps = ladder.look(backlog, backlog)
        changes += steps != before
        before = steps
    assert changes == 1


def test_a_calm_that_is_broken_begins_anew(ladder, clock):
    ladder.look(1.0, 1.0)
    ladder.look(0.0, 0.0)
    clock.move(0.9)
    ladder.look(0.6, 0.6)
    clock.move(0.9)
    assert ladder.look(0.0, 0.0) == ("first",)
    clock.move(1.0)
    assert ladder.look(0.0, 0.0) == ()


def test_behind_the_step_that_needs_no_llm_the_backlog_of_llms_counts_no_more(clock):
    ladder = Ladder((Rung("extractive", 1.0), Rung("stale", 2.0, is_light=True)), 0.5, 1.0, clock)
    assert ladder.look(9.0, 0.1) == ("extractive",)
    assert ladder.look(9.0, 2.0) == ("extractive", "stale")


def test_it_knows_all_of_its_steps(ladder):
    assert ladder.all_steps == ("first", "second", "third")


def test_nothing_is_taken_back_while_more_comes_than_is_answered(ladder, clock):
    ladder.look(9.0, 9.0)
    for _ in range(5):
        assert len(ladder.look(0.0, 0.0, is_loaded=True)) == 3
        clock.move(1.0)
    assert len(ladder.look(0.0, 0.0)) == 3
    clock.move(1.0)
    assert len(ladder.look(0.0, 0.0)) == 2


def test_it_is_at_its_end_with_all_steps_taken_and_without_any(ladder):
    assert Ladder((), 0.5, 1.0).is_at_end
    assert not ladder.is_at_end
    ladder.look(2.0, 2.0)
    assert not ladder.is_at_end
    ladder.look(4.0, 4.0)
    assert ladder.is_at_end
