import dataclasses
import queue

import numpy as np
import pytest

from fakes.encoders import OverlapSession, SumSession, word_tokenizer
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.text_encoder import EncoderSpec, TextEncoder
from trireme.errors import InvalidInputError, UnavailableError

SPEC = RankerSpec(max_batch_tokens=64, max_text_bytes=100, max_passages=5, labels=("x", "y", "z"))


def ranker(with_prior=False, prior_encoder=None):
    return CrossEncoder(word_tokenizer(), OverlapSession(with_prior), SPEC, prior_encoder)


def gather(submit, requests):
    """The answers in order; ends the encoder's threads."""
    answers = [queue.SimpleQueue() for _ in requests]
    submit(requests, lambda position, answer: answers[position].put(answer))
    found = [answer.get(timeout=10) for answer in answers]
    submit.__self__.close()
    assert all(answer.empty() for answer in answers), "answered twice"
    return found


def prior_encoder():
    spec = EncoderSpec(4, True, "", "", 64, 100)
    return TextEncoder(word_tokenizer(), SumSession(), spec)


def test_scores_keep_the_order_of_the_passages():
    [answer] = gather(ranker().score, [RankRequest("a b", ["c", "a b", "a c d e"])])
    assert answer.score.tolist() == [0, 2, 1]


def test_several_requests_get_their_own_scores():
    first, second = gather(ranker().score, [RankRequest("a", ["a"]), RankRequest("b", ["c", "b"])])
    assert (first.score.tolist(), second.score.tolist()) == ([1], [0, 1])


def test_no_passages_get_no_scores():
    [answer] = gather(ranker().score, [RankRequest("a", [])])
    assert answer.score.shape == (0,)
    assert answer.truncated_tokens.shape == (0,)


def test_a_given_prior_is_used():
    [answer] = gather(
        ranker(with_prior=True).score, [RankRequest("a", ["a", "b"], np.array([0.5, 3], np.float32))]
    )
    assert answer.score.tolist() == [1.5, 3]


def test_a_missing_prior_is_the_cosine_of_the_embedder():
    encoder = prior_encoder()
    [answer] = gather(ranker(True, encoder).score, [RankRequest("a", ["a", "", "b c"])])
    assert answer.score[0] == pytest.approx(2, abs=1e-6)
    assert answer.score[1] == 0
    assert 0 < answer.score[2] < 1


def test_a_missing_prior_without_an_embedder_is_refused():
    [answer] = gather(ranker(with_prior=True).score, [RankRequest("a", ["a"])])
    assert isinstance(answer, InvalidInputError)


def test_beyond_the_rerank_depth_passages_keep_the_order_of_their_prior_below_the_read_ones():
    spec = dataclasses.replace(SPEC, rerank_depth=2)
    shallow = CrossEncoder(word_tokenizer(), OverlapSession(True), spec)
    prior = np.array([0.1, 0.9, 0.3, 0.8, 0.2], np.float32)
    first, second = gather(
        shallow.score,
        [RankRequest("a", ["a", "b", "a", "a", "a"], prior), RankRequest("a", ["a"], prior[:1])],
    )
    assert np.argsort(-first.score).tolist() == [3, 1, 2, 4, 0]
    assert first.score[[1, 3]].tolist() == pytest.approx([0.9, 1.8])
    assert second.score.tolist() == pytest.approx([1.1])


def test_without_a_prior_every_passage_is_read():
    spec = dataclasses.replace(SPEC, rerank_depth=1)
    shallow = CrossEncoder(word_tokenizer(), OverlapSession(False), spec)
    [answer] = gather(shallow.score, [RankRequest("a", ["b", "a", "a a"])])
    assert answer.score.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (RankRequest(" ", ["a"]), "query"),
        (RankRequest("a", ["a"] * 6), "the limit is 5"),
        (RankRequest("a", ["b", "c" * 101]), r"passages\[1\]"),
        (RankRequest("a", ["b"], np.array([np.nan], np.float32)), "prior"),
    ],
)
def test_a_bad_request_fails_alone_and_names_the_input(request_, words):
    good_one = RankRequest("a", ["a"], np.zeros(1, np.float32))
    bad, good = gather(ranker(with_prior=True).score, [request_, good_one])
    assert isinstance(bad, InvalidInputError)
    with pytest.raises(InvalidInputError, match=words):
        raise bad
    assert good.score.tolist() == [1]


def test_labels_come_best_first_with_probabilities_that_sum_to_one():
    classifier = CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC)
    answer, bad = gather(classifier.classify, ["a", ""])
    assert answer.labels == ("x", "y", "z")
    assert answer.score.sum() == pytest.approx(1)
    assert isinstance(bad, InvalidInputError)


def test_a_model_that_grades_texts_gives_its_numbers_as_they_are():
    spec = dataclasses.replace(SPEC, activation="identity")
    [answer] = gather(CrossEncoder(word_tokenizer(), SumSession(width=3), spec).classify, ["a"])
    # [CLS] a [SEP] are 1 + 4 + 2; the session's second number counts tokens.
    assert dict(zip(answer.labels, answer.score.tolist(), strict=True)) == {"x": 7, "y": 3, "z": 0}


def test_several_texts_get_their_own_labels():
    classifier = CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC)
    answers = gather(classifier.classify, ["a", "b c", "a"])
    assert answers[0].score.tolist() == answers[2].score.tolist()
    assert all(answer.score.sum() == pytest.approx(1) for answer in answers)


class BrokenSession(OverlapSession):
    def run(self, batch):
        raise RuntimeError("no memory")


def test_what_the_session_raises_reaches_every_request():
    broken = CrossEncoder(word_tokenizer(), BrokenSession(False), SPEC)
    answers = gather(broken.score, [RankRequest("a", ["a"]), RankRequest("b", ["b"])])
    assert [str(answer) for answer in answers] == ["no memory", "no memory"]


def test_what_the_embedder_of_a_missing_prior_raises_ends_its_request_alone():
    embedder = TextEncoder(word_tokenizer(), BrokenSession(False), EncoderSpec(4, True, "", "", 64, 100))
    given = RankRequest("a", ["a"], np.zeros(1, np.float32))
    first, missing, last = gather(ranker(True, embedder).score, [given, RankRequest("a", ["a"]), given])
    assert (first.score.tolist(), str(missing), last.score.tolist()) == ([1], "no memory", [1])


def test_after_the_end_a_request_is_told_to_try_again():
    ended = ranker()
    ended.close()
    [answer] = gather(ended.score, [RankRequest("a", ["a"])])
    assert isinstance(answer, UnavailableError)
