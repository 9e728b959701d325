"""One suite for every JobQueue: the fake in memory and the real PostgreSQL must both pass it."""

import dataclasses
import datetime
import functools
import itertools
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from fakes import memory_queue
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.errors import DocumentError, InvalidInputError
from trireme.ingest.queue import MAX_ATTEMPTS, MAX_FAILURES, SUSPECT_AFTER, JobQuery
from trireme.postgres import queue as procrastinate_queue
from trireme.postgres.queue import ProcrastinateQueue
from trireme.types import Document

TIMEOUT = 1.0
BACK_OFF = 0.3
TENANTS = itertools.count()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def open_queue(request, monkeypatch):
    """Makes one queue object after the other over the same jobs, as several processes do."""
    opened = []
    monkeypatch.setattr(memory_queue, "back_off", lambda failures: BACK_OFF * failures)
    monkeypatch.setattr(procrastinate_queue, "back_off", lambda failures: BACK_OFF * failures)
    jobs = MemoryJobs()

    def make():
        if request.param == "memory":
            queue = MemoryQueue(jobs, timeout=TIMEOUT)
        else:
            queue = ProcrastinateQueue(request.getfixturevalue("database").url, timeout=TIMEOUT)
        opened.append(queue)
        return queue

    yield make
    for queue in opened:
        queue.close()
    if request.param == "postgres":
        empty(request.getfixturevalue("database").url)


@pytest.fixture
def queue(open_queue):
    return open_queue()


def empty(url):
    import psycopg

    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('trireme.procrastinate_jobs')").fetchone()[0]:
            connection.execute("DELETE FROM trireme.procrastinate_jobs")
            connection.execute("DELETE FROM trireme.procrastinate_workers")


def kill(queue):
    """The taker sends no further heartbeat, and says nothing."""
    if isinstance(queue, ProcrastinateQueue):
        queue._closed.set()


def documents(count, prefix="d"):
    return [document(f"{prefix}{n:04d}") for n in range(count)]


def document(key, text="Some text.", **changes):
    parts = changes.pop("parts", (text,))
    return Document(key, f"title of {key}", parts, f"source of {key}", digest=f"digest of {text}", **changes)


def publish(queue, given, batch=""):
    return [one.job for one in queue.publish("t", "c", given, batch)]


