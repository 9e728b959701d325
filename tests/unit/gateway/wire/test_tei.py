import numpy as np
import pytest

from trireme.errors import (
    InvalidInputError,
    OverLengthError,
    ResourceExhaustedError,
    TooLargeError,
    TriremeError,
    UnauthenticatedError,
    UnavailableError,
)
from trireme.gateway.wire import tei
from trireme.gateway.wire.ranking import RerankCall
from trireme.gateway.wire.tei import EmbedCall, EmptyError, PredictCall, RankCall
from trireme.providers.models import Embedded, Reranked, ServedModel
from trireme.types import Classified


def embedded(tokens, truncated):
    return Embedded(
        np.ones((len(tokens), 2), np.float32), np.array(tokens, np.int32), np.array(truncated, np.int32)
    )


def test_a_text_and_a_list_of_texts_are_embedded_alike():
    assert tei.read_embed({"inputs": "a"}) == EmbedCall(("a",))
    body = {
        "inputs": ["a", "b"],
        "truncate": True,
        "normalize": True,
        "prompt_name": "passage",
        "dimensions": 8,
        "truncation_direction": "Right",
        "model": "small",
    }
    assert tei.read_embed(body) == EmbedCall(("a", "b"), "small", "truncate", "passage", 8)
    assert tei.write_embed(EmbedCall(("a",)), embedded([3], [0])) == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("read", "body", "field"),
    [
        (tei.read_embed, {}, "inputs"),
        (tei.read_embed, {"inputs": 1}, "inputs"),
        (tei.read_embed, {"inputs": "a", "normalize": False}, "normalize"),
        (tei.read_embed, {"inputs": "a", "truncation_direction": "Left"}, "truncation_direction"),
        (tei.read_embed, {"inputs": "a", "truncation_direction": "Up"}, "truncation_direction"),
        (tei.read_embed, {"inputs": "a", "prompt_name": "poem"}, "prompt_name"),
        (tei.read_embed, {"inputs": "a", "parameters": {}}, "parameters"),
        (tei.read_embed, {"inputs": [[1, 2]]}, "inputs[0]"),
        (tei.read_rerank, {"query": "q"}, "texts"),
        (tei.read_rerank, {"query": "q", "texts": ["a"], "top_n": 1}, "top_n"),
        (tei.read_predict, {"inputs": "a", "raw_scores": True}, "raw_scores"),
        (tei.read_predict, {"inputs": ["a", "b"]}, "inputs"),
        (tei.read_predict, {"inputs": [["a", "b"]]}, "inputs[0]"),
        (tei.read_predict, {"inputs": [["a"], "b"]}, "inputs[1]"),
        (tei.read_predict, {"inputs": [["a"], []]}, "inputs[1]"),
        (tei.read_predict, {"inputs": ["a", "b", "c"]}, "inputs"),
        (tei.read_predict, {"inputs": ["a", ["b"]]}, "inputs"),
    ],
)
def test_what_is_wrong_is_named_with_422(read, body, field):
    with pytest.raises(InvalidInputError) as found:
        read(body)
    assert found.value.param == field
    failure = tei.fail(found.value, "r1")
    assert (failure.status, failure.body["error_type"]) == (422, "Validation")
    assert failure.body["error"] == str(found.value)


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (tei.read_embed, {"inputs": []}),
        (tei.read_embed, {"inputs": ["a", ""]}),
        (tei.read_rerank, {"query": "q", "texts": []}),
        (tei.read_rerank, {"query": "", "texts": ["a"]}),
        (tei.read_predict, {"inputs": ""}),
    ],
)
def test_nothing_to_work_on_is_empty_with_400(read, body):
    with pytest.raises(EmptyError) as found:
        read(body)
    failure = tei.fail(found.value, "r1")
    assert (failure.status, failure.body["error_type"]) == (400, "Empty")


