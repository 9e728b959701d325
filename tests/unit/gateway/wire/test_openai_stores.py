import json

import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire.openai_stores import MOST_FILTERS, read_store_search, write_page
from trireme.providers.models import SearchCall
from trireme.types import Hit

SCOPE = {"tenant": "acme", "user": "ann"}


def read(**body):
    return read_store_search({"query": "q", **body}, "docs", **SCOPE)


def eq(key, value):
    return {"type": "eq", "key": key, "value": value}


def test_a_query_becomes_a_search_and_a_list_one_for_each():
    assert read().calls == (SearchCall("q", "acme", "docs", "ann", top_k=10),)
    search = read(query=["a", "b"], max_num_results=3)
    assert [call.query for call in search.calls] == ["a", "b"]
    assert [call.top_k for call in search.calls] == [3, 3]
    assert search.most == 3


def test_comparisons_become_a_filter_by_what_metadata_contains():
    assert json.loads(read(filters=eq("lang", "en")).calls[0].filter) == {"lang": "en"}
    nested = {"type": "and", "filters": [eq("a", 1), {"type": "and", "filters": [eq("b", True), eq("a", 1)]}]}
    assert json.loads(read(filters=nested).calls[0].filter) == {"a": 1, "b": True}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": []}, "query"),
        ({"query": ["a", ""]}, "query[1]"),
        ({"max_num_results": 51}, "max_num_results"),
        ({"rewrite_query": True}, "rewrite_query"),
        ({"ranking_options": {"ranker": "best"}}, "ranking_options"),
        ({"ranking_options": {"score_threshold": 2}}, "ranking_options.score_threshold"),
        ({"ranking_options": {"hybrid_search": {}}}, "ranking_options.hybrid_search"),
        ({"filters": {"type": "gt", "key": "a", "value": 1}}, "filters.type"),
        ({"filters": {"type": "or", "filters": []}}, "filters.type"),
        ({"filters": {"key": "a"}}, "filters.type"),
        ({"filters": {"type": "eq", "key": "a"}}, "filters.value"),
        ({"filters": {"type": "eq", "key": "a", "value": [1]}}, "filters.value"),
        ({"filters": {"type": "and", "filters": [{"type": "ne"}]}}, "filters.filters[0].type"),
        ({"filters": {"type": "and", "filters": [eq("a", 1), eq("a", 2)]}}, "filters.filters[0]"),
        ({"filters": {"type": "and", "filters": [eq("a", 1)] * MOST_FILTERS}}, "filters"),
        ({"limit": 1}, "limit"),
    ],
)
def test_what_is_wrong_or_cannot_be_done_is_named(changes, field):
    with pytest.raises(InvalidInputError) as found:
        read(**changes)
    assert found.value.param == field


def test_what_changes_nothing_is_taken():
    assert read(rewrite_query=False, ranking_options={"ranker": "auto"}).threshold == 0.0
    assert read(ranking_options={"ranker": "default-2024-11-15", "score_threshold": 0.5}).threshold == 0.5


def test_the_ranker_none_leaves_the_order_of_the_retriever():
    assert [
        call.rerank_depth for call in read(query=["a", "b"], ranking_options={"ranker": "none"}).calls
    ] == [0, 0]
    assert read(ranking_options={"ranker": "auto"}).calls[0].rerank_depth is None


def hit(name, score, **metadata):
    return Hit(name, f"text of {name}", json.dumps(metadata), score)


def test_a_page_holds_the_passages_of_all_queries_once_best_first():
    search = read(query=["a", "b"], max_num_results=2)
    first = [hit("x#0", 1.0, source="x.md", position=0), hit("y", 0.0)]
    second = [hit("y", 2.0), hit("z", -1.0)]
    page = write_page(search, [first, second], lambda document: f"file-{document}")
    assert page["object"] == "vector_store.search_results.page"
    assert page["search_query"] == ["a", "b"]
    assert (page["has_more"], page["next_page"]) == (False, None)
    assert [(row["file_id"], row["filename"]) for row in page["data"]] == [
        ("file-y", "y"),
        ("file-x", "x.md"),
    ]
    assert [round(row["score"], 4) for row in page["data"]] == [0.8808, 0.7311]
    assert page["data"][0]["content"] == [{"type": "text", "text": "text of y"}]


def test_what_is_below_the_threshold_stays_away():
    search = read(ranking_options={"score_threshold": 0.6})
    page = write_page(search, [[hit("x", 1.0), hit("y", 0.0)]])
    assert [row["file_id"] for row in page["data"]] == ["x"]


def test_attributes_are_texts_numbers_and_flags():
    found = hit("x#1", 1.0, lang="en", page=3, tags=["a"], none=None, trireme_lead=4, position=1)
    (row,) = write_page(read(), [[found]])["data"]
    assert row["attributes"] == {"lang": "en", "page": 3, "tags": '["a"]', "position": 1}
    assert row["file_id"] == "x"
