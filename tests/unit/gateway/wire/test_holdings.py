import json

import pytest

from trireme.errors import InvalidInputError
from trireme.gateway.wire.holdings import (
    deleted_body,
    document_body,
    documents_body,
    job_body,
    jobs_body,
    read_documents,
    read_jobs,
    read_passages,
)
from trireme.ingest.catalog import (
    DocumentsPage,
    DocumentsQuery,
    JobNumbers,
    JobsPage,
    PassagesPage,
    StoredDocument,
)
from trireme.ingest.queue import JobInfo
from trireme.types import Passage

# 2026-11-29T17:20:01.5Z.
AT = 1_795_972_801.5
STORED = StoredDocument("r.pdf", "Report", "r.pdf", 3, AT)
DOCUMENT = {
    "id": "r.pdf",
    "object": "document",
    "title": "Report",
    "source": "r.pdf",
    "updated_at": "2026-11-29T17:20:01Z",
}


def test_a_job_and_a_deletion_have_their_fields():
    job = JobInfo("7", "acme", "notes", "a", "dead", 5, "its model is gone", AT)
    assert json.loads(json.dumps(job_body(job))) == {
        "id": "7",
        "object": "job",
        "state": "dead",
        "document_id": "a",
        "collection": "notes",
        "attempts": 5,
        "error": "its model is gone",
        "created_at": "2026-11-29T17:20:01Z",
    }
    done = job_body(JobInfo("7", "acme", "notes", "a", "done"))
    assert (done["error"], done["created_at"]) == (None, None)
    assert deleted_body("a", "document") == {"id": "a", "object": "document.deleted", "deleted": True}


def test_a_page_of_documents_says_where_the_next_begins_and_what_the_collection_has():
    page = DocumentsPage((STORED,), has_more=True, count=9, passages=30)
    assert documents_body(page, DocumentsQuery("acme", "notes")) == {
        "object": "list",
        "data": [{**DOCUMENT, "passages": 3}],
        "has_more": True,
        "last_id": "r.pdf",
        "collection": "notes",
        "totals": {"documents": 9, "passages": 30},
    }
    empty = documents_body(DocumentsPage((), False, 0, 0), DocumentsQuery("acme", "notes"))
    assert (empty["data"], empty["last_id"]) == ([], None)


def test_a_document_has_its_passages_with_their_metadata():
    query = read_passages({"around": "r.pdf#1", "limit": "2"}, "acme", "notes", "r.pdf")
    assert (query.around, query.after, query.limit) == ("r.pdf#1", "", 2)
    passages = (Passage("r.pdf#1", "one", '{"page": 4}'), Passage("r.pdf#2", "two", "no JSON"))
    assert document_body(PassagesPage(STORED, passages, True, False), query) == {
        **DOCUMENT,
        "collection": "notes",
        "passage_count": 3,
        "passages": [
            {"id": "r.pdf#1", "text": "one", "metadata": {"page": 4}},
            {"id": "r.pdf#2", "text": "two", "metadata": {}},
        ],
        "has_earlier": True,
        "has_more": False,
        "last_id": "r.pdf#2",
    }


def test_a_page_of_jobs_has_the_numbers_of_every_state():
    numbers = (JobNumbers("notes", waiting=3, done=2), JobNumbers("plans", waiting=1))
    page = JobsPage((JobInfo("7", "acme", "notes", "a", "waiting"),), numbers=numbers, workers=1)
    body = jobs_body(page)
    assert body["counts"] == {"waiting": 4, "running": 0, "done": 2, "dead": 0, "cancelled": 0}
    assert (body["workers"], body["last_id"], body["has_more"]) == (1, "7", False)


def test_parameters_become_queries():
    documents = read_documents({"prefix": "a%", "after": "a%b"}, "acme", "notes")
    assert (documents.prefix, documents.after, documents.limit) == ("a%", "a%b", 50)
    jobs = read_jobs({"state": "dead", "batch": "x", "after": "9", "limit": "200"}, "acme", ["notes"])
    assert (jobs.state, jobs.batch, jobs.after, jobs.limit) == ("dead", "x", "9", 200)
    assert jobs.collections == ("notes",)


def test_a_state_that_no_job_has_is_refused_with_those_there_are():
    with pytest.raises(InvalidInputError, match="waiting, running, done, dead, cancelled, got 'asleep'"):
        read_jobs({"state": "asleep"}, "acme", [])


@pytest.mark.parametrize("limit", ["0", "201", "-1", "1.5", "", "a", "٣", "9" * 30])
def test_a_limit_that_no_page_has_is_refused_with_those_that_have(limit):
    for read in (read_documents, lambda query, *scope: read_passages(query, *scope, "a"), read_jobs):
        with pytest.raises(InvalidInputError, match="1 to 200") as refused:
            read({"limit": limit}, "acme", "notes")
        assert refused.value.param == "limit"
