"""What is known of hits before a reranker reads them."""

import pytest

from trireme.retrieve.store import LACKING_WORDS, compute_priors
from trireme.types import Hit


def hit(score, coverage):
    return Hit("p", "text", "{}", score, coverage=coverage)


def test_the_hit_with_most_words_keeps_its_cosine_and_the_others_lose_what_they_lack():
    found = compute_priors([hit(0.5, 0.25), hit(0.4, 0.75)])
    assert found == pytest.approx([0.5 - LACKING_WORDS * 0.5, 0.4])


def test_without_words_or_hits_the_cosines_stay():
    assert compute_priors([hit(0.5, 0.0), hit(-0.4, 0.0)]) == [0.5, -0.4]
    assert compute_priors([]) == []
