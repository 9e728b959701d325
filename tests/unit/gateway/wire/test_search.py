import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire.search import read_search, write_search
from trireme.providers.models import SearchCall
from trireme.types import Hit

SCOPE = {"tenant": "acme", "user": "ann", "collection": "default"}


def test_a_body_becomes_a_search_of_the_keys_tenant():
    assert read_search({"query": "q"}, **SCOPE) == SearchCall("q", "acme", "default", "ann")
    body = {
        "query": "q",
        "collection": "docs",
        "top_k": 3,
        "filter": {"lang": "en", "page": {"number": 3}},
        "mode": "hybrid",
        "model": "other",
    }
    assert read_search(body, **SCOPE) == SearchCall(
        "q", "acme", "docs", "ann", "other", 3, '{"lang":"en","page":{"number":3}}', "hybrid"
    )
    assert read_search({"query": "q", "filter": {}}, **SCOPE).filter == ""
    assert read_search({"query": "q", "mode": "sparse"}, **SCOPE).mode == "sparse"


@pytest.mark.parametrize(("rerank", "depth"), [(False, 0), (True, None), (None, None)])
def test_reranking_is_left_out_where_a_body_says_so(rerank, depth):
    assert read_search({"query": "q", "rerank": rerank}, **SCOPE).rerank_depth == depth


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": ""}, "query"),
        ({"query": 1}, "query"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2**31}, "top_k"),
        ({"filter": "lang"}, "filter"),
        ({"filter": {"lang": "a\x00"}}, "filter"),
        ({"mode": "fast"}, "mode"),
        ({"rerank": 0}, "rerank"),
        ({"collection": ""}, "collection"),
        ({"tenant": "other"}, "tenant"),
    ],
)
def test_what_is_wrong_is_named(changes, field):
    with pytest.raises(InvalidInputError) as found:
        read_search({"query": "q", **changes}, **SCOPE)
    assert found.value.param == field
    assert field in str(found.value)


def test_passages_come_with_their_metadata_as_objects():
    hits = [
        Hit("a#0", "oars", '{"source": "a.md"}', 0.5),
        Hit("b", "fir", "[1]", 0.25),
        Hit("c", "x", "", 0.1),
    ]
    assert write_search(SearchCall("q", "acme", "docs"), hits) == {
        "model": "search",
        "collection": "docs",
        "passages": [
            {"id": "a#0", "document_id": "a", "text": "oars", "metadata": {"source": "a.md"}, "score": 0.5},
            {"id": "b", "document_id": "b", "text": "fir", "metadata": {}, "score": 0.25},
            {"id": "c", "document_id": "c", "text": "x", "metadata": {}, "score": 0.1},
        ],
    }
