import dataclasses

import numpy as np
import pytest

from fakes.encoders import NamedSession, OverlapSession, SumSession, word_tokenizer
from trireme.encode import text_encoder
from trireme.encode.cross_encoder import CrossEncoder, RankerSpec, RankRequest
from trireme.encode.pair_template import PairTemplate
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.errors import InvalidInputError, OverLengthError, UnavailableError

SPEC = RankerSpec(max_batch_tokens=64, max_text_bytes=100, max_passages=5, labels=("x", "y", "z"))


def ranker(with_prior=False, prior_encoder=None, **changes):
    spec = dataclasses.replace(SPEC, needs_prior=with_prior, **changes)
    return CrossEncoder(word_tokenizer(), OverlapSession(), spec, prior_encoder)


def rank(encoder, *requests):
    found = encoder.rank(requests).result()
    encoder.close()
    return found


def classify(encoder, *texts):
    found = encoder.classify(texts).result()
    encoder.close()
    return found


def prior_encoder():
    spec = EncoderSpec(4, True, "", "", 64, 100)
    return TextEncoder(word_tokenizer(), SumSession(), spec)


def test_scores_keep_the_order_of_the_passages():
    [answer] = rank(ranker(), RankRequest("a b", ["c", "a b", "a c d e"]))
    assert answer.score.tolist() == [0, 2, 1]


def test_several_rows_get_their_own_scores():
    first, second = rank(ranker(), RankRequest("a", ["a"]), RankRequest("b", ["c", "b"]))
    assert (first.score.tolist(), second.score.tolist()) == ([1], [0, 1])


def test_no_passages_get_no_scores():
    [answer] = rank(ranker(), RankRequest("a", []))
    assert answer.score.shape == (0,)
    assert answer.truncated_tokens.shape == (0,)


def test_a_given_prior_is_added():
    prior = np.array([0.5, 3], np.float32)
    [answer] = rank(ranker(with_prior=True), RankRequest("a", ["a", "b"], prior))
    assert answer.score.tolist() == [1.5, 3]
    [answer] = rank(ranker(with_prior=False), RankRequest("a", ["a", "b"], prior))
    assert answer.score.tolist() == [1, 0]


def test_a_missing_prior_is_the_cosine_of_the_embedder():
    [answer] = rank(ranker(True, prior_encoder()), RankRequest("a", ["a", "", "b c"]))
    assert answer.score[0] == pytest.approx(2, abs=1e-6)
    assert answer.score[1] == 0
    assert 0 < answer.score[2] < 1


def test_a_prior_is_made_of_the_vectors_of_an_embedder_with_several_outputs_alone():
    session = NamedSession()
    spec = EncoderSpec(4, True, "", "", 64, 100, outputs=("dense", "sparse", "multi"))
    embedder = TextEncoder(word_tokenizer(), session, spec)
    [answer] = rank(ranker(True, embedder), RankRequest("a", ["a", "b"]))
    assert answer.score.shape == (2,)
    assert set(session.asked) == {("embedding",)}


def test_a_missing_prior_without_an_embedder_is_refused():
    with pytest.raises(InvalidInputError, match="needs the input prior"):
        rank(ranker(with_prior=True), RankRequest("a", ["a"]))


def test_beyond_the_rerank_depth_passages_keep_the_order_of_their_prior_below_the_read_ones():
    prior = np.array([0.1, 0.9, 0.3, 0.8, 0.2], np.float32)
    first, second = rank(
        ranker(with_prior=True, rerank_depth=2),
        RankRequest("a", ["a", "b", "a", "a", "a"], prior),
        RankRequest("a", ["a"], prior[:1]),
    )
    assert np.argsort(-first.score).tolist() == [3, 1, 2, 4, 0]
    assert first.score[[1, 3]].tolist() == pytest.approx([0.9, 1.8])
    assert second.score.tolist() == pytest.approx([1.1])


def test_without_a_prior_every_passage_is_read():
    [answer] = rank(ranker(rerank_depth=1), RankRequest("a", ["b", "a", "a a"]))
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
def test_a_bad_row_is_refused_and_names_the_input(request_, words):
    good = RankRequest("a", ["a"], np.zeros(1, np.float32))
    encoder = ranker(with_prior=True)
    with pytest.raises(InvalidInputError, match=f"^{words}|^[^r].*{words}"):
        encoder.rank([request_])
    with pytest.raises(InvalidInputError, match=f"^row 1: .*{words}"):
        encoder.rank([good, request_])
    assert rank(encoder, good)[0].score.tolist() == [1]


