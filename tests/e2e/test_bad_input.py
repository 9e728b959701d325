"""Every wrong request gets one clear error, or the documented answer, and the server goes on serving."""

import numpy as np
import pytest
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

from trireme.errors import InvalidInputError, NotFoundError, OverLengthError


@pytest.fixture(scope="module")
def raw(settings):
    with grpc.InferenceServerClient(settings.grpc_url) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _still_serving(client):
    yield
    assert client.search("banks of oars", top_k=1)[0].text


def tensor(name, array, datatype):
    made = grpc.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def strings(name, *rows):
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for i, row in enumerate(rows):
        array[i, :] = row
    return tensor(name, array, "BYTES")


def refused(raw, model, *tensors):
    """Status and message of the error that the request gets."""
    with pytest.raises(InferenceServerException) as caught:
        raw.infer(model, list(tensors), client_timeout=60)
    return str(caught.value.status()), caught.value.message()


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_an_empty_text_is_refused(client, text):
    with pytest.raises(InvalidInputError, match="row 1: text is empty; send at least one visible character"):
        client.infer("embedding", {"text": [["a"], [text]]})


def test_the_same_bad_request_gets_the_same_error_again(client):
    for _ in range(3):
        with pytest.raises(InvalidInputError, match="visible character"):
            client.infer("embedding", {"text": [[" "]]})


def test_an_empty_query_is_refused_by_search(client):
    with pytest.raises(InvalidInputError, match="is empty"):
        client.search(" ")


def test_a_text_of_a_million_bytes_is_answered_and_says_what_was_cut(client):
    outputs = client.infer("embedding", {"text": [["oars " * 200_000]]})
    assert outputs["token_count"].tolist() == [[256]]
    assert outputs["truncated_tokens"].tolist() == [[400_000 - 254]]


def test_a_long_text_is_refused_or_read_in_windows_where_a_request_says_so(client):
    long = "oars of fir. " * 200
    asked = {"text": [["oars"], [long]], "over_length": [["error"]] * 2}
    with pytest.raises(OverLengthError, match=r"^row 1: text has \d+ tokens, the model reads 256"):
        client.infer("embedding", asked)
    found = client.infer("embedding", asked | {"over_length": [["split"]] * 2})
    assert found["truncated_tokens"].tolist() == [[0], [0]]
    assert found["token_count"][1][0] > 3 * 256
    assert np.linalg.norm(found["embedding"][1]) == pytest.approx(1, abs=1e-5)
    pair = {"query": [["oars"]], "passages": [["sails", long + "A crew rows."]], "over_length": [["split"]]}
    assert client.infer("reranker", pair)["truncated_tokens"].tolist() == [[0, 0]]
    with pytest.raises(
        OverLengthError, match=r"query with passages\[1\] has \d+ tokens, the model reads 256"
    ):
        client.infer("reranker", pair | {"over_length": [["error"]]})
    with pytest.raises(
        InvalidInputError, match="over_length must be one of error, truncate, split, got 'no'"
    ):
        client.infer("embedding", {"text": [["a"]], "over_length": [["no"]]})


def test_a_query_of_a_million_bytes_is_answered_by_search(client):
    assert len(client.search("oars " * 200_000)) == 4


def test_a_longer_text_is_refused_with_its_size_and_the_limit(client):
    with pytest.raises(InvalidInputError, match="1048576 bytes, the limit is 1000000"):
        client.infer("embedding", {"text": [["a" * 1_048_576]]})


def test_invalid_utf8_is_refused_by_name(raw):
    status, message = refused(raw, "embedding", strings("text", [b"ab\xff\xfe"]))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "text is not valid UTF-8: bad byte at 2" in message


def test_control_characters_change_nothing(client):
    plain, marked = (
        client.infer("embedding", {"text": [[t]]})["embedding"] for t in ("oars", "oa\x00\x07rs")
    )
    assert float(plain[0] @ marked[0]) > 0.999


def test_a_text_of_control_characters_only_is_answered(client):
    assert client.infer("embedding", {"text": [["\x07"]]})["token_count"].tolist() == [[2]]


def test_a_wrong_data_type_is_refused_by_name(raw):
    status, message = refused(raw, "embedding", tensor("text", np.ones((1, 1), np.int32), "INT32"))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "'text'" in message
    assert "BYTES" in message


def test_a_wrong_shape_is_refused_with_the_expected_one(raw):
    status, message = refused(raw, "embedding", strings("text", [b"a", b"b"]))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "'text'" in message
    assert "[-1,1]" in message


def test_a_missing_input_is_refused_by_name(raw):
    status, message = refused(raw, "embedding", tensor("dimensions", np.ones((1, 1), np.int32), "INT32"))
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "input text is missing" in message
    status, _ = refused(raw, "search", tensor("top_k", np.ones((1, 1), np.int32), "INT32"))
    assert status == "StatusCode.INVALID_ARGUMENT"


def test_a_batch_above_the_maximum_is_refused_with_the_maximum(client):
    with pytest.raises(InvalidInputError, match="batch-size must be <= 64"):
        client.infer("embedding", {"text": [["a"]] * 65})


