from dataclasses import dataclass

import pytest

from benchmarks.scaling.fit import STEPS, STEPS_S, Goal, Search, Tried, descend, make_step_load
from benchmarks.scaling.fleet import Timing
from benchmarks.scaling.outcome import replay
from benchmarks.scaling.policies import AWS, Knobs, ours
from fakes.scaling import ONE, wave


@dataclass(frozen=True)
class Pair:
    a: int = 0
    b: int = 0


def test_one_field_after_the_other_finds_the_best_of_its_choices():
    choices = {"a": (0, 1, 2), "b": (0, 3, 7)}
    found = descend(Pair(), choices, lambda one, best: one.a - abs(one.b - 4) > best.a - abs(best.b - 4))
    assert found == Pair(2, 3)
    # A better value of one field may open another's, in the next round.
    found = descend(Pair(), choices, lambda one, best: one.a * one.b + one.b > best.a * best.b + best.b)
    assert found == Pair(2, 7)


def test_fields_that_pay_for_each_other_are_tried_in_all_pairings():
    choices = {"a": (0, 1), "b": (0, 3)}

    def is_better(one, best):
        # Each alone is worse than neither.
        value = {(0, 0): 1, (1, 3): 2}
        return value.get((one.a, one.b), 0) > value.get((best.a, best.b), 0)

    assert descend(Pair(), choices, is_better) == Pair(0, 0)
    assert descend(Pair(), choices, is_better, ("a", "b")) == Pair(1, 3)


def test_loads_of_different_users_count_by_what_the_recipe_pays_for_each():
    loads = [wave(200, 600), wave(800, 600)]
    paid = [ours_paid(one) for one in loads]
    both = Search(ONE, loads, Timing(), 1, paid).try_one(ours(), "ours")
    assert both.replica_s == pytest.approx(2.0)
    assert Search(ONE, loads, Timing(), 1).try_one(ours(), "ours").replica_s == pytest.approx(sum(paid))


def ours_paid(load):
    return replay(ours(), ONE, load, Timing(), 0.0)[0].replica_s


@pytest.mark.parametrize(
    ("goal", "best", "other", "is_better"),
    [
        (Goal(budget_s=100), Tried(0.2, 90, 1), Tried(0.1, 100, 2), True),
        (Goal(budget_s=100), Tried(0.2, 90, 1), Tried(0.0, 101, 1), False),  # over its budget
        (Goal(budget_s=100), Tried(0.2, 90, 1), Tried(0.0, 90, 3), False),  # turns too often
        (Goal(budget_s=100), Tried(0.2, 120, 1), Tried(0.3, 110, 1), True),  # breaks the rule by less
        (Goal(budget_s=100), Tried(0.2, 90, 1), Tried(0.195, 80, 1), False),  # by chance
        (Goal(budget_s=100), Tried(0.0, 90, 1), Tried(0.0, 50, 1), False),
        (Goal(most_late=0.1), Tried(0.05, 90, 1), Tried(0.1, 80, 1), True),
        (Goal(most_late=0.1), Tried(0.05, 90, 1), Tried(0.11, 10, 1), False),
        (Goal(most_late=0.1), Tried(0.2, 90, 1), Tried(0.15, 200, 1), True),
        (Goal(most_late=0.1), Tried(0.05, 90, 1), Tried(0.0, 89, 1), False),
    ],
)
def test_rules_come_before_what_is_wished_for(goal, best, other, is_better):
    assert goal.is_better(other, best) is is_better


def test_a_step_load_has_the_lengths_of_its_users_and_steps_of_replicas():
    one = wave(400, 800)
    found = make_step_load(ONE, one, 1)
    assert {item.inputs for item in found.requests} == {item.inputs for item in one.requests}
    assert found.steps == tuple(at for at, _ in STEPS[1:]) and found.seconds == STEPS_S
    middle = sum(ONE.work_of(item.inputs, 0) for item in found.requests if 600 <= item.at < 2400) / 1800
    assert 4 < middle < 6


@pytest.fixture(scope="module")
def search():
    return Search(ONE, [wave(2000, 1500)], Timing(), 1)


def test_a_fit_keeps_to_its_budget_and_turns_and_is_no_later_than_what_is_shipped(search):
    found = search.fit(Goal(budget_s=3 * search.try_one(AWS, "recipe").replica_s))
    assert found.tried.late <= search.try_one(ours(), Knobs()).late
    assert found.tried.replica_s <= found.budget_s and found.tried.turns <= 2


def test_a_fit_for_few_late_answers_is_cheaper_where_more_may_be_late(search):
    strict = search.fit(Goal(most_late=0.02)).tried
    loose = search.fit(Goal(most_late=0.9)).tried
    assert loose.replica_s <= strict.replica_s
    assert loose.late <= 0.9
