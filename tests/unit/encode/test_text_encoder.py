import dataclasses

import numpy as np
import pytest

from fakes.encoders import SumSession, word_tokenizer
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.errors import InvalidInputError

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
    (answer,), _ = encoder().embed([EmbedRequest(["a b c d e f g h"], "query")])
    assert np.linalg.norm(answer[0].vector) == pytest.approx(1)
    assert (answer[0].token_count, answer[0].truncated_tokens) == (8, 2)


def test_a_text_gives_the_same_vector_alone_and_in_a_batch():
    texts = ["a", "a b c d e f", "b c", "j"]
    alone = [encoder().embed([EmbedRequest([t], "query")])[0][0][0].vector for t in texts]
    together, _ = encoder().embed([EmbedRequest(texts, "query")])
    for one, other in zip(alone, together[0], strict=True):
        assert np.array_equal(one, other.vector)


def test_one_bad_request_fails_alone():
    requests = [EmbedRequest(["a"], "query"), EmbedRequest([" "], "query"), EmbedRequest(["b"], "query")]
    first, bad, last = encoder().embed(requests)[0]
    assert isinstance(bad, InvalidInputError)
    assert len(first) == len(last) == 1


def test_the_prompt_of_the_input_type_comes_before_the_text():
    (query,), _ = encoder(normalize=False).embed([EmbedRequest(["a"], "query")])
    (passage,), _ = encoder(normalize=False).embed([EmbedRequest(["a"], "passage")])
    assert passage[0].vector[0] - query[0].vector[0] == 13


def test_dimensions_cut_the_vector_and_restore_its_length():
    (answer,), _ = encoder().embed([EmbedRequest(["a"], "query", dimensions=1)])
    assert answer[0].vector.tolist() == [1.0]


@pytest.mark.parametrize("dimensions", [0, -1, 5])
def test_dimensions_outside_the_model_are_refused_with_the_range(dimensions):
    (answer,), _ = encoder().embed([EmbedRequest(["a"], "query", dimensions=dimensions)])
    assert isinstance(answer, InvalidInputError)
    assert "from 1 to 4" in str(answer)


def test_a_text_above_the_byte_limit_is_refused_with_both_numbers():
    (answer,), _ = encoder().embed([EmbedRequest(["é" * 51], "query")])
    assert "102 bytes" in str(answer)
    assert "100" in str(answer)
