"""From an answer's tokens, scores and text to Evidence."""

import math
import random

import pytest

from trireme.cascade.evidence import Evidence
from trireme.cascade.features import FIRST_TOKENS, LEAST_LOGPROB, is_refusal, make_evidence, quantile
from trireme.rag.answer import NOTHING_FOUND


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


@pytest.mark.parametrize(
    "text",
    [
        "The passages do not say.",
        "the passages do not say",
        "The passages do not say. [1]",
        NOTHING_FOUND.format(collection="docs"),
        "",
        "  \n",
        "I don't know.",
        "I don’t know the answer to that.",
        "I do not have enough information to answer this question.",
        "I'm sorry, but I cannot find that in the passages.",
        "I am not sure.",
        "I'm unable to answer that.",
        "Sorry, I can't help with that.",
        "Unfortunately, the provided context does not mention the year.",
        "The passage does not explicitly state who won.",
        "The text doesn't say [2].",
        "These passages do not contain the answer.",
        "There is no information about this in the passages.",
        "Not enough information.",
        "The answer is not mentioned in the context.",
        "It is not specified.",
        "It cannot be determined from the text.",
        "As an AI language model, I have no access to that.",
        "Based on the passages, the answer is unknown.",
        "Unanswerable",
        "N/A",
        "Not mentioned.",
    ],
)
def test_what_says_that_it_does_not_know_is_a_refusal(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "Port 8000 [1].",
        "Scientists do not know why the sky darkened.",
        "Luther said: I do not know where he is.",
        "The information age began in 1970.",
        "The text of the treaty was signed in 1951 [1].",
        "No information is needed to start the server.",
        "None of the ships returned [1].",
        "Unknown Pleasures was released in 1979.",
        "No answer came from the king until 1810.",
        "It is not only the largest city but also the oldest [2].",
        "I have a dream.",
        "The document was signed in 1215 [1].",
        "From the north, the river does not reach the sea.",
        "In 1066. The passages do not say more.",
        "The sources of the Rhine do not freeze in winter.",
    ],
)
def test_what_answers_is_no_refusal(text):
    assert not is_refusal(text)


def test_a_refusal_is_found_in_front_of_a_text_of_any_length():
    assert is_refusal("I don't know. " + "But let me tell you of the sea. " * 100_000)
    assert not is_refusal("In the passages, " * 100_000 + "I do not know.")