def take_until(queue, limit=10, seconds=5.0):
    """The next jobs, once there are any."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if taken := queue.take(limit):
            return taken
        time.sleep(0.05)
    raise AssertionError("no job came")


def state(queue, job):
    (found,) = queue.find(JobQuery(ids=(job,))).jobs
    return found


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


def test_jobs_are_taken_oldest_first_and_each_once(queue):
    jobs = publish(queue, documents(25))
    taken = [job.id for _ in range(4) for job in queue.take(10)]
    assert taken == jobs


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


def test_a_job_is_unknown_to_every_tenant_but_its_own(queue):
    (job,) = queue.publish("tenant", "c", [document("a")])
    for other in ("Tenant", "tenant ", "ten\u200bant", "t\u0435nant", "other"):
        assert queue.find(JobQuery(ids=(job.job,), tenant=other)).jobs == ()
    assert [one.id for one in queue.find(JobQuery(ids=(job.job,), tenant="tenant")).jobs] == [job.job]
    with pytest.raises(InvalidInputError):
        queue.find(JobQuery(ids=(job.job,), tenant="\x00"))


@pytest.mark.parametrize(
    "odd",
    ["", "1; drop", "-1", "+1", "1_0", "1.0", "1e0", "\u0663", "\uff11", "9" * 40, "0x1", "\x00", "\ud800"],
)
def test_what_is_no_job_id_is_unknown(queue, odd):
    publish(queue, documents(12))
    assert queue.find(JobQuery(ids=(odd,))).jobs == ()
    assert queue.retry([odd]) == []


def test_nothing_is_published_by_an_empty_call_and_nothing_is_taken_of_nothing(queue):
    assert queue.publish("t", "c", []) == []
    assert queue.take(10) == []
    with pytest.raises(InvalidInputError):
        queue.take(0)


def test_two_takers_never_get_the_same_job(open_queue):
    publisher = open_queue()
    jobs = publish(publisher, documents(300))
    takers = [open_queue() for _ in range(4)]

    def take_all(taker):
        mine = []
        while taken := taker.take(7):
            mine += [job.id for job in taken]
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = list(itertools.chain(*pool.map(take_all, takers)))
    assert sorted(taken) == sorted(jobs)
    assert len(set(taken)) == len(taken)


def test_two_submissions_of_one_document_are_worked_on_in_order_and_never_at_once(open_queue):
    queue, other = open_queue(), open_queue()
    first, second = (publish(queue, [document("same", text)])[0] for text in ("old", "new"))
    publish(queue, [document("another")])
    taken = queue.take(10)
    assert [job.document.id for job in taken] == ["same", "another"]
    assert taken[0].id == first
    assert other.take(10) == []
    queue.settle(taken[:1], "dead", "no")
    (job,) = other.take(10)
    assert job.id == second
    assert job.document.text == "new"


def test_the_same_id_in_other_collections_and_tenants_is_another_document(queue):
    for tenant, collection in (("t", "c"), ("t", "d"), ("u", "c")):
        queue.publish(tenant, collection, [document("same")])
    assert len(queue.take(10)) == 3


def test_ten_producers_publish_at_once(open_queue):
    queues = [open_queue() for _ in range(10)]
    start = threading.Barrier(10)

    def produce(n):
        start.wait()
        return [job for k in range(5) for job in publish(queues[n], documents(20, f"p{n}-{k}-"))]

    with ThreadPoolExecutor(10) as pool:
        jobs = list(itertools.chain(*pool.map(produce, range(10))))
    assert len(set(jobs)) == 1000
    taken = {}
    while more := queues[0].take(200):
        taken |= {job.id: job.document.id for job in more}
    assert set(taken) == set(jobs)
    assert len(set(taken.values())) == 1000


def test_a_failed_job_waits_and_is_tried_again_until_it_is_dead_with_its_error(queue):
    (key,) = publish(queue, [document("bad")])
    for attempt in range(1, MAX_FAILURES + 1):
        (job,) = take_until(queue)
        assert job.attempts == attempt - 1
        failed = time.monotonic()
        queue.settle([job], "failed", f"failure {attempt}")
        if attempt < MAX_FAILURES:
            assert queue.take(1) == []
            assert state(queue, key).state == "waiting"
            assert state(queue, key).error == f"failure {attempt}"
            if attempt < 3:
                (job,) = take_until(queue)
                assert time.monotonic() - failed >= BACK_OFF * attempt * 0.9
                queue.settle([job], "released")
    dead = state(queue, key)
    assert (dead.state, dead.error, dead.attempts) == ("dead", f"failure {MAX_FAILURES}", MAX_FAILURES)
    assert queue.find(JobQuery(state="dead")).jobs == (dead,)
    time.sleep(BACK_OFF)
    assert queue.take(1) == []


def test_a_failed_job_blocks_no_other_document(queue):
    publish(queue, documents(3))
    first, *_ = queue.take(3)
    queue.settle([first], "failed", "no")
    publish(queue, [document("later")])
    assert [job.document.id for job in queue.take(10)] == ["later"]


def test_a_dead_job_is_retried_with_all_its_attempts(queue):
    (key,) = publish(queue, [document("bad", "its text")])
    queue.settle(queue.take(1), "dead", "it is refused")
    assert state(queue, key).error == "it is refused"
    assert queue.retry([key, "999999999", "no number"]) == [key]
    assert queue.retry([key]) == []
    (job,) = queue.take(1)
    assert (job.id, job.attempts, job.document.text) == (key, 0, "its text")
    queue.settle([job], "failed", "again")
    assert state(queue, key).state == "waiting"


def test_a_released_job_comes_back_at_once_and_unharmed(open_queue):
    queue, other = open_queue(), open_queue()
    publish(queue, documents(2))
    queue.settle(queue.take(2), "released")
    assert [(job.document.id, job.attempts) for job in other.take(10)] == [("d0000", 0), ("d0001", 0)]


def test_jobs_of_a_taker_that_died_come_back_after_its_heartbeats_stopped(open_queue):
    dead, alive = open_queue(), open_queue()
    publish(alive, documents(3))
    lost = dead.take(2)
    kill(dead)
    (kept,) = alive.take(10)
    began = time.monotonic()
    while len(found := alive.take(10)) == 0:
        if isinstance(alive, MemoryQueue):
            alive.beat()
        assert time.monotonic() - began < 10
        time.sleep(0.05)
    assert [job.id for job in found] == [job.id for job in lost]
    assert {job.attempts for job in found} == {1}
    assert time.monotonic() - began > TIMEOUT / 2
    # What the dead one still says of them counts for nothing.
    dead.settle(lost, "dead", "too late")
    assert alive.find(JobQuery()).running == 3
    assert kept.id not in {job.id for job in found}


def test_a_taker_that_beats_keeps_its_jobs_however_long_they_take(open_queue):
    busy, other = open_queue(), open_queue()
    publish(busy, documents(2))
    busy.take(2)
    for _ in range(8):
        time.sleep(TIMEOUT / 4)
        if isinstance(busy, MemoryQueue):
            busy.beat()
        assert other.take(10) == []


def test_a_taker_that_closes_gives_its_jobs_back_at_once(open_queue):
    leaving, other = open_queue(), open_queue()
    publish(other, documents(2))
    assert len(leaving.take(2)) == 2
    leaving.close()
    assert len(take_until(other, seconds=TIMEOUT)) == 2


def test_a_job_whose_worker_dies_again_and_again_is_taken_alone_and_given_up_in_the_end(open_queue):
    watcher = open_queue()
    killer, neighbour = publish(watcher, [document("killer"), document("neighbour")])
    for attempt in range(MAX_ATTEMPTS):
        taker = open_queue()
        taken = take_until(taker, limit=2)
        assert taken[0].id == killer
        assert taken[0].attempts == attempt
        assert len(taken) == (1 if attempt >= SUSPECT_AFTER else 2)
        taker.close()
    (job,) = take_until(open_queue(), limit=2)
    assert job.id == neighbour
    dead = state(watcher, killer)
    assert dead.state == "dead"
    assert f"died {MAX_ATTEMPTS} times" in dead.error


def test_find_counts_and_lists_what_agrees_with_every_field(open_queue):
    queue = open_queue()
    jobs = publish(queue, documents(4), "first")
    queue.publish("t", "other", documents(2), "second")
    queue.publish("u", "c", documents(1))
    queue.settle(queue.take(1), "dead", "no")
    queue.take(2)
    everything = queue.find(JobQuery())
    assert (everything.waiting, everything.running, everything.done, everything.dead) == (4, 2, 0, 1)
    assert everything.workers == 1
    assert [job.id for job in queue.find(JobQuery(batch="first")).jobs] == jobs
    first = queue.find(JobQuery(batch="first", limit=0))
    assert (first.jobs, first.unfinished, first.dead) == ((), 3, 1)
    assert queue.find(JobQuery(tenant="u")).waiting == 1
    assert queue.find(JobQuery(collection="other")).waiting == 2
    assert queue.find(JobQuery(tenant="t", state="running", collection="other")).jobs == ()
    assert len(queue.find(JobQuery(limit=3)).jobs) == 3
    assert [job.state for job in queue.find(JobQuery(ids=tuple(jobs[:2]))).jobs] == ["dead", "running"]
    assert queue.find(JobQuery(ids=("4711471147", "x", "-1", "1" * 40))).jobs == ()
    # Nobody sees another tenant's job by its number.
    assert queue.find(JobQuery(ids=tuple(jobs), tenant="u")).jobs == ()


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
    done = subprocess.run([sys.executable, "-c", script, database.url], timeout=60)
    assert done.returncode == -9
    queue = ProcrastinateQueue(database.url)
    try:
        assert queue.find(JobQuery(collection="whole")).waiting == 1
        assert queue.find(JobQuery(collection="killed")).jobs == ()
    finally:
        queue.close()
        empty(database.url)
