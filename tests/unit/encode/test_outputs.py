import dataclasses

import numpy as np
import pytest

from fakes.encoders import NamedSession, TermSession, word_tokenizer
from trireme.encode import outputs
from trireme.encode.outputs import OutputRunner, Parts, join_windows, weigh_tokens
from trireme.encode.text_encoder import EmbedRequest, EncoderSpec, TextEncoder
from trireme.errors import ArtifactError, InvalidInputError
from trireme.types import SparseVector, TokenRules

ALL = ("dense", "sparse", "multi")
RULES = TokenRules(vector_size=2, unweighted=(1, 2), skips_first=True)
SPEC = EncoderSpec(4, True, "", "j ", 64, 100, outputs=ALL, rules=RULES)
MASK = 13


def embed(text, kind="query", outputs=None, session=None, **changes):
    encoder = TextEncoder(word_tokenizer(), session or NamedSession(), dataclasses.replace(SPEC, **changes))
    try:
        return encoder.submit(EmbedRequest([text], [kind], outputs=outputs)).result()[0]
    finally:
        encoder.queue.close()


def angles(vectors):
    return [round(float(np.arctan2(y, x)) % (2 * np.pi), 3) for x, y in vectors]


def rules(**more):
    return TokenRules(vector_size=2, **more)


def test_one_run_gives_a_vector_weights_of_words_and_a_vector_of_each_token():
    found = embed("c b c d")
    assert np.linalg.norm(found.vector) == pytest.approx(1)
    # b weighs nothing; c stands twice and is there once.
    assert (found.sparse.indices.tolist(), found.sparse.weights.tolist()) == ([6, 7], [1, 2])
    assert angles(found.token_vectors) == pytest.approx([6, 5, 6, 7 - 2 * np.pi, 2], abs=0.01)


@pytest.mark.parametrize("output", ALL)
def test_what_nobody_asks_for_is_not_taken_from_the_run(output):
    session = NamedSession()
    found = embed("a", outputs=frozenset({output}), session=session)
    assert session.asked == [(session.output_names[ALL.index(output)],)]
    there = {"dense": len(found.vector) > 0, "sparse": found.sparse, "multi": found.token_vectors is not None}
    assert [name for name, value in there.items() if value] == [output]


def test_rows_of_one_run_may_be_asked_for_different_outputs():
    encoder = TextEncoder(word_tokenizer(), NamedSession(), SPEC)
    requests = [EmbedRequest(["c"], ["query"], outputs=frozenset({name})) for name in ("sparse", "multi")]
    first, second = (pending.result()[0] for pending in [encoder.submit(one) for one in requests])
    encoder.queue.close()
    assert first.token_vectors is None and second.sparse is None
    assert first.sparse.indices.tolist() == [6] and len(second.token_vectors) == 2


def test_an_output_that_the_model_does_not_make_is_refused_by_name():
    encoder = TextEncoder(word_tokenizer(), NamedSession(), dataclasses.replace(SPEC, outputs=("multi",)))
    with pytest.raises(InvalidInputError, match="makes no sparse output; it makes multi"):
        encoder.submit(EmbedRequest(["a"], ["query"], outputs=frozenset({"sparse"})))


def test_a_query_is_filled_up_with_masks_that_its_words_do_not_see():
    expanded = rules(expansion_length=6, expansion_token=MASK)
    found = embed("a", rules=expanded, outputs=frozenset({"multi"}))
    assert len(found.token_vectors) == 6
    assert angles(found.token_vectors)[3:] == pytest.approx([MASK - 4 * np.pi] * 3, abs=0.01)
    assert (found.token_count, found.truncated_tokens) == (3, 0)
    # A passage is not.
    assert len(embed("a", "passage", rules=expanded).token_vectors) == 4


@pytest.mark.parametrize(("attends", "seen"), [(False, 3), (True, 6)])
def test_how_many_tokens_of_a_filled_up_query_are_seen(attends, seen):
    session, filled = NamedSession(), rules(expansion_length=6, expansion_attends=attends)
    found = embed("a", session=session, rules=filled, normalize=False, outputs=frozenset({"dense", "multi"}))
    assert found.vector[1] == seen


def test_queries_and_passages_have_lengths_and_silent_tokens_of_their_own():
    lengths = rules(query_length=4, passage_length=6, passage_skips=(5,))
    query, passage = embed("a b c d e f", rules=lengths), embed("a b c d e f", "passage", rules=lengths)
    assert (len(query.token_vectors), query.truncated_tokens) == (4, 4)
    # The prompt is a token too; b has no vector.
    assert (len(passage.token_vectors), passage.truncated_tokens) == (5, 3)