def test_an_unknown_input_type_is_refused_with_the_known_ones(client):
    with pytest.raises(InvalidInputError, match="query, passage"):
        client.infer("embedding", {"text": [["a"]], "input_type": [["title"]]})


@pytest.mark.parametrize("dimensions", [0, -1, 385, 10**9])
def test_dimensions_outside_the_model_are_refused_with_the_range(client, dimensions):
    with pytest.raises(InvalidInputError, match="from 1 to 384"):
        client.infer("embedding", {"text": [["a"]], "dimensions": [[dimensions]]})


def test_dimensions_that_differ_within_a_request_are_refused(client):
    with pytest.raises(InvalidInputError, match="one request per size"):
        client.infer("embedding", {"text": [["a"], ["b"]], "dimensions": [[8], [16]]})


@pytest.mark.parametrize("top_k", [0, -1, 1001, 10**9])
def test_top_k_outside_its_range_is_refused_with_the_range(client, top_k):
    with pytest.raises(InvalidInputError, match="top_k must be from 1 to 1000"):
        client.search("oars", top_k=top_k)


def test_an_unknown_collection_is_named(client):
    with pytest.raises(NotFoundError, match="no collection 'nowhere'"):
        client.search("oars", collection="nowhere")


@pytest.mark.parametrize("name", ["", "x" * 10_000])
def test_a_collection_name_out_of_bounds_is_refused(client, name):
    with pytest.raises(InvalidInputError, match="collection"):
        client.search("oars", collection=name)


@pytest.mark.parametrize("key", ["query", "collection", "tenant"])
def test_sql_in_any_text_is_only_text(client, key):
    hostile = "oars'; DROP TABLE trireme.passages; --"
    if key == "query":
        assert len(client.search(hostile)) == 4
    else:
        with pytest.raises(NotFoundError):
            client.search("oars", **{key: hostile})
    assert len(client.search("oars")) == 4


def test_one_bad_request_among_many_fails_alone(client):
    from concurrent.futures import ThreadPoolExecutor

    def ask(text):
        try:
            return client.infer("embedding", {"text": [[text]]})["embedding"].shape
        except InvalidInputError as error:
            return str(error)

    texts = [f"text number {n}" if n % 5 else " " for n in range(40)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, texts))
    for text, answer in zip(texts, answers, strict=True):
        assert answer == (1, 384) if text.strip() else "is empty" in answer


@pytest.mark.parametrize("vector", [[0.0] * 384, [float("nan")] * 384, [1.0] * 383])
def test_an_embedding_that_points_nowhere_is_refused(client, vector):
    with pytest.raises(InvalidInputError, match="embedding"):
        client.infer("retriever", {"embedding": [vector], "query": [["oars"]]})


def test_zero_passages_get_zero_scores(client, raw):
    query, passages = strings("query", [b"oars"]), grpc.InferInput("passages", [1, 0], "BYTES")
    passages.set_data_from_numpy(np.empty((1, 0), dtype=object))
    answer = raw.infer("reranker", [query, passages], client_timeout=60)
    assert answer.as_numpy("score").shape == (1, 0)
    assert answer.as_numpy("truncated_tokens").shape == (1, 0)


def test_ten_thousand_passages_are_refused_with_both_numbers(client):
    with pytest.raises(InvalidInputError, match="10000 passages, the limit is 1000"):
        client.infer("reranker", {"query": [["oars"]], "passages": [["a"] * 10_000]})


def test_an_empty_query_of_the_reranker_is_refused(client):
    with pytest.raises(InvalidInputError, match="query is empty"):
        client.infer("reranker", {"query": [[""]], "passages": [["a"]]})


def test_an_empty_passage_is_scored_like_any_other(client):
    scores = client.infer("reranker", {"query": [["oars"]], "passages": [["three banks of oars", ""]]})[
        "score"
    ]
    assert np.isfinite(scores).all()
    assert scores[0][0] > scores[0][1]


def test_a_passage_above_the_byte_limit_is_refused_with_its_position(client):
    with pytest.raises(InvalidInputError, match=r"passages\[1\] has 1000001 bytes"):
        client.infer("reranker", {"query": [["oars"]], "passages": [["a", "b" * 1_000_001]]})


@pytest.mark.parametrize("prior", [[0.1], [0.1, 0.2, 0.3]])
def test_a_prior_of_another_length_is_refused(client, prior):
    with pytest.raises(InvalidInputError, match="one number per passage"):
        client.infer("reranker", {"query": [["oars"]], "passages": [["a", "b"]], "prior": [prior]})


def test_a_prior_that_is_no_number_is_refused(client):
    with pytest.raises(InvalidInputError, match="prior"):
        client.infer("reranker", {"query": [["oars"]], "passages": [["a"]], "prior": [[float("inf")]]})


def test_invalid_utf8_in_a_passage_is_refused_by_name(raw):
    status, message = refused(
        raw, "reranker", strings("query", [b"q"]), strings("passages", [b"ok", b"\xff"])
    )
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert "passages is not valid UTF-8" in message
