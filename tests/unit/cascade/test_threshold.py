"""Thresholds: cases that are solved by hand, and what holds of all."""

import random

import numpy as np
import pytest

from trireme.cascade.calibration import Calibration
from trireme.cascade.threshold import (
    KEEP_ALL,
    KEEP_NONE,
    Big,
    StepAnswers,
    choose_thresholds,
    find_candidates,
    judge,
    place_thresholds,
)
from trireme.errors import InvalidInputError


def step(chances, right, cost=0.1):
    return StepAnswers(np.array(chances, np.float64), np.array(right, bool), cost)


# 100 answers: the 40 with a chance of 0.9 are all right, of the 60 with 0.3 a third is.
SURE = step([0.9] * 40 + [0.3] * 60, [True] * 40 + [True] * 20 + [False] * 40)


def test_the_sure_answers_are_kept_and_the_others_escalate():
    choice = choose_thresholds([SURE], Big(quality=0.9), floor=0.95)
    for outcome in (choice.sure, choice.likely):
        assert outcome.thresholds == (0.9,)
        # By hand: 40 right, and 60 * 0.9.
        assert outcome.quality.mean == pytest.approx(0.94)
        assert outcome.escalated.mean == 0.6
        assert outcome.cost.mean == pytest.approx(0.1 + 0.6)
        assert outcome.steps[0].share.mean == 0.4 and outcome.steps[0].wrong == 0


def test_a_low_floor_keeps_all_and_a_high_one_with_a_bad_small_model_nothing():
    assert choose_thresholds([SURE], Big(quality=0.9), floor=0.5).sure.thresholds == (KEEP_ALL,)
    bad = step([0.6] * 50 + [0.5] * 50, [False] * 100)
    outcome = choose_thresholds([bad], Big(quality=0.9), floor=1.0).sure
    assert outcome.thresholds == (KEEP_NONE,)
    assert (outcome.quality.mean, outcome.escalated.mean) == (pytest.approx(0.9), 1.0)


def test_where_the_interval_is_wide_the_sure_choice_keeps_less_than_the_likely_one():
    # 20 answers of chance 0.8 with 17 right: 0.85 by the mean, no more than 0.7 at the lower end.
    wide = step([0.8] * 20 + [0.2] * 20, [True] * 17 + [False] * 23)
    choice = choose_thresholds([wide], Big(quality=0.9), floor=0.97)
    assert choice.likely.thresholds == (0.8,)
    assert choice.sure.thresholds == (KEEP_NONE,)
    at = judge([wide], Big(quality=0.9), (0.8,))
    assert at.quality.low < 0.97 * 0.9 <= at.quality.mean


def test_the_floor_holds_at_the_lower_end_of_what_is_chosen():
    draw = np.random.default_rng(1)
    for _ in range(10):
        chances = draw.random(300)
        made = step(chances, draw.random(300) < chances)
        choice = choose_thresholds([made], Big(quality=0.85), floor=0.95)
        assert choice.sure.quality.low >= 0.95 * 0.85 - 1e-9
        assert choice.sure.cost.mean >= choice.likely.cost.mean


def test_two_steps_are_chosen_together():
    # What the first is sure of is right; the second is right where the first is not sure, half of the time surely.
    first = step([0.9] * 50 + [0.1] * 50, [True] * 50 + [False] * 50, cost=0.01)
    second = step([0.2] * 50 + [0.8] * 25 + [0.3] * 25, [False] * 50 + [True] * 25 + [False] * 25, cost=0.1)
    outcome = choose_thresholds([first, second], Big(quality=1.0), floor=1.0).sure
    assert outcome.thresholds == (0.9, 0.8)
    assert outcome.quality.mean == 1.0 and outcome.escalated.mean == 0.25
    # By hand: every question 0.01, half of them 0.1, a quarter 1.
    assert outcome.cost.mean == pytest.approx(0.01 + 0.05 + 0.25)
    # Of those that reached the second step.
    assert outcome.steps[1].share.mean == 0.5


def test_a_step_that_costs_more_than_it_spares_is_passed_without_keeping():
    dear = step([0.9] * 100, [True] * 100, cost=0.9)
    assert choose_thresholds([dear], Big(quality=0.9, cost=0.5), floor=0.9).sure.thresholds == (KEEP_ALL,)
    outcome = judge([dear], Big(quality=0.9, cost=0.5), (KEEP_NONE,))
    assert outcome.cost.mean == pytest.approx(1.4)


def test_an_outcome_is_the_sum_of_its_questions():
    draw = random.Random(2)
    for _ in range(20):
        chances = [draw.random() for _ in range(50)]
        right = [draw.random() < 0.5 for _ in range(50)]
        threshold, quality = draw.random(), 0.5 + draw.random() / 2
        outcome = judge([step(chances, right, 0.2)], Big(quality), (threshold,))
        kept = [chance >= threshold for chance in chances]
        expected = sum(good if keep else quality for keep, good in zip(kept, right, strict=True)) / 50
        assert outcome.quality.mean == pytest.approx(expected)
        assert outcome.cost.mean == pytest.approx(0.2 + 1 - sum(kept) / 50)
        assert outcome.quality.low <= outcome.quality.mean <= outcome.quality.high


def test_the_calibration_gets_its_threshold_and_what_it_keeps():
    one = Calibration(
        "made",
        (("llm", "a"),),
        ("tokens",),
        (0.0,),
        (1.0,),
        (1.0,),
        0.0,
        (0.5,),
        (0.5,),
        1.0,
        1.0,
        100,
        0,
        0,
        0,
        0,
    )
    outcome = choose_thresholds([SURE], Big(quality=0.9), floor=0.5).sure
    (placed,) = place_thresholds([one], outcome, 0.5)
    assert (placed.threshold, placed.floor, placed.kept_share, placed.wrong_kept) == (KEEP_ALL, 0.5, 1.0, 1.0)
    assert placed.kept_low <= placed.kept_share <= placed.kept_high


def test_many_chances_are_thinned_and_the_ends_stay():
    found = find_candidates(np.linspace(0.01, 0.99, 10_000), steps=2)
    assert len(found) <= 50 and found[0] == KEEP_ALL and found[-1] == KEEP_NONE
    assert found == sorted(found) and 0.01 in found and 0.99 in found


@pytest.mark.parametrize(
    ("steps", "big", "floor", "said"),
    [
        ([], Big(0.9), 0.9, "needs a step"),
        ([step([], [])], Big(0.9), 0.9, "needs a step"),
        ([SURE, step([0.5], [True])], Big(0.9), 0.9, "1 and 100 questions"),
        ([SURE], Big(0.0), 0.9, "quality must be above 0"),
        ([SURE], Big(0.9), 1.1, "floor must be from 0 to 1"),
        ([step([0.5], [True], -1.0)], Big(0.9), 0.9, "must not be below 0"),
    ],
)
def test_what_does_not_fit_is_named(steps, big, floor, said):
    with pytest.raises(InvalidInputError, match=said):
        choose_thresholds(steps, big, floor)
