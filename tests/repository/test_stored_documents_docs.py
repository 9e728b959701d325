"""docs/stored-documents.md shows what the code answers: the fields of its JSON, its bounds and its parameters."""

import inspect
import json
import re
from pathlib import Path

from trireme.gateway import holding_routes
from trireme.gateway.holdings import DROPS, READS
from trireme.gateway.paging import DEFAULT_LIMIT, MOST_LIMIT
from trireme.gateway.wire.holdings import (
    deleted_body,
    document_body,
    documents_body,
    jobs_body,
)
from trireme.ingest.catalog import (
    DocumentsPage,
    DocumentsQuery,
    JobNumbers,
    JobsPage,
    PassagesPage,
    PassagesQuery,
    StoredDocument,
)
from trireme.ingest.queue import JobInfo
from trireme.postgres.timeouts import Timeouts
from trireme.types import Passage

TEXT = (Path(__file__).parents[2] / "docs" / "stored-documents.md").read_text()
STORED = StoredDocument("report.pdf", "Report", "report.pdf", 30, 0.0)


def fields_of(value):
    """Names and kinds of what JSON holds, without how many there are of it."""
    if isinstance(value, dict):
        return {key: fields_of(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [fields_of(value[0])]
    return type(value).__name__


def test_the_answers_of_the_page_are_those_of_the_code():
    shown = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
    metadata = json.dumps(shown[1]["passages"][0]["metadata"])
    page = PassagesPage(STORED, (Passage("report.pdf#12", "Oars.", metadata),), True, True)
    job = JobInfo("17", "acme", "notes", "report.pdf", "dead", 5, "its model is gone", 0.0)
    answers = [
        documents_body(DocumentsPage((STORED,), False, 2, 31), DocumentsQuery("acme", "notes")),
        document_body(page, PassagesQuery("acme", "notes", "report.pdf")),
        jobs_body(JobsPage((job,), numbers=(JobNumbers("notes", dead=1),), workers=1)),
        deleted_body("notes", "vector_store"),
    ]
    assert [fields_of(one) for one in shown] == [fields_of(one) for one in answers]


def test_the_calls_of_the_page_are_those_that_are_served_with_their_parameters():
    table = TEXT.partition("| --- | --- |\n")[2].partition("\n\n")[0]
    said = {}
    for method, path, query in re.findall(r"`(\w+) (/[^`?]+)(\?[^`]+)?`", table):
        said[method, path] = set(re.findall(r"(\w+)=", query)) | {"tenant"}
    served = {
        (method, path.replace(":rest", "")): set(
            re.findall(r"(\w+)=", inspect.getdoc(handler).partition(": ")[0].partition("?")[2])
        )
        for method, path, _, handler in holding_routes.HOLDING_ROUTES
    }
    assert set(said) == set(served)
    for call, parameters in said.items():
        # OpenAI's clients page through stores.
        assert parameters == served[call] - ({"after", "limit"} if call[1] == "/v1/vector_stores" else set())


def test_the_bounds_of_the_page_are_those_of_the_code():
    assert f"`limit` rows (1 to {MOST_LIMIT}, {DEFAULT_LIMIT} if not given)" in TEXT


def test_what_waits_for_what_is_as_the_page_says():
    numbers = {2: "two", 3: "Three"}
    assert f"{numbers[READS]} pages are read at once and {numbers[DROPS]} collections are deleted" in TEXT
    assert f"longer than {Timeouts().catalog:.0f} s is 503" in TEXT