def test_a_row_that_lacks_its_prior_is_named():
    given = RankRequest("a", ["a"], np.zeros(1, np.float32))
    with pytest.raises(InvalidInputError, match=r"^row 1: this reranker needs"):
        rank(ranker(with_prior=True), given, RankRequest("a", ["a"]))


def test_labels_come_best_first_with_probabilities_that_sum_to_one():
    [answer] = classify(CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC), "a")
    assert answer.labels == ("x", "y", "z")
    assert answer.score.sum() == pytest.approx(1)


def test_of_several_texts_to_label_the_bad_one_is_named_by_its_row():
    with pytest.raises(InvalidInputError, match=r"^row 1: text is empty"):
        classify(CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC), "a", "")


def test_a_model_that_grades_texts_gives_its_numbers_as_they_are():
    spec = dataclasses.replace(SPEC, activation="identity")
    [answer] = classify(CrossEncoder(word_tokenizer(), SumSession(width=3), spec), "a")
    # [CLS] a [SEP] are 1 + 4 + 2; the session's second number counts tokens.
    assert dict(zip(answer.labels, answer.score.tolist(), strict=True)) == {"x": 7, "y": 3, "z": 0}


def test_several_texts_get_their_own_labels():
    answers = classify(CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC), "a", "b c", "a")
    assert answers[0].score.tolist() == answers[2].score.tolist()
    assert all(answer.score.sum() == pytest.approx(1) for answer in answers)


class BrokenSession(OverlapSession):
    def run(self, batch):
        raise RuntimeError("no memory")


def test_what_the_session_raises_reaches_who_takes_the_answer():
    broken = CrossEncoder(word_tokenizer(), BrokenSession(), SPEC)
    pending = broken.rank([RankRequest("a", ["a"])])
    with pytest.raises(RuntimeError, match="no memory"):
        pending.result()
    broken.close()


def test_what_the_embedder_of_a_missing_prior_raises_is_raised():
    embedder = TextEncoder(word_tokenizer(), BrokenSession(), EncoderSpec(4, True, "", "", 64, 100))
    with pytest.raises(RuntimeError, match="no memory"):
        rank(ranker(True, embedder), RankRequest("a", ["a"]))


def test_after_the_end_a_request_is_told_to_try_again():
    ended = ranker()
    ended.close()
    with pytest.raises(UnavailableError, match="try again"):
        ended.rank([RankRequest("a", ["a"])])


def test_a_request_may_have_fewer_passages_read_than_the_model_would_and_never_more():
    prior = np.array([0.1, 0.4, 0.2], np.float32)
    passages = ["a", "a a", "b"]
    [answer] = rank(ranker(rerank_depth=2), RankRequest("a", passages, prior, depth=1))
    # The best by prior alone is read; the others come below it, in the order of their priors.
    assert answer.score.argsort()[::-1].tolist() == [1, 2, 0]
    [whole] = rank(ranker(rerank_depth=2), RankRequest("a", passages, prior))
    [deep] = rank(ranker(rerank_depth=2), RankRequest("a", passages, prior, depth=3))
    assert deep.score.tolist() == whole.score.tolist()


def test_with_a_depth_of_none_nothing_is_read_and_the_order_stays():
    prior, order = np.array([0.1, 0.4, 0.2], np.float32), np.array([3, 2, 1], np.float32)
    encoder = ranker(with_prior=True)
    first, second = rank(
        encoder,
        RankRequest("a", ["a", "b", "c"], prior, order, depth=0),
        RankRequest("a", ["a", "b", "c"], prior, depth=0),
    )
    assert first.score.tolist() == [3, 2, 1]
    assert second.score.tolist() == prior.tolist()
    assert first.truncated_tokens.tolist() == [0, 0, 0]


