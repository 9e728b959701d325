"""Figures of pairs of questions: thresholds, hits and false hits."""

import random

import numpy as np
import pytest

from benchmarks.caching.pairs import PairSet, change, reword
from benchmarks.caching.semantic import COSINE, NEVER, rate_of, rows_of, ruled, threshold_at


def test_no_more_than_the_share_of_other_pairs_is_above_the_threshold():
    other = np.linspace(0, 1, 200)
    for share in (0.0, 0.01, 0.1):
        assert (other > threshold_at(other, share)).mean() <= share
    assert (other > threshold_at(other, 0.1)).sum() == 20


def test_what_a_rule_parts_is_served_at_no_threshold():
    pairs = [("Who is Ann?", "Who is Bob?"), ("What is the sum of it?", "What is the sum of it")]
    scores = ruled(np.array([0.9, 0.9]), pairs)
    assert list(scores) == [NEVER, 0.9]
    assert not (scores > threshold_at(np.array([NEVER, NEVER]), 0.5))[0]


def test_a_row_has_hits_by_its_own_threshold_and_by_the_common_one():
    sets = [
        PairSet("easy", (("a", "b"),) * 100, (("a", "c"),) * 100),
        PairSet("hard", (("a", "b"),) * 100, (("a", "c"),) * 100),
    ]
    easy = (np.full(100, 0.8), np.linspace(0.1, 0.5, 100))
    hard = (np.full(100, 0.8), np.linspace(0.7, 0.9, 100))
    first, second = rows_of(sets, {COSINE: [easy, hard]})
    assert first.hits.share == 1.0
    assert second.hits.share == 0.0
    assert first.common_hits.share == 0.0
    assert first.common_false.share == 0.0
    assert second.common_false.share == pytest.approx(0.02)
    assert len(first.curve) == 25


def test_a_rate_has_its_limits():
    rate = rate_of(50, 100)
    assert rate.low < rate.share == 0.5 < rate.high


def test_questions_are_reworded_and_changed():
    rng = random.Random(1)
    assert reword("What is the capital of France?", rng).lower().rstrip("?").endswith("capital of france")
    assert reword("Name it.", rng) == ""
    changed = change("When did the largest fire in Rome begin in 1990?", ["Paris"], rng)
    assert len(set(changed)) == len(changed) >= 5
    assert all(text != "When did the largest fire in Rome begin in 1990?" for text in changed)