def test_a_vocabulary_of_weights_keeps_those_above_0():
    spec = dataclasses.replace(SPEC, outputs=("sparse",), rules=TokenRules(), normalize=False)
    encoder = TextEncoder(word_tokenizer(), TermSession(), spec)
    (found,) = encoder.embed(["a"], "query")
    encoder.queue.close()
    assert (found.sparse.indices.tolist(), found.sparse.weights.tolist()) == ([0, 2], [7, 3])
    assert found.vector.shape == (0,)


def test_a_model_without_a_vector_of_a_text_takes_no_dimensions():
    spec = dataclasses.replace(SPEC, outputs=("sparse",), rules=TokenRules())
    encoder = TextEncoder(word_tokenizer(), TermSession(), spec)
    with pytest.raises(InvalidInputError, match="no vector of a text; leave dimensions out"):
        encoder.submit(EmbedRequest(["a"], ["query"], dimensions=2))


@pytest.mark.parametrize("over_length", ["truncate", "split"])
def test_texts_of_a_batch_have_the_outputs_that_each_has_alone(over_length):
    filled = dataclasses.replace(RULES, query_length=5, expansion_length=5, expansion_token=MASK)
    spec = dataclasses.replace(SPEC, rules=filled)
    texts, kinds = ["b", "c d e f g h i j", "b c d", "d e"], ["query", "passage", "query", "passage"]

    def run(texts, kinds):
        encoder = TextEncoder(word_tokenizer(), NamedSession(), spec)
        try:
            return encoder.submit(EmbedRequest(texts, kinds, over_length=over_length)).result()
        finally:
            encoder.queue.close()

    for one, text, kind in zip(run(texts, kinds), texts, kinds, strict=True):
        [alone] = run([text], [kind])
        assert (one.token_count, one.truncated_tokens) == (alone.token_count, alone.truncated_tokens)
        np.testing.assert_array_equal(one.vector, alone.vector)
        np.testing.assert_array_equal(one.sparse.indices, alone.sparse.indices)
        np.testing.assert_array_equal(one.sparse.weights, alone.sparse.weights)
        np.testing.assert_array_equal(one.token_vectors, alone.token_vectors)


def test_an_answer_of_more_vectors_than_one_request_may_have_is_refused(monkeypatch):
    monkeypatch.setattr(outputs, "MOST_VECTOR_BYTES", 8 * 8)
    encoder = TextEncoder(word_tokenizer(), NamedSession(), SPEC)
    # Rows of an answer are as long as its longest: two of 5 tokens.
    asked = EmbedRequest(["b", "b c d"], ["query"] * 2)
    with pytest.raises(InvalidInputError, match=r"^vectors of 10 tokens take 80 bytes, the limit .* is 64"):
        encoder.submit(asked)
    found = encoder.submit(dataclasses.replace(asked, outputs=frozenset({"sparse"}))).result()
    encoder.queue.close()
    assert len(found) == 2


def test_windows_of_a_text_become_one_mean_the_largest_weights_and_all_vectors():
    one = Parts(
        np.array([1, 0], np.float32),
        SparseVector(np.array([2, 5], np.int32), np.array([1, 3], np.float32)),
        np.ones((2, 2), np.float32),
    )
    other = Parts(
        np.array([0, 1], np.float32),
        SparseVector(np.array([2], np.int32), np.array([4], np.float32)),
        np.zeros((1, 2), np.float32),
    )
    whole = join_windows([one, other], [3, 1])
    assert whole.vector.tolist() == [0.75, 0.25]
    assert (whole.sparse.indices.tolist(), whole.sparse.weights.tolist()) == ([2, 5], [4, 3])
    assert whole.token_vectors.tolist() == [[1, 1], [1, 1], [0, 0]]


def test_a_text_of_special_tokens_weighs_nothing():
    found = weigh_tokens([1, 2], np.array([9, 9], np.float32), (1, 2))
    assert (found.indices.shape, found.weights.shape, found.indices.dtype) == ((0,), (0,), np.int32)


def test_a_graph_without_an_output_that_the_manifest_names_is_refused():
    with pytest.raises(ArtifactError, match="no output for multi"):
        OutputRunner(TermSession(), ("sparse", "multi"), RULES)
