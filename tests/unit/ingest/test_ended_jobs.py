"""A worker's log names the request that published a document; its indexing is part of the request's trace."""

import re

import pytest

from fakes.spans import KeptSpans
from fakes.worker import document
from trireme.errors import InvalidInputError
from trireme.ingest.ended_jobs import EndedJobs
from trireme.ingest.queue import Job, Origin
from trireme.types import Document

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-00f067aa0ba902b7-{flags}" for flags in ("01", "00"))


def job(origin, key="a"):
    return Job("7", "1", "t", "c", Document(key, "", ("text",), ""), origin=origin)


def told(*jobs, outcome="stored"):
    notices, spans = [], KeptSpans()
    ended = EndedJobs(notices.append, spans)
    ended.take(jobs)
    ended.tell(jobs, outcome)
    return notices, spans.kept


def test_a_document_that_was_stored_and_one_that_died_have_a_line_with_the_request(bench):
    bench.queue.publish("t", "c", [document("good"), document("bad", "no")], origin=Origin("req_1", SAMPLED))
    bench.server.trouble = refuse
    bench.run()
    lines = [line for line in bench.notices if line.startswith("request req_1")]
    patterns = [
        rf'request req_1 trace {TRACE} job \d+ document "good": stored, [\d.]+ s',
        rf'request req_1 trace {TRACE} job \d+ document "bad": dead, [\d.]+ s',
    ]
    assert len(lines) == 2
    for pattern in patterns:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, lines)


def test_a_document_that_was_deleted_meanwhile_is_not_said_to_be_stored(bench):
    bench.queue.publish("t", "c", [document("a"), document("b")], origin=Origin("req_1", SAMPLED))

    def delete(texts):
        bench.documents.delete("t", "c", ["a"])

    bench.server.trouble = delete
    bench.run()
    lines = sorted(line for line in bench.notices if line.startswith("request req_1"))
    assert [line.partition('document "')[2].partition(",")[0] for line in lines] == ['a": gone', 'b": stored']


def refuse(texts):
    if "no" in texts:
        raise InvalidInputError("no")


def test_documents_that_no_request_published_have_none(bench):
    bench.publish(*(document(f"d{n}") for n in range(20)))
    bench.run()
    assert bench.notices == []


def test_a_sampled_request_has_a_span_of_its_upload_for_each_document():
    _, (span,) = told(job(Origin("req_1", SAMPLED)))
    assert (span.trace, span.parent, span.kind, span.error) == (TRACE, "00f067aa0ba902b7", "consumer", "")
    assert span.attributes == {"trireme.request": "req_1", "trireme.job": "7", "trireme.outcome": "stored"}
    _, (failed,) = told(job(Origin("req_1", SAMPLED)), outcome="dead")
    assert failed.error == "dead"


@pytest.mark.parametrize("parent", [UNSAMPLED, "", "nonsense"])
def test_a_request_that_is_not_sampled_has_a_line_alone(parent):
    (line,), spans = told(job(Origin("req_1", parent)))
    assert line.startswith("request req_1 ")
    assert spans == []


def test_no_id_forges_a_line():
    (line,), _ = told(job(Origin("req_1"), "a\nrequest req_2 job 1"))
    assert "\n" not in line
    assert told(job(Origin("two words"))) == ([], [])
