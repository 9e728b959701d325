"""One suite for every JobQueue, the fake in memory and the real PostgreSQL: what is published, taken and found."""

import itertools
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from queues import MemoryWorld, document, documents, publish

from trireme.errors import InvalidInputError
from trireme.ingest.queue import JobQuery, Origin


def test_jobs_are_taken_oldest_first_and_each_once(queue):
    jobs = publish(queue, documents(25))
    taken = [job.id for _ in range(4) for job in queue.take(10)]
    assert taken == jobs


def test_a_job_is_unknown_to_every_tenant_but_its_own(queue):
    (job,) = queue.publish("tenant", "c", [document("a")])
    for other in ("Tenant", "tenant ", "ten\u200bant", "t\u0435nant", "other"):
        assert queue.find(JobQuery(ids=(job.job,), tenant=other)).jobs == ()
    assert [one.id for one in queue.find(JobQuery(ids=(job.job,), tenant="tenant")).jobs] == [job.job]
    with pytest.raises(InvalidInputError):
        queue.find(JobQuery(ids=(job.job,), tenant="\x00"))


def test_nothing_is_published_by_an_empty_call_and_nothing_is_taken_of_nothing(queue):
    assert queue.publish("t", "c", []) == []
    assert queue.take(10) == []
    with pytest.raises(InvalidInputError):
        queue.take(0)


def test_two_submissions_of_one_document_are_worked_on_in_order_and_never_at_once(world):
    queue, other = world.open(), world.open()
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


def test_ten_producers_publish_at_once(world):
    queues = [world.open() for _ in range(10)]
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


def test_find_counts_and_lists_what_agrees_with_every_field(world):
    queue = world.open()
    jobs = publish(queue, documents(4), "first")
    queue.publish("t", "other", documents(2), "second")
    queue.publish("u", "c", documents(1))
    queue.settle(queue.take(1), "dead", "no")
    queue.take(2)
    everything = queue.find(JobQuery())
    assert (everything.waiting, everything.running, everything.done, everything.dead) == (4, 2, 0, 1)
    assert everything.workers == 1
    last = queue.publish("v", "c", documents(1))[0].job
    # Whoever asks: it is of what everybody has published.
    assert queue.find(JobQuery(tenant="u", limit=0)).newest == int(last) > everything.newest
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


def test_the_query_of_the_signals_page_counts_what_waits(world):
    if isinstance(world, MemoryWorld):
        pytest.skip("SQL is PostgreSQL's")
    page = (Path(__file__).parents[2] / "docs" / "signals.md").read_text(encoding="utf-8")
    (query,) = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    queue = world.open()
    publish(queue, documents(5), "first")
    queue.take(2)
    with psycopg.connect(world.url) as connection:
        assert connection.execute(query).fetchone() == (3,)


def test_a_job_keeps_the_request_that_published_it(queue):
    origin = Origin("req_1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    queue.publish("t", "c", [document("a")], "batch", origin)
    queue.publish("t", "c", [document("b")])
    found = {job.document.id: job.origin for job in queue.take(10)}
    assert found == {"a": origin, "b": Origin()}
