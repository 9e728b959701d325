import dataclasses

import numpy as np
import pytest

from fakes.encoders import SumSession, word_tokenizer
from trireme.encode import text_encoder
from trireme.encode.text_encoder import MOST_WINDOWS, EmbedRequest, EncoderSpec, TextEncoder
from trireme.errors import InvalidInputError, OverLengthError

SPEC = EncoderSpec(
    dimensions=4,
    normalize=True,
    query_prompt="",
    passage_prompt="j ",
    max_batch_tokens=64,
    max_text_bytes=100,
)


def encoder(**changes):
    return TextEncoder(word_tokenizer(), SumSession(), dataclasses.replace(SPEC, **changes))


def test_a_vector_has_unit_length_and_true_token_counts():
    answer = encoder().embed(["a b c d e f g h"], "query")
    assert np.linalg.norm(answer[0].vector) == pytest.approx(1)
    assert (answer[0].token_count, answer[0].truncated_tokens) == (8, 2)


def test_a_text_gives_the_same_vector_alone_and_in_a_batch():
    texts = ["a", "a b c d e f", "b c", "j"]
    alone = [encoder().embed([text], "query")[0].vector for text in texts]
    together = encoder().embed(texts, "query")
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other.vector)


def test_of_several_texts_the_bad_one_is_named_by_its_row():
    with pytest.raises(InvalidInputError, match=r"^row 1: text is empty"):
        encoder().embed(["a", " ", "b"], "query")
    with pytest.raises(InvalidInputError, match=r"^text is empty"):
        encoder().embed([" "], "query")


def test_the_prompt_of_the_input_type_comes_before_the_text():
    plain = encoder(normalize=False)
    (query,) = plain.embed(["a"], "query")
    (passage,) = plain.embed(["a"], "passage")
    assert passage.vector[0] - query.vector[0] == 13


def test_each_text_has_its_own_input_type():
    query, passage = encoder(normalize=False).submit(EmbedRequest(["a", "a"], ["query", "passage"])).result()
    assert passage.vector[0] - query.vector[0] == 13


def test_dimensions_cut_the_vector_and_restore_its_length():
    (answer,) = encoder().embed(["a"], "query", dimensions=1)
    assert answer.vector.tolist() == [1.0]


@pytest.mark.parametrize("dimensions", [0, -1, 5])
def test_dimensions_outside_the_model_are_refused_with_the_range(dimensions):
    with pytest.raises(InvalidInputError, match="from 1 to 4"):
        encoder().embed(["a"], "query", dimensions)


def test_a_text_above_the_byte_limit_is_refused_with_both_numbers():
    with pytest.raises(InvalidInputError, match="102 bytes, the limit is 100"):
        encoder().embed(["é" * 51], "query")


def test_what_the_session_raises_reaches_who_takes_the_answer():
    class Broken(SumSession):
        def run(self, batch):
            raise ValueError("broken")

    pending = TextEncoder(word_tokenizer(), Broken(), SPEC).submit(EmbedRequest(["a"], ["query"]))
    with pytest.raises(ValueError, match="broken"):
        pending.result()


@pytest.mark.parametrize("policy", ["error", "truncate", "split"])
def test_a_text_that_fits_is_read_alike_by_every_policy(policy):
    asked = EmbedRequest(["a b c"], ["passage"], over_length=policy)
    (found,) = encoder().submit(asked).result()
    (usual,) = encoder().embed(["a b c"], "passage")
    assert np.array_equal(found.vector, usual.vector)
    assert (found.token_count, found.truncated_tokens) == (6, 0)


def test_a_text_that_is_too_long_is_an_error_with_its_row_and_both_numbers_and_nothing_is_run():
    asked = EmbedRequest(["a", "a b c d e f g h"], ["query"] * 2, over_length="error")
    made = encoder()
    with pytest.raises(OverLengthError, match=r"^row 1: text has 10 tokens, the model reads 8; send less"):
        made.submit(asked)
    assert not made.queue.is_busy


def test_a_split_text_is_the_mean_of_its_windows_by_their_tokens_and_no_token_is_lost():
    texts = ["a b c d e f g h", "a"]
    asked = EmbedRequest(texts, ["passage"] * 2, over_length="split")
    split, short = encoder(normalize=False).submit(asked).result()
    # Each window has room for five tokens behind the prompt "j ", and ends with a word.
    (first, second) = encoder(normalize=False).embed(["a b c d e", "f g h"], "passage")
    assert split.vector == pytest.approx((first.vector * 5 + second.vector * 3) / 8)
    assert (split.token_count, split.truncated_tokens) == (first.token_count + second.token_count, 0)
    assert np.array_equal(short.vector, encoder(normalize=False).embed(["a"], "passage")[0].vector)


def test_a_split_text_has_a_vector_of_unit_length_where_the_model_has_and_of_the_dimensions_asked_for():
    text = " ".join("abcdefghij" * 5)
    (split,) = encoder().submit(EmbedRequest([text], ["query"], over_length="split")).result()
    assert np.linalg.norm(split.vector) == pytest.approx(1)
    assert split.token_count == 50 + 2 * 9
    (short,) = encoder().submit(EmbedRequest([text], ["query"], 1, "split")).result()
    assert short.vector.tolist() == [1.0]


def test_a_models_own_policy_holds_where_a_request_has_none():
    made = encoder(over_length="error")
    with pytest.raises(OverLengthError):
        made.embed(["a b c d e f g h"], "query")
    (answer,) = made.submit(EmbedRequest(["a b c d e f g h"], ["query"], over_length="truncate")).result()
    assert answer.truncated_tokens == 2


def test_a_text_that_would_be_too_many_windows_is_refused_with_both_numbers():
    text = "a " * (8 * MOST_WINDOWS)
    asked = EmbedRequest(["a", text], ["query"] * 2, over_length="split")
    said = (
        rf"^row 1: text has {8 * MOST_WINDOWS + 2} tokens, over_length split reads at most {8 * MOST_WINDOWS}"
    )
    with pytest.raises(OverLengthError, match=said):
        encoder(max_text_bytes=10_000).submit(asked)


def test_the_texts_of_a_request_share_one_limit_of_windows(monkeypatch):
    monkeypatch.setattr(text_encoder, "MOST_WINDOWS_OF_ALL", 4)
    long, asked = "a b c d e f g h", EmbedRequest(["a", "a"], ["query"] * 2, over_length="split")
    assert len(encoder().submit(dataclasses.replace(asked, texts=["a", long])).result()) == 2
    three = dataclasses.replace(asked, texts=[long] * 3, input_types=["query"] * 3)
    said = r"^row 2: over_length split makes at most 4 windows of the texts of one request"
    with pytest.raises(OverLengthError, match=said):
        encoder().submit(three)


def test_a_prompt_that_leaves_windows_too_little_is_named():
    made = encoder(passage_prompt="a b c d ")
    with pytest.raises(OverLengthError, match=r"^the prompt has 4 tokens, more than half of the 8"):
        made.submit(EmbedRequest(["a b c d"], ["passage"], over_length="split"))