def test_too_many_texts_are_a_validation_error_with_413():
    with pytest.raises(TooLargeError, match="batch size 2049 > maximum allowed batch size 2048") as found:
        tei.read_embed({"inputs": ["a"] * 2049})
    failure = tei.fail(found.value, "r1")
    assert (failure.status, failure.body["error_type"]) == (413, "Validation")


def test_texts_that_were_cut_are_a_validation_error_unless_they_may_be():
    cut = embedded([3, 256], [0, 44])
    with pytest.raises(TooLargeError, match=r"inputs\[1\] has 300 tokens, but the model reads 256"):
        tei.write_embed(EmbedCall(("a", "b")), cut)
    assert len(tei.write_embed(EmbedCall(("a", "b"), over_length="truncate"), cut)) == 2
    ranked = Reranked(np.zeros(2, np.float32), np.array([0, 7], np.int32))
    call = RerankCall("q", ("a", "b"))
    with pytest.raises(TooLargeError, match=r"query and texts\[1\] have 7 tokens more"):
        tei.write_rerank(RankCall(call), ranked)
    cutting = RankCall(RerankCall("q", ("a", "b"), over_length="truncate"))
    assert len(tei.write_rerank(cutting, ranked)) == 2
    label = Classified(("good",), np.ones(1, np.float32), 5)
    with pytest.raises(TooLargeError, match=r"inputs\[0\] has 5 tokens more"):
        tei.write_predict(PredictCall(("a",)), [label])
    assert tei.write_predict(PredictCall(("a",), over_length="truncate"), [label])


def test_ranks_are_best_first_with_relevance_or_raw_scores_and_texts_where_they_are_wanted():
    ranked = Reranked(np.array([0.0, 5.0], np.float32), np.zeros(2, np.int32))
    body = {"query": "q", "texts": ["a", "b"]}
    plain = tei.write_rerank(tei.read_rerank(body), ranked)
    assert [list(row) for row in plain] == [["index", "score"]] * 2
    assert [row["index"] for row in plain] == [1, 0]
    assert plain[1]["score"] == 0.5
    full = tei.write_rerank(tei.read_rerank({**body, "return_text": True, "raw_scores": True}), ranked)
    assert full == [{"index": 1, "text": "b", "score": 5.0}, {"index": 0, "text": "a", "score": 0.0}]


def test_predictions_have_the_form_of_their_inputs():
    labels = [Classified(("good", "bad"), np.array([0.75, 0.25], np.float32))] * 2
    one = [{"score": 0.75, "label": "good"}, {"score": 0.25, "label": "bad"}]
    for inputs in ("a", ["a"]):
        call = tei.read_predict({"inputs": inputs})
        assert call == PredictCall(("a",))
        assert tei.write_predict(call, labels[:1]) == one
    batch = tei.read_predict({"inputs": [["a"], ["b"]], "truncate": True, "model": "classes"})
    assert batch == PredictCall(("a", "b"), "classes", True, "truncate")
    assert tei.write_predict(batch, labels) == [one, one]


def test_info_says_what_is_known_of_a_model():
    info = tei.write_info(ServedModel("embedding", "embed", True), "0.1.0", 2000)
    assert (info["model_id"], info["model_type"]) == ("embedding", {"embedding": {}})
    assert (info["max_concurrent_requests"], info["version"]) == (2000, "0.1.0")


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (ResourceExhaustedError("60 a minute", 3.0), 429, "Overloaded"),
        (UnavailableError("gone"), 503, "Unhealthy"),
        (TriremeError("a bug"), 500, "Backend"),
        (UnauthenticatedError("no key"), 401, "Backend"),
        (OverLengthError("row 1: text has 300 tokens"), 413, "Validation"),
    ],
)
def test_other_errors_have_their_own_status(error, status, kind):
    failure = tei.fail(error, "r1")
    assert (failure.status, failure.body["error_type"]) == (status, kind)
    assert ("x-request-id", "r1") in failure.headers
