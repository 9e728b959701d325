"""The suite of every JobQueue, continued: what a document may be, and what is refused."""

import dataclasses
import datetime
import functools
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
from queues import document, documents, empty, publish

from trireme.errors import DocumentError, InvalidInputError
from trireme.ingest.queue import JobQuery
from trireme.postgres.queue import ProcrastinateQueue


def test_a_text_in_many_parts_comes_back_whole(queue):
    parts = tuple(f"Line {n}. " * 1000 for n in range(12))
    publish(queue, [document("big", parts=iter(parts)), document("empty", "")])
    big, empty_one = queue.take(10)
    assert "".join(big.document.parts) == "".join(parts)
    # A worker that fails half way reads them again.
    assert "".join(big.document.parts) == "".join(parts)
    assert empty_one.document.text == ""


def test_a_document_that_cannot_be_kept_is_refused_alone(queue):
    def breaks():
        yield "good " * 20_000
        raise DocumentError("its page 3 is damaged")

    given = [
        document("a"),
        document("nul", "x\x00y"),
        document("a", "again"),
        document("", "no id"),
        document("x" * 5000),
        document("half", parts=breaks()),
        document("surrogate", "\ud800"),
        document("b"),
    ]
    answers = queue.publish("t", "c", given)
    assert [answer.document for answer in answers] == [one.id for one in given]
    assert [bool(answer.job) for answer in answers] == [True] + [False] * 6 + [True]
    reasons = [answer.error for answer in answers]
    assert "NUL" in reasons[1]
    assert "twice" in reasons[2]
    assert "1 to" in reasons[3]
    assert "5000" in reasons[4]
    assert reasons[5] == "its page 3 is damaged"
    assert "surrogate" in reasons[6]
    assert [job.document.id for job in queue.take(10)] == ["a", "b"]
    assert queue.find(JobQuery()).unfinished == 2


def nested(depth):
    made = {}
    for _ in range(depth):
        made = {"a": made}
    return made


@pytest.mark.parametrize(
    "extra",
    [{"a": "\ud800"}, {"\udfff": 1}, {"a": float("nan")}, {"a": [float("inf")]}, nested(2000)],
    ids=["surrogate", "key", "nan", "infinity", "deep"],
)
def test_metadata_that_no_database_keeps_is_refused_and_its_neighbours_are_kept(queue, extra):
    given = [document("a"), replace(document("bad"), extra=extra), document("b")]
    answers = queue.publish("t", "c", given)
    assert [bool(answer.job) for answer in answers] == [True, False, True]
    assert "metadata" in answers[1].error


@pytest.mark.parametrize("tenant, collection", [("", "c"), ("t", ""), ("t\x00", "c"), ("t", "c" * 600)])
def test_names_that_cannot_be_stored_are_refused(queue, tenant, collection):
    with pytest.raises(InvalidInputError):
        queue.publish(tenant, collection, [document("a")])


def test_hostile_texts_are_only_texts(queue):
    hostile = "'); DROP TABLE trireme.submissions; -- %s {} \\x00 \t\r\n \\N"
    publish(queue, [document(hostile, hostile)])
    (job,) = queue.take(1)
    assert job.document.id == hostile
    assert job.document.text == hostile


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"a": "\x00"}, "NUL"),
        ({"\x00": 1}, "NUL"),
        ({"a": ["\ud800"]}, "surrogate"),
        ({"a": float("nan")}, "NaN"),
        ({"a": {"b": float("-inf")}}, "NaN"),
        ({"a": datetime.date(2026, 11, 28)}, "date"),
        ({"a": "x" * 70_000}, "bytes"),
        ({"a": functools.reduce(lambda inner, _: [inner], range(200), 1)}, "deeper"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_metadata_that_cannot_be_stored_refuses_its_document_alone(queue, extra, reason):
    bad = dataclasses.replace(document("bad"), extra=extra)
    refused, kept = queue.publish("t", "c", [bad, document("good")])
    assert (refused.job, bool(kept.job)) == ("", True)
    assert "metadata" in refused.error
    assert reason in refused.error


def test_metadata_comes_back_as_it_was(queue):
    extra = {
        "source": 7,
        "a b/'": [None, True, 0.1, 10**30, -1e-300, {"": "\u2028 \U0001f6a2"}],
        "x": "\\u0000",
    }
    queue.publish("t", "c", [dataclasses.replace(document("a"), extra=extra)])
    (job,) = queue.take(1)
    assert dict(job.document.extra) == extra


@pytest.mark.parametrize(
    "identity", ["/etc/passwd", "../../secret", "file:///dev/zero", "a\nb", " a ", "~", "C:\\x", "x" * 2000]
)
def test_an_id_is_a_name_and_no_path(queue, identity):
    publish(queue, [document(identity, "its own text")])
    (job,) = queue.take(1)
    assert (job.document.id, job.document.text) == (identity, "its own text")


def test_ids_that_look_alike_are_documents_of_their_own(queue):
    alike = ["caf\u00e9", "cafe\u0301", "Caf\u00e9", "caf\u00e9 ", "ca\u200bf\u00e9", "\u0441af\u00e9"]
    publish(queue, [document(one) for one in alike])
    assert [job.document.id for job in queue.take(10)] == alike


@pytest.mark.parametrize(
    "odd",
    ["", "1; drop", "-1", "+1", "1_0", "1.0", "1e0", "\u0663", "\uff11", "9" * 40, "0x1", "\x00", "\ud800"],
)
def test_what_is_no_job_id_is_unknown(queue, odd):
    publish(queue, documents(12))
    assert queue.find(JobQuery(ids=(odd,))).jobs == ()
    assert queue.retry([odd]) == []


def test_a_published_document_is_taken_as_it_was_given(queue):
    given = document("déjà vu", "Ein Text — 文字.", whole=True, extra={"page": 3, "tags": ["a", None]})
    (published,) = queue.publish("acme", "notes", [given])
    assert (published.document, published.error) == ("déjà vu", "")
    (job,) = queue.take(10)
    assert job.id == published.job
    assert (job.tenant, job.collection) == ("acme", "notes")
    assert job.document.text == "Ein Text — 文字."
    for name in ("id", "title", "source", "whole", "extra", "digest"):
        assert getattr(job.document, name) == getattr(given, name)
    assert (job.attempts, job.staged, job.staged_with) == (0, 0, "")


@pytest.mark.e2e
def test_a_publisher_that_is_killed_leaves_all_of_a_call_or_nothing(database, tmp_path):
    script = textwrap.dedent(
        """
        import sys, os, signal
        from trireme.postgres.queue import ProcrastinateQueue
        from trireme.types import Document
        def parts():
            yield "x" * 50_000
            os.kill(os.getpid(), signal.SIGKILL)
        queue = ProcrastinateQueue(sys.argv[1])
        queue.publish("t", "whole", [Document("a", "", ("text",), "")])
        queue.publish("t", "killed", [Document("b", "", ("text",), ""), Document("c", "", parts(), "")])
        """
    )
    done = subprocess.run([sys.executable, "-c", script, database.url], timeout=120)
    assert done.returncode == -9
    queue = ProcrastinateQueue(database.url)
    try:
        assert queue.find(JobQuery(collection="whole")).waiting == 1
        assert queue.find(JobQuery(collection="killed")).jobs == ()
    finally:
        queue.close()
        empty(database.url)
