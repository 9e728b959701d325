"""From an answer's tokens, scores and text to Evidence."""

import math
import random

import pytest

from trireme.cascade.evidence import Evidence
from trireme.cascade.features import FIRST_TOKENS, LEAST_LOGPROB, make_evidence, quantile


def test_what_is_not_given_is_not_known():
    assert make_evidence("Two words.") == Evidence(tokens=2)


def test_a_generated_answer_has_its_quantiles_its_least_and_its_first():
    logprobs = [-0.5, *[-0.01 * n for n in range(1, 40)]]
    found = make_evidence("An answer.", logprobs=logprobs, margins=[2.0, 1.0, 3.0])
    # Of 40 the second and the fourth from below.
    assert (found.logprob_p05, found.logprob_p10) == (-0.39, -0.37)
    assert (found.logprob_least, found.logprob_first, found.margin_p10) == (-0.5, -0.5, 1.0)
    assert found.tokens == 40 and not found.is_cut


def test_the_first_tokens_are_read_as_if_no_more_had_come():
    logprobs = [-0.1] * FIRST_TOKENS + [-9.0]
    part = make_evidence("The start", logprobs=logprobs, margins=logprobs, first=FIRST_TOKENS)
    assert (part.tokens, part.is_cut, part.logprob_least, part.margin_p10) == (FIRST_TOKENS, True, -0.1, -0.1)
    short = make_evidence("Done.", logprobs=[-0.1] * 3, first=FIRST_TOKENS)
    assert (short.tokens, short.is_cut) == (3, False)
    # Who has read so many does not know that there are no more.
    assert make_evidence("Done.", logprobs=[-0.1] * FIRST_TOKENS, first=FIRST_TOKENS).is_cut
    counted = make_evidence("Done.", tokens=100, first=FIRST_TOKENS)
    assert (counted.tokens, counted.is_cut, counted.logprob_p05) == (FIRST_TOKENS, True, None)


def test_scores_of_passages_give_the_best_and_the_gap():
    found = make_evidence("Yes.", sentence_score=0.9, passage_scores=[1.5, 1.0, 0.2])
    assert (found.sentence_score, found.passage_score, found.passage_gap) == (0.9, 1.5, 0.5)
    alone = make_evidence("Yes.", passage_scores=[1.5])
    assert (alone.passage_score, alone.passage_gap) == (1.5, None)


def test_citations_that_were_checked_and_do_not_hold_are_none_of_them_and_not_unknown():
    found = make_evidence("Yes.", supports=[0.5, 0.75])
    assert (found.citations, found.citation_support) == (2, 0.75)
    none = make_evidence("Yes.", supports=[])
    assert (none.citations, none.citation_support) == (0, 0.0)


def test_log_probabilities_stay_finite_and_at_most_zero():
    found = make_evidence("Yes.", logprobs=[1e-7, -math.inf, math.nan, -9999.0], margins=[math.inf])
    assert (found.logprob_first, found.logprob_least, found.margin_p10) == (
        0.0,
        LEAST_LOGPROB,
        -LEAST_LOGPROB,
    )


def test_an_answer_without_tokens_knows_no_quantiles():
    found = make_evidence("", logprobs=[], margins=[])
    assert (found.tokens, found.logprob_p05, found.margin_p10, found.is_refusal) == (0, None, None, True)


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [
        (1, 0.05, 1),
        (1, 0.1, 1),
        (10, 0.1, 1),
        (11, 0.1, 2),
        (20, 0.05, 1),
        (21, 0.05, 2),
        (60, 0.05, 3),
        (7, 0.0, 1),
    ],
)
def test_a_quantile_is_the_value_of_its_rank(count, share, rank):
    values = [float(n) for n in range(1, count + 1)]
    random.Random(count).shuffle(values)
    assert quantile(values, share) == rank
