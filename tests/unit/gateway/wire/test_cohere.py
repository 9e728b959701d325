import numpy as np
import pytest

from trireme.errors import InvalidInputError, UnavailableError
from trireme.gateway.wire.cohere import MalformedError, fail, read_rerank, write_rerank
from trireme.gateway.wire.ranking import RerankCall
from trireme.providers.models import Reranked

BODY = {"model": "reranker", "query": "who rows?", "documents": ["fir", {"text": "rowers"}]}


def test_a_body_becomes_the_neutral_call():
    assert read_rerank(BODY) == RerankCall("who rows?", ("fir", "rowers"), "reranker")
    given = {**BODY, "top_n": 9, "max_tokens_per_doc": None}
    assert read_rerank(given).top_n == 9


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": ""}, "query"),
        ({"model": ""}, "model"),
        ({"documents": "fir"}, "documents"),
        ({"documents": [1]}, "documents[0]"),
        ({"documents": [{"title": "x"}]}, "documents[0].title"),
        ({"top_n": 0}, "top_n"),
        ({"rank_fields": ["title"]}, "rank_fields"),
    ],
)
def test_a_malformed_field_is_named_with_422(changes, field):
    with pytest.raises(MalformedError) as found:
        read_rerank({**BODY, **changes})
    assert found.value.param == field
    failure = fail(found.value, "r1")
    assert failure.status == 422
    assert failure.body == {"message": str(found.value), "id": "r1"}


@pytest.mark.parametrize(
    "changes", [{"documents": []}, {"max_tokens_per_doc": 512}, {"priority": 1}, {"truncate": "START"}]
)
def test_what_cannot_be_done_is_named_with_400(changes):
    with pytest.raises(InvalidInputError, match=next(iter(changes))) as found:
        read_rerank({**BODY, **changes})
    assert fail(found.value, "r1").status == 400


def test_results_point_into_the_request_best_first():
    call = RerankCall("q", ("a", "b", "c"), "reranker", top_n=2)
    scores = Reranked(np.array([0.0, 5.0, -5.0], np.float32), np.array([0, 0, 0], np.int32))
    answer = write_rerank(call, scores, "r1")
    assert answer["id"] == "r1"
    assert [row["index"] for row in answer["results"]] == [1, 0]
    assert answer["results"][1]["relevance_score"] == 0.5
    assert answer["meta"] == {"api_version": {"version": "2"}}


def test_documents_that_were_cut_are_warned_of():
    scores = Reranked(np.zeros(2, np.float32), np.array([0, 9], np.int32))
    answer = write_rerank(RerankCall("q", ("a", "b"), "reranker"), scores, "r1")
    assert answer["meta"]["warnings"] == [
        "documents longer than the model reads: 1; it scored their beginning"
    ]


def test_other_errors_have_their_own_status():
    assert fail(UnavailableError("gone"), "r1").status == 503
