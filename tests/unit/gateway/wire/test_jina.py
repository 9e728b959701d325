import numpy as np
import pytest

from trireme.errors import InvalidInputError, NotFoundError
from trireme.gateway.wire.jina import fail, read_rerank, write_rerank
from trireme.gateway.wire.ranking import RerankCall
from trireme.providers.models import Reranked

BODY = {"model": "reranker", "query": "who rows?", "documents": ["fir", {"text": "rowers"}]}
SCORES = Reranked(np.array([0.0, 5.0], np.float32), np.zeros(2, np.int32))


def test_a_body_becomes_the_neutral_call_and_documents_come_back_by_default():
    assert read_rerank(BODY) == RerankCall("who rows?", ("fir", "rowers"), "reranker", None, True)
    given = {**BODY, "top_n": 1, "return_documents": False, "user": "ann"}
    assert read_rerank(given) == RerankCall("who rows?", ("fir", "rowers"), "reranker", 1, False)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"documents": []}, "documents"),
        ({"documents": [{}]}, "documents[0].text"),
        ({"top_n": -1}, "top_n"),
        ({"max_chunks_per_doc": 1}, "max_chunks_per_doc"),
    ],
)
def test_what_is_wrong_is_named(changes, field):
    with pytest.raises(InvalidInputError) as found:
        read_rerank({**BODY, **changes})
    assert found.value.param == field


def test_results_point_into_the_request_best_first_with_their_documents():
    answer = write_rerank(read_rerank(BODY), SCORES)
    assert answer["model"] == "reranker"
    assert [(row["index"], row["document"]) for row in answer["results"]] == [
        (1, {"text": "rowers"}),
        (0, {"text": "fir"}),
    ]
    assert answer["results"][1]["relevance_score"] == 0.5
    assert "usage" not in answer


def test_documents_stay_away_where_they_are_not_wanted():
    answer = write_rerank(read_rerank({**BODY, "return_documents": False, "top_n": 1}), SCORES)
    assert [set(row) for row in answer["results"]] == [{"index", "relevance_score"}]


def test_an_error_has_its_status_and_its_detail():
    failure = fail(NotFoundError("no model 'x'"), "r1")
    assert (failure.status, failure.body) == (404, {"detail": "no model 'x'", "request_id": "r1"})
