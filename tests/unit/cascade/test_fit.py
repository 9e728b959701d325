"""The fit: known chances are found again, and what cannot be fitted is refused by name."""

import random
from dataclasses import replace

import numpy as np
import pytest

from fakes.cascades import VERSIONS, make_answers
from trireme.cascade.evidence import Evidence
from trireme.cascade.fit import (
    LEAST_EXAMPLES,
    LEAST_OF_A_KIND,
    TILT,
    compute_auc,
    compute_ece,
    find_features,
    fit,
    fit_isotonic,
)
from trireme.errors import InvalidInputError


@pytest.fixture(scope="module")
def fitted():
    return fit(make_answers(3000, seed=1)[0])


def test_the_chances_of_new_answers_are_near_the_true_ones(fitted):
    answers, chances = make_answers(2000, seed=2)
    found = np.array([fitted.calibration.chance(one.evidence) for one in answers])
    assert np.abs(found - chances).mean() < 0.04
    right = np.array([one.right for one in answers])
    assert compute_ece(found, right) < 0.05


def test_the_calibration_says_what_it_was_fitted_on_and_keeps_nothing_yet(fitted):
    one = fitted.calibration
    assert (one.step, one.versions, one.examples) == ("made", VERSIONS, 3000)
    assert one.features == ("logprob_p10", "sentence_score")
    assert one.threshold == 1.0 and not one.can_keep(make_answers(1, seed=3)[0][0].evidence)
    assert max(one.chances) < 1 and min(one.chances) > 0
    assert sorted(one.scores) == list(one.scores) and sorted(one.chances) == list(one.chances)


def test_the_isotonic_map_mends_what_the_logistic_gets_wrong(fitted):
    seen = fitted.figures
    assert seen.auc > 0.75 and seen.ece_after < 0.05
    # Ends that no logistic has: 5 % and 95 %.
    assert seen.ece_after < seen.ece_before


def test_the_same_answers_give_the_same_calibration():
    answers = make_answers(400, seed=4)[0]
    assert fit(answers).calibration == fit(answers).calibration


def test_an_answers_own_label_does_not_reach_the_chance_by_which_it_is_judged():
    answers = make_answers(400, seed=5)[0]
    turned = [replace(answers[0], right=not answers[0].right), *answers[1:]]
    before, after = (fit(some) for some in (answers, turned))
    # Its own fold's logistic never saw it; only the isotonic map, of 400, may have moved.
    assert abs(before.chances[0] - after.chances[0]) < 0.1


def test_features_that_are_unknown_once_or_never_differ_are_left_out():
    evidence = [
        Evidence(
            tokens=5, is_refusal=n % 2 == 0, logprob_p05=-1.0, sentence_score=float(n), passage_score=float(n)
        )
        for n in range(10)
    ]
    evidence[3] = replace(evidence[3], passage_score=None)
    assert find_features(evidence) == ("is_refusal", "sentence_score")


def test_knots_rise_and_heights_never_fall_whatever_the_scores_are():
    draw = random.Random(6)
    for _ in range(50):
        count = draw.randint(2, 80)
        digits = draw.randint(1, 6)
        scores = np.array([round(draw.random(), digits) for _ in range(count)])
        right = np.array([draw.random() < 0.5 for _ in range(count)])
        knots, heights = fit_isotonic(scores, right, group=draw.choice([1, 3, 20]))
        assert (np.diff(knots) > 0).all() and (np.diff(heights) > 0).all()
        assert heights[0] > 0 and heights[-1] < 1


def test_pooled_neighbours_have_the_mean_of_their_answers():
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    right = np.array([False, True, False, True, False, True])
    knots, heights = fit_isotonic(scores, right, group=1)
    # By hand: 0 | 1 0 | 1 0 | 1, the ends a third away from certainty.
    assert np.interp(scores, knots, heights) == pytest.approx([1 / 3, 0.5, 0.5, 0.5, 0.5, 2 / 3], abs=TILT)


def test_answers_of_one_block_are_parted_by_their_scores():
    scores = np.linspace(0.2, 0.8, 100)
    knots, heights = fit_isotonic(scores, np.arange(100) % 2 == 0)
    found = np.interp(scores, knots, heights)
    inner = found[(scores >= knots[0]) & (scores <= knots[-1])]
    assert (np.diff(inner) > 0).all() and np.ptp(inner) < 2 * TILT


def test_one_answer_alone_makes_no_chance():
    scores = np.linspace(0, 1, 201)
    right = np.arange(201) % 2 == 0
    # The best answer is right; among its neighbours half are.
    heights = fit_isotonic(scores, right)[1]
    assert heights[0] > 0.4 and heights[-1] < 0.6


def test_the_area_under_the_curve_counts_pairs_and_ties_half():
    right = np.array([False, True, False, True])
    assert compute_auc(np.array([0.1, 0.2, 0.3, 0.4]), right) == 0.75
    assert compute_auc(np.array([0.5, 0.5, 0.5, 0.5]), right) == 0.5
    assert compute_auc(np.array([0.4, 0.1, 0.4, 0.4]), right) == 0.25


def test_the_calibration_error_is_the_mean_distance_over_bins():
    chances = np.array([0.1, 0.1, 0.9, 0.9])
    right = np.array([False, True, True, True])
    assert compute_ece(chances, right, bins=2) == pytest.approx((0.4 + 0.1) / 2)


def refused(answers, said):
    with pytest.raises(InvalidInputError, match=said):
        fit(answers)


def test_too_few_answers_are_refused():
    refused(make_answers(LEAST_EXAMPLES - 1, seed=7)[0], f"{LEAST_EXAMPLES - 1} labelled answers")


def test_answers_of_one_kind_are_refused():
    answers = make_answers(LEAST_EXAMPLES, seed=8)[0]
    refused([replace(one, right=True) for one in answers], "0 of the 200 answers are wrong")
    few = [replace(one, right=n < LEAST_OF_A_KIND - 1) for n, one in enumerate(answers)]
    refused(few, f"{LEAST_OF_A_KIND - 1} of the 200 answers are right")


def test_answers_of_two_steps_or_versions_are_refused():
    answers = make_answers(LEAST_EXAMPLES, seed=9)[0]
    refused([replace(answers[0], step="other"), *answers[1:]], "2 steps")
    refused([replace(answers[0], versions=(("llm", "b"),)), *answers[1:]], "2 versions")


def test_answers_without_a_feature_that_differs_are_refused():
    answers = make_answers(LEAST_EXAMPLES, seed=10)[0]
    refused([replace(one, evidence=Evidence(tokens=3)) for one in answers], "no feature")
