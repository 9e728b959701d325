import numpy as np
import pytest

from fakes.encoders import NamedSession, word_tokenizer
from trireme.encode import late_interaction, outputs, text_encoder
from trireme.encode.cross_encoder import RankerSpec, RankRequest
from trireme.encode.late_interaction import (
    LateInteraction,
    LateSpec,
    PassageCache,
    ReadPassage,
    score_passages,
)
from trireme.errors import InvalidInputError, OverLengthError
from trireme.types import TokenRules


def ranker(session=None, cache_bytes=0, **ranker_changes):
    spec = RankerSpec(**{"max_batch_tokens": 64, "max_text_bytes": 100, "max_passages": 5, **ranker_changes})
    rules = TokenRules(vector_size=2, skips_first=True)
    return LateInteraction(
        word_tokenizer(), session or NamedSession(), LateSpec(spec, rules, cache_bytes=cache_bytes)
    )


def rank(encoder, *requests):
    found = encoder.rank(requests).result()
    encoder.close()
    return found


def test_each_token_of_a_query_counts_by_the_nearest_of_the_passage():
    first, second = rank(ranker(), RankRequest("a b", ["b", "a c b"]), RankRequest("d", ["d"]))
    # Of a query the end token is one too, and every passage has it.
    assert first.score.tolist() == pytest.approx([2 + np.cos(1), 3], abs=1e-5)
    assert second.score.tolist() == pytest.approx([2], abs=1e-5)
    assert first.truncated_tokens.tolist() == [0, 0]


def test_no_passages_get_no_scores_and_a_passage_without_vectors_scores_0():
    [answer] = rank(ranker(), RankRequest("a", []))
    assert answer.score.shape == (0,)
    query, passages = np.ones((2, 3), np.float32), [np.zeros((0, 3), np.float32), np.ones((1, 3), np.float32)]
    assert score_passages(query, passages).tolist() == [0, 6]
    assert score_passages(np.zeros((0, 3), np.float32), passages).tolist() == [0, 0]


@pytest.mark.parametrize("most", [1, 7, 20, 1000])
def test_scores_are_the_same_however_many_dot_products_are_in_memory_at_once(most, monkeypatch):
    numbers = np.random.default_rng(0)
    query, *passages = [numbers.normal(size=(n, 3)).astype(np.float32) for n in (6, 3, 1, 5, 2)]
    monkeypatch.setattr(late_interaction, "MOST_PRODUCTS", most)
    expected = [(query @ one.T).max(1).sum() for one in passages]
    assert score_passages(query, passages).tolist() == pytest.approx(expected, abs=1e-5)


def test_more_vectors_than_one_request_may_have_are_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(outputs, "MOST_VECTOR_BYTES", 8 * 11)
    session = NamedSession()
    assert rank(ranker(session), RankRequest("a", ["b c", "b c"]))[0].score.shape == (2,)
    runs = len(session.shapes)
    with pytest.raises(InvalidInputError, match=r"^vectors of 12 tokens take 96 bytes, the limit .* is 88"):
        ranker(session).rank([RankRequest("a", ["b c", "b c d"])])
    assert len(session.shapes) == runs


def test_the_passages_of_a_request_share_one_limit_of_windows(monkeypatch):
    monkeypatch.setattr(text_encoder, "MOST_WINDOWS_OF_ALL", 3)
    long = "a b c d e f g h i"
    with pytest.raises(OverLengthError, match="at most 3 windows of the texts of one request"):
        ranker().rank([RankRequest("i", [long, long], over_length="split")])


def test_what_is_not_read_comes_below_in_the_order_it_was_found_in():
    prior = np.array([0.1, 0.9, 0.5], np.float32)
    [answer] = rank(ranker(), RankRequest("a", ["b", "a", "c"], prior, depth=1))
    assert np.argsort(-answer.score).tolist() == [1, 2, 0]


def test_a_request_that_no_ranker_takes_is_refused_with_its_row():
    with pytest.raises(InvalidInputError, match=r"^row 1: query is empty"):
        ranker().rank([RankRequest("a", ["b"]), RankRequest(" ", ["b"])])


def test_a_long_passage_is_cut_refused_or_read_in_windows():
    long = "a b c d e f g h i"
    [cut] = rank(ranker(), RankRequest("i", [long]))
    [split] = rank(ranker(), RankRequest("i", [long], over_length="split"))
    assert (cut.truncated_tokens.tolist(), split.truncated_tokens.tolist()) == ([3], [0])
    assert split.score[0] == pytest.approx(2, abs=1e-5) and cut.score[0] < 2
    with pytest.raises(OverLengthError, match=r"passages\[0\] has 11 tokens, the model reads 8"):
        ranker().rank([RankRequest("i", [long], over_length="error")])


def test_a_passage_that_was_read_before_is_not_run_again_and_scores_the_same():
    session = NamedSession()
    encoder = ranker(session, cache_bytes=10_000)
    request = RankRequest("a b", ["b c", "a"])
    first, again = encoder.rank([request]).result(), encoder.rank([request]).result()
    encoder.close()
    assert first[0].score.tolist() == again[0].score.tolist()
    assert [rows for rows, _ in session.shapes][-1] == 1


def test_a_cut_passage_is_read_again_for_who_does_not_want_it_cut():
    encoder, long = ranker(cache_bytes=10_000), "a b c d e f g h i"
    [cut] = encoder.rank([RankRequest("i", [long])]).result()
    with pytest.raises(OverLengthError):
        encoder.rank([RankRequest("i", [long], over_length="error")])
    [again] = encoder.rank([RankRequest("i", [long])]).result()
    encoder.close()
    assert again.truncated_tokens.tolist() == cut.truncated_tokens.tolist() == [3]


def test_the_cache_lets_the_longest_unasked_go_and_takes_nothing_larger_than_itself():
    size = 4 + 40
    cache, read = PassageCache(2 * size), ReadPassage(np.zeros((5, 2), np.float32))
    for passage in ("a", "b"):
        cache.put(passage, read)
    assert cache.get("a") is read
    cache.put("c", read)
    assert [cache.get(name) is None for name in "abc"] == [False, True, False]
    cache.put("d", ReadPassage(np.zeros((50, 2), np.float32)))
    assert cache.get("d") is None and cache.get("c") is read
