import base64

import msgspec
import numpy as np
import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire import openai_embeddings
from trireme.gateway.wire.openai_embeddings import EmbeddingsCall, read_embeddings, write_embeddings
from trireme.providers.models import Embedded


def body_of(**changes):
    return {"model": "embedding", "input": "oars", **changes}


def embedded(vectors, tokens=None, truncated=None):
    count = len(vectors)
    return Embedded(
        np.array(vectors, np.float32),
        np.array(tokens or [3] * count, np.int32),
        np.array(truncated or [0] * count, np.int32),
    )


@pytest.mark.parametrize(
    ("given", "texts", "tokens"),
    [
        ("oars", ("oars",), ()),
        (["oars", "sails"], ("oars", "sails"), ()),
        ([1, 2, 3], (), ((1, 2, 3),)),
        ([[1, 2], [3]], (), ((1, 2), (3,))),
        ([0], (), ((0,),)),
    ],
)
def test_each_form_of_input_is_read(given, texts, tokens):
    assert read_embeddings(body_of(input=given)) == EmbeddingsCall("embedding", texts, tokens)


def test_every_field_is_read():
    body = body_of(
        encoding_format="base64", dimensions=64, user="ann", input_type="search_document", truncate=True
    )
    assert read_embeddings(body) == EmbeddingsCall(
        "embedding", ("oars",), (), 64, "base64", "passage", "truncate"
    )


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"model": ""}, "model", "model"),
        ({"input": []}, "input", "input is empty"),
        ({"input": ""}, "input", "input is empty"),
        ({"input": ["a", ""]}, "input[1]", "input[1] is empty"),
        ({"input": ["a", 1]}, "input[1]", "input[1] must be a text"),
        ({"input": [1, "a"]}, "input[1]", "input[1]"),
        ({"input": [[1], []]}, "input[1]", "input[1] has 0 tokens"),
        ({"input": [[1], ["a"]]}, "input[1][0]", "input[1][0]"),
        ({"input": [[1], "a"]}, "input[1]", "input[1]"),
        ({"input": [-1]}, "input[0]", "input[0]"),
        ({"input": [1.5]}, "input[0]", "input[0] must be a text"),
        ({"input": [True]}, "input[0]", "input[0] must be a text"),
        ({"input": {"text": "a"}}, "input", "input must be a text"),
        ({"input": None}, "input", "input must be a text"),
        ({"input": ["a"] * 2049}, "input", "send at most 2048"),
        ({"input": [[1]] * 2049}, "input", "send at most 2048"),
        ({"input": [1] * 8193}, "input", "send 1 to 8192"),
        ({"input": [[1] * 8000] * 38}, "input", "send at most 300000"),
        ({"encoding_format": "hex"}, "encoding_format", "encoding_format"),
        ({"dimensions": 0}, "dimensions", "dimensions"),
        ({"dimensions": 2**31}, "dimensions", "dimensions"),
        ({"input_type": "poem"}, "input_type", "input_type must be one of query"),
        ({"task": "retrieval"}, "task", "task is no field here"),
    ],
)
def test_what_is_wrong_is_named(changes, field, said):
    with pytest.raises(InvalidInputError) as found:
        read_embeddings(body_of(**changes))
    assert said in str(found.value)
    assert found.value.param == field


def test_a_missing_field_is_named():
    with pytest.raises(InvalidInputError, match="input is missing"):
        read_embeddings({"model": "embedding"})


def test_floats_keep_their_order_and_the_usage_is_the_models():
    call = EmbeddingsCall("embedding", ("a", "b"))
    answer = write_embeddings(call, embedded([[0.5, -1.0], [0.25, 2.0]], tokens=[3, 4]))
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
            {"object": "embedding", "index": 1, "embedding": [0.25, 2.0]},
        ],
        "model": "embedding",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }
    assert msgspec.json.decode(msgspec.json.encode(answer)) == answer


@pytest.mark.parametrize("order", ["C", "F"])
def test_base64_is_little_endian_float32(order):
    vectors = np.array([[0.1, -2.0, 3.5], [1.0, 0.0, 9.0]], np.float32, order=order)
    call = EmbeddingsCall("embedding", ("a", "b"), encoding="base64")
    answer = write_embeddings(call, embedded(vectors))
    read = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]]
    np.testing.assert_array_equal(read, vectors)


def test_an_input_that_was_cut_is_an_error_unless_it_may_be():
    cut = embedded([[1.0], [1.0]], tokens=[3, 256], truncated=[0, 44])
    with pytest.raises(InvalidInputError, match=r"input\[1\] has 300 tokens, but the model reads 256"):
        write_embeddings(EmbeddingsCall("embedding", ("a", "b")), cut)
    answer = write_embeddings(EmbeddingsCall("embedding", ("a", "b"), over_length="truncate"), cut)
    assert answer["usage"]["prompt_tokens"] == 259


def test_as_many_inputs_as_openai_takes_are_taken():
    count = openai_embeddings.MOST_INPUTS
    assert len(read_embeddings(body_of(input=["a"] * count)).texts) == count
