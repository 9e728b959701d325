"""One suite for every Catalog: the fake in memory and the real PostgreSQL must both pass it."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
import psycopg
import pytest
from queues import wait_until

from fakes.memory_catalog import MemoryCatalog
from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.errors import InvalidInputError, NotFoundError
from trireme.ingest.catalog import DocumentsQuery, JobNumbers, JobsQuery, PassagesQuery
from trireme.ingest.documents import Indexed
from trireme.postgres.catalog import PostgresCatalog
from trireme.postgres.documents import PostgresDocuments
from trireme.postgres.queue import ProcrastinateQueue
from trireme.storage import open_store
from trireme.types import Document, Embedder, Passage

EMBEDDER = Embedder("a" * 64, 2)
# In the order of their UTF-8 bytes.
ODD = ["%", "%25", "100%_b", "100_b", "a", "a#1", "a/b", "a/b/c d", "aa", "a\ue000", "a\U0010ffff", "ü", "船"]


class Memory:
    """Queue, documents and catalog in memory."""

    def __init__(self):
        jobs = MemoryJobs()
        self.queue, self.documents = MemoryQueue(jobs), MemoryDocuments(jobs)
        self.catalog = MemoryCatalog(jobs, self.documents)

    def close(self):
        pass


class Postgres:
    """The same in PostgreSQL."""

    def __init__(self, url):
        self.url = url
        self.queue, self.documents = ProcrastinateQueue(url), PostgresDocuments(url)
        self.catalog = PostgresCatalog(url)

    def close(self):
        for one in (self.queue, self.documents, self.catalog):
            one.close()
        with psycopg.connect(self.url) as connection:
            connection.execute("DELETE FROM trireme.collections")
            connection.execute("DELETE FROM trireme.procrastinate_jobs")
            connection.execute("DELETE FROM trireme.procrastinate_workers")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    made = Memory() if request.param == "memory" else Postgres(request.getfixturevalue("database").url)
    yield made
    made.close()


def publish(world, *keys, tenant="t", collection="c", batch=""):
    given = [Document(key, f"title of {key}", ("text",), f"source of {key}", digest="1") for key in keys]
    answers = world.queue.publish(tenant, collection, given, batch)
    assert all(answer.job for answer in answers), answers
    return [answer.job for answer in answers]


def write(world, job, passages=1):
    rows = tuple(
        Passage(f"{job.document.id}#{n}", f"text {n}", json.dumps({"position": n})) for n in range(passages)
    )
    return world.documents.replace(
        [Indexed(job, rows, np.ones((passages, 2), np.float32))], EMBEDDER, "embedding"
    )


def store(world, *keys, passages=1, **scope):
    publish(world, *keys, **scope)
    for job in world.queue.take(100):
        assert write(world, job, passages)


def die(world, *keys, **scope):
    """Dead jobs of documents; their ids."""
    ids = publish(world, *keys, **scope)
    world.queue.settle(world.queue.take(100), "dead", "its model is gone")
    return ids


def ids(page):
    return [one.id for one in page.documents]


def listed(world, **changes):
    return world.catalog.jobs(replace(JobsQuery("t"), **changes))


def counts(page):
    return {
        state: page.count(state)
        for state in ("waiting", "running", "done", "dead", "cancelled")
        if page.count(state)
    }


def test_documents_are_told_by_id_with_what_is_known_of_them(world):
    began = time.time()
    store(world, "b", passages=3)
    store(world, "a", passages=2)
    page = world.catalog.documents(DocumentsQuery("t", "c"))
    assert ids(page) == ["a", "b"]
    first = page.documents[0]
    assert (first.title, first.source, first.passages) == ("title of a", "source of a", 2)
    # Both clocks are this machine's.
    assert abs(first.updated_at - began) < 60
    assert (page.has_more, page.count, page.passages) == (False, 2, 5)


def test_pages_of_documents_hold_each_once_whatever_comes_and_goes_meanwhile(world):
    store(world, *(f"d{n:02d}" for n in range(0, 20, 2)))
    first = world.catalog.documents(DocumentsQuery("t", "c", limit=4))
    assert (ids(first), first.has_more) == (["d00", "d02", "d04", "d06"], True)
    # Before, at and behind the mark.
    store(world, "d01", "d07")
    world.documents.delete("t", "c", ["d06", "d00", "d10"])
    second = world.catalog.documents(DocumentsQuery("t", "c", after="d06", limit=4))
    assert ids(second) == ["d07", "d08", "d12", "d14"]
    third = world.catalog.documents(DocumentsQuery("t", "c", after="d14", limit=4))
    assert (ids(third), third.has_more) == (["d16", "d18"], False)
    assert third.count == 9


def test_a_page_that_is_just_full_says_that_no_more_follow(world):
    store(world, "a", "b")
    assert not world.catalog.documents(DocumentsQuery("t", "c", limit=2)).has_more
    assert world.catalog.documents(DocumentsQuery("t", "c", limit=1)).has_more
    assert world.catalog.documents(DocumentsQuery("t", "c", after="b")).documents == ()


def test_ids_of_any_kind_go_in_the_order_of_their_bytes(world):
    long = "x" * 2032
    store(world, *ODD, long)
    expected = sorted([*ODD, long], key=str.encode)
    assert ids(world.catalog.documents(DocumentsQuery("t", "c", limit=200))) == expected
    one_by_one, after = [], ""
    while found := world.catalog.documents(DocumentsQuery("t", "c", after=after, limit=1)).documents:
        after = found[0].id
        one_by_one.append(after)
    assert one_by_one == expected


@pytest.mark.parametrize(
    "prefix", ["%", "100_", "100%", "a", "a/", "a\U0010ffff", "a#", "ü", "船", "x" * 2032, "b"]
)
def test_a_prefix_is_text_and_no_pattern(world, prefix):
    store(world, *ODD, "x" * 2032)
    page = world.catalog.documents(DocumentsQuery("t", "c", prefix=prefix))
    assert ids(page) == sorted((one for one in [*ODD, "x" * 2032] if one.startswith(prefix)), key=str.encode)
    assert page.count == len(ODD) + 1


def test_a_prefix_goes_on_behind_the_page_before(world):
    store(world, "a", "b1", "b2", "b3", "c")
    first = world.catalog.documents(DocumentsQuery("t", "c", "b", limit=2))
    second = world.catalog.documents(DocumentsQuery("t", "c", "b", after="b2", limit=2))
    assert (ids(first), first.has_more, ids(second), second.has_more) == (["b1", "b2"], True, ["b3"], False)


def test_a_collection_in_which_nothing_is_stored_is_none(world):
    publish(world, "a")
    assert world.catalog.documents(DocumentsQuery("t", "c")) is None
    store(world, "b")
    assert world.catalog.documents(DocumentsQuery("other", "c")) is None
    assert world.catalog.documents(DocumentsQuery("t", "other")) is None


def test_passages_stand_in_the_order_of_the_document(world):
    store(world, "a", "a#1", passages=12)
    page = world.catalog.passages(PassagesQuery("t", "c", "a"))
    assert [one.id for one in page.passages] == [f"a#{n}" for n in range(12)]
    assert [json.loads(one.metadata) for one in page.passages] == [{"position": n} for n in range(12)]
    assert page.passages[3].text == "text 3"
    assert (page.has_earlier, page.has_more, page.document.passages) == (False, False, 12)
    first = world.catalog.passages(PassagesQuery("t", "c", "a", limit=10))
    rest = world.catalog.passages(PassagesQuery("t", "c", "a", after="a#9", limit=10))
    assert (first.has_more, rest.has_more, rest.has_earlier) == (True, False, True)
    assert [one.id for one in (*first.passages, *rest.passages)] == [f"a#{n}" for n in range(12)]


@pytest.mark.parametrize(
    ("around", "limit", "numbers"),
    [
        (0, 5, range(5)),
        (1, 5, range(5)),
        (6, 5, range(4, 9)),
        (11, 5, range(9, 12)),
        (10, 1, range(10, 11)),
        (6, 200, range(12)),
    ],
)
def test_a_passage_is_opened_among_its_neighbours(world, around, limit, numbers):
    store(world, "a", passages=12)
    page = world.catalog.passages(PassagesQuery("t", "c", "a", around=f"a#{around}", limit=limit))
    assert [one.id for one in page.passages] == [f"a#{n}" for n in numbers]
    assert (page.has_earlier, page.has_more) == (0 not in numbers, 11 not in numbers)


def test_a_passage_or_a_document_that_is_not_there_is_none(world):
    store(world, "a", "b")
    for asked in (
        PassagesQuery("t", "c", "z"),
        PassagesQuery("t", "z", "a"),
        PassagesQuery("z", "c", "a"),
        PassagesQuery("t", "c", "a", around="b#0"),
        PassagesQuery("t", "c", "a", around="a#1"),
        PassagesQuery("t", "c", "a\x00"),
        PassagesQuery("t", "c", ""),
    ):
        assert world.catalog.passages(asked) is None, asked


def test_jobs_are_told_newest_first_with_their_numbers(world):
    began = time.time()
    store(world, "done")
    (dead,) = die(world, "dead")
    publish(world, "running")
    world.queue.take(1)
    waiting = publish(world, "waiting")
    page = listed(world)
    assert [job.document for job in page.jobs] == ["waiting", "running", "dead", "done"]
    assert [job.state for job in page.jobs] == ["waiting", "running", "dead", "done"]
    assert page.jobs[0].id == waiting[0]
    assert page.jobs[2].error == "its model is gone"
    assert all(abs(job.created_at - began) < 60 for job in page.jobs)
    assert counts(page) == {"waiting": 1, "running": 1, "dead": 1, "done": 1}
    assert page.workers == 1
    dead_letters = listed(world, state="dead")
    assert [job.id for job in dead_letters.jobs] == [dead]
    assert counts(dead_letters) == counts(page)


def test_pages_of_jobs_hold_each_once_whatever_comes_and_goes_meanwhile(world):
    first = publish(world, *"abcdef")
    page = listed(world, limit=2)
    assert ([job.id for job in page.jobs], page.has_more) == (first[:3:-1], True)
    publish(world, "g")
    store(world, "h")
    rest = listed(world, after=page.jobs[-1].id, limit=4)
    assert ([job.id for job in rest.jobs], rest.has_more) == (first[3::-1], False)
    assert listed(world, after="1", limit=1).jobs == ()


def test_jobs_are_chosen_by_collection_and_batch(world):
    publish(world, "a", collection="one", batch="x")
    publish(world, "b", collection="two", batch="y")
    publish(world, "c", collection="three")
    assert [job.document for job in listed(world, collections=("one", "two")).jobs] == ["b", "a"]
    assert counts(listed(world, collections=("one", "two"))) == {"waiting": 2}
    by_batch = listed(world, batch="x")
    assert ([job.document for job in by_batch.jobs], counts(by_batch)) == (["a"], {"waiting": 1})
    assert listed(world, batch="x", collections=("two",)).jobs == ()
    assert listed(world, collections=("one", "three")).numbers == (
        JobNumbers("one", waiting=1),
        JobNumbers("three", waiting=1),
    )


def test_jobs_are_found_by_id(world):
    (mine,) = publish(world, "a")
    (theirs,) = publish(world, "a", tenant="other")
    page = listed(world, ids=(mine, theirs, "999999", "x", "9" * 400, "-1", "0", "1\x00"))
    assert [job.id for job in page.jobs] == [mine]
    assert counts(page) == {}


def test_no_tenant_sees_or_ends_what_is_anothers(world):
    store(world, "a", tenant="other")
    (dead,) = die(world, "b", tenant="other")
    store(world, "a")
    publish(world, "c", tenant="other")
    assert [job.document for job in listed(world).jobs] == ["a"]
    assert counts(listed(world)) == {"done": 1}
    assert not world.catalog.forget("t", dead)
    assert world.catalog.drop("t", "c")
    theirs = world.catalog.jobs(JobsQuery("other"))
    assert counts(theirs) == {"waiting": 1, "dead": 1, "done": 1}
    assert ids(world.catalog.documents(DocumentsQuery("other", "c"))) == ["a"]


def test_only_a_dead_job_is_forgotten_and_only_once(world):
    (dead,) = die(world, "a")
    (waiting,) = publish(world, "b")
    assert not world.catalog.forget("t", waiting)
    assert not world.catalog.forget("t", "x")
    assert world.catalog.forget("t", dead)
    assert not world.catalog.forget("t", dead)
    assert world.queue.retry([dead]) == []
    assert [job.id for job in listed(world).jobs] == [waiting]


def test_a_dead_job_is_retried_once_and_not_again_while_it_waits(world):
    (dead,) = die(world, "a")
    assert world.queue.retry([dead]) == [dead]
    assert world.queue.retry([dead]) == []
    (job,) = listed(world).jobs
    assert (job.state, job.attempts) == ("waiting", 0)
    assert write(world, world.queue.take(1)[0]) == [dead]
    assert world.queue.retry([dead]) == []


def test_a_dropped_collection_is_gone_with_all_that_waits_for_it(world):
    store(world, "stored", passages=3)
    store(world, "kept", collection="other")
    die(world, "dead")
    publish(world, "running")
    (running,) = world.queue.take(1)
    publish(world, "waiting", "stored")
    assert world.catalog.drop("t", "c")
    assert world.catalog.documents(DocumentsQuery("t", "c")) is None
    assert world.catalog.passages(PassagesQuery("t", "c", "stored")) is None
    assert counts(listed(world, collections=("c",))) == {"done": 1, "cancelled": 3}
    assert world.queue.take(10) == []
    assert ids(world.catalog.documents(DocumentsQuery("t", "other"))) == ["kept"]
    assert not world.catalog.drop("t", "nowhere")
    # Its worker comes too late, and makes nothing of it anew.
    assert write(world, running) == []
    assert world.catalog.documents(DocumentsQuery("t", "c")) is None


def test_a_collection_of_which_only_jobs_wait_can_be_dropped(world):
    publish(world, "a")
    assert world.catalog.drop("t", "c")
    assert counts(listed(world)) == {"cancelled": 1}
    assert world.queue.take(10) == []


def test_what_is_published_after_a_drop_makes_the_collection_anew(world):
    store(world, "a", passages=2)
    assert world.catalog.drop("t", "c")
    store(world, "a")
    page = world.catalog.documents(DocumentsQuery("t", "c"))
    assert (ids(page), page.passages) == (["a"], 1)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (DocumentsQuery("t", "c", prefix="a\x00"), "prefix"),
        (DocumentsQuery("t", "c", after="\ud800"), "after"),
        (DocumentsQuery("t", "c", limit=0), "limit"),
        (DocumentsQuery("t", "c", limit=201), "limit"),
        (DocumentsQuery("", "c"), ""),
        (PassagesQuery("t", "c", "a", after="a#1", around="a#2"), "around"),
        (PassagesQuery("t", "c", "a", around="\x00"), "around"),
        (JobsQuery("t", after="x"), "after"),
        (JobsQuery("t", after="9" * 19), "after"),
        (JobsQuery(""), ""),
        (JobsQuery("t", batch="\x00"), "batch"),
        (JobsQuery("t", collections=("",)), ""),
    ],
)
def test_what_cannot_be_is_refused_by_name(world, asked, param):
    verb = {
        DocumentsQuery: world.catalog.documents,
        PassagesQuery: world.catalog.passages,
        JobsQuery: world.catalog.jobs,
    }[type(asked)]
    with pytest.raises(InvalidInputError) as refused:
        verb(asked)
    assert refused.value.param == param


@pytest.mark.e2e
def test_row_level_security_keeps_tenants_apart_where_a_statement_does_not(database):
    """The rows that the tenant's role sees of each table, without any condition."""
    world = Postgres(database.url)
    try:
        for tenant in ("t", "other"):
            store(world, "a", tenant=tenant)
            die(world, "b", tenant=tenant)
        with psycopg.connect(database.url) as connection:
            connection.execute("SET LOCAL ROLE trireme_tenant")
            for tenant, seen in (("t", {"t"}), ("other", {"other"}), ("", set())):
                connection.execute("SELECT set_config('trireme.tenant', %s, true)", (tenant,))
                for table in ("procrastinate_jobs", "submissions", "documents", "passages", "collections"):
                    rows = connection.execute(f"SELECT tenant FROM trireme.{table}").fetchall()
                    assert {row[0] for row in rows} == seen, table
            for statement in (
                "DELETE FROM trireme.procrastinate_jobs",
                "UPDATE trireme.submissions SET error = ''",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                    connection.execute(statement)
    finally:
        world.close()


@pytest.mark.e2e
@pytest.mark.parametrize("verb", ["drop", "delete"])
def test_what_is_deleted_waits_for_the_worker_that_makes_its_collection(database, verb):
    """The transaction of a collection's first document is open when the deletion begins."""
    world = Postgres(database.url)
    try:
        (job,) = publish(world, "a")
        world.queue.take(1)
        with ThreadPoolExecutor(1) as pool, psycopg.connect(database.url) as writer:
            writer.execute("INSERT INTO trireme.collections (tenant, collection) VALUES ('t', 'c')")
            act = {"drop": world.catalog.drop, "delete": world.documents.delete}[verb]
            deletion = pool.submit(act, "t", "c", *([["a"]] if verb == "delete" else []))
            with psycopg.connect(database.url, autocommit=True) as watch:
                waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
                waiting += "AND wait_event_type = 'Lock'"
                wait_until(lambda: watch.execute(waiting).fetchone())
            # As DocumentStore.replace does.
            writer.execute("UPDATE trireme.procrastinate_jobs SET status = 'succeeded', worker_id = NULL")
            writer.execute("DELETE FROM trireme.submissions")
            writer.execute(
                "INSERT INTO trireme.documents (collection_id, tenant, id, digest) "
                "SELECT id, tenant, 'a', '1' FROM trireme.collections"
            )
            writer.commit()
            assert deletion.result(30)
        assert [one.state for one in listed(world, ids=(job,)).jobs] == ["done"]
        page = world.catalog.documents(DocumentsQuery("t", "c"))
        assert page is None or page.documents == ()
    finally:
        world.close()


@pytest.mark.e2e
def test_the_store_and_the_catalog_agree_on_what_is_dropped(database):
    world = Postgres(database.url)
    with_store = open_store(database.url)
    try:
        store(world, "a")
        assert world.catalog.drop("t", "c")
        with suppress(NotFoundError):
            with_store.drop("t", "c")
            pytest.fail("the store still has it")
        assert with_store.collections("t") == []
    finally:
        with_store.close()
        world.close()