def test_a_depth_without_what_orders_the_passages_is_refused_and_so_is_one_below_none():
    with pytest.raises(InvalidInputError, match="rerank_depth needs the input prior"):
        rank(ranker(), RankRequest("a", ["a"], depth=0))
    with pytest.raises(InvalidInputError, match="rerank_depth must be at least 0, got -1"):
        rank(ranker(), RankRequest("a", ["a"], np.zeros(1, np.float32), depth=-1))


def test_a_split_passage_is_as_good_as_its_best_window():
    request = RankRequest("a", ["j j j j j j j a", "b", "a"], over_length="split")
    [answer] = rank(ranker(), request)
    assert answer.score.tolist() == [1, 0, 1]
    assert answer.truncated_tokens.tolist() == [0, 0, 0]


def test_windows_of_a_template_have_all_that_stands_around_the_passage():
    class Rows(SumSession):
        def run(self, batch):
            self.seen = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
            return super().run(batch)[:, :1]

    session, template = Rows(), PairTemplate.parse("i {query} h {passage} g f")
    encoder = CrossEncoder(word_tokenizer(10), session, dataclasses.replace(SPEC, template=template))
    [answer] = rank(encoder, RankRequest("j", ["a b c d e", "a b c d e f g"], over_length="split"))
    around = [12, 13, 11], [10, 9]
    windows = [[4, 5, 6, 7, 8], [4, 5, 6, 7, 8], [9, 10]]
    expected = [[*around[0], *window, *around[1]] for window in windows]
    assert sorted(row.tolist() for row in session.seen) == sorted(expected)
    assert answer.score.tolist() == [sum(expected[0]), max(map(sum, expected[1:]))]


def test_the_passages_of_a_request_share_one_limit_of_windows(monkeypatch):
    monkeypatch.setattr(text_encoder, "MOST_WINDOWS_OF_ALL", 3)
    request = RankRequest("a", ["j j j j j j j a"], over_length="split")
    assert len(ranker().rank([request]).result()) == 1
    with pytest.raises(OverLengthError, match=r"^row 1: over_length split makes at most 3 windows"):
        ranker().rank([request, request])


def test_what_is_added_to_a_split_pair_is_added_once():
    prior = np.array([0.5, 0.25], np.float32)
    request = RankRequest("a", ["j j j j j j j a a", "b"], prior, over_length="split")
    [answer] = rank(ranker(with_prior=True), request)
    assert answer.score.tolist() == [1.5, 0.25]


def test_a_prior_of_our_own_reads_all_of_a_split_passage():
    long = "b b b b b b b b b b b b"
    [split] = rank(ranker(True, prior_encoder()), RankRequest("a", [long], over_length="split"))
    (whole,) = prior_encoder().submit(EmbedRequest([long], ["passage"], over_length="split")).result()
    (query,) = prior_encoder().embed(["a"], "query")
    assert split.score[0] == pytest.approx(float(whole.vector @ query.vector))


def test_a_pair_that_is_too_long_is_an_error_that_names_the_passage():
    request = RankRequest("a", ["b", "b c d e f g"], over_length="error")
    with pytest.raises(OverLengthError, match=r"^query with passages\[1\] has 10 tokens, the model reads 8"):
        ranker().rank([request])
    # What is not read may be as long as it likes.
    prior = np.array([1, 0], np.float32)
    [answer] = rank(ranker(rerank_depth=1), dataclasses.replace(request, prior=prior))
    assert answer.truncated_tokens.tolist() == [0, 0]


def test_a_query_that_leaves_windows_too_little_is_named():
    request = RankRequest("a b c d", ["b c d e f g"], over_length="split")
    with pytest.raises(OverLengthError, match=r"^row 1: the query has 4 tokens, more than half"):
        ranker().rank([RankRequest("a", ["a"]), request])


def test_a_classifier_cuts_or_refuses_a_long_text_and_splits_none():
    text = "a b c d e f g h"
    encoder = CrossEncoder(word_tokenizer(), SumSession(width=3), SPEC)
    with pytest.raises(OverLengthError, match="text has 10 tokens, the model reads 8"):
        encoder.classify([text], "error")
    with pytest.raises(InvalidInputError, match="labels are of a whole text"):
        encoder.classify([text], "split")
    (answer,) = encoder.classify([text], "truncate").result()
    assert answer.truncated_tokens == 2
