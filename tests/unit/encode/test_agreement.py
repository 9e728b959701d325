import numpy as np
import pytest

from trireme.encode.agreement import compare_scores, compare_vectors, rank_correlation


def test_cosines_are_smallest_and_mean():
    first = np.array([[1.0, 0.0], [0.0, 2.0]], np.float32)
    second = np.array([[3.0, 0.0], [1.0, 1.0]], np.float32)
    figures = compare_vectors(first, second)
    assert figures["cosine_min"] == pytest.approx(0.5**0.5)
    assert figures["cosine_mean"] == pytest.approx((1 + 0.5**0.5) / 2)


def test_rank_correlation_knows_order_and_ties():
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 70.0])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0])) == pytest.approx(0.8660254)


def test_score_difference_is_relative_to_the_spread():
    before = [np.array([0.0, 2.0], np.float32), np.array([4.0, 1.0], np.float32)]
    after = [np.array([0.0, 2.0], np.float32), np.array([3.0, 1.0], np.float32)]
    assert compare_scores(before, after) == {"rank_correlation": 1.0, "score_difference": 0.25}
