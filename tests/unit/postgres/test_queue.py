"""What is PostgreSQL's own in the queue: old jobs are forgotten, plans stay quick, the schema is the known one."""

import hashlib
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from trireme.ingest.queue import JobQuery
from trireme.local.postgres import start_postgres
from trireme.postgres.queue import ProcrastinateQueue, QueueTiming
from trireme.postgres.queue_sql import PLAN, QUEUE, TAKE
from trireme.types import Document

pytestmark = pytest.mark.e2e

# Of the release whose tables the schema has. Another one needs the library's migrations as one of ours.
SCHEMA_SHA256 = "c70ec4b400a60ad9592787653aae5ae77ae41bf801d56b5bd2712751a07f2009"


@pytest.fixture(scope="module")
def database():
    with tempfile.TemporaryDirectory() as folder, start_postgres(Path(folder)) as running:
        yield running


@pytest.fixture
def queue(database):
    opened = ProcrastinateQueue(database.url)
    yield opened
    opened.close()
    with psycopg.connect(database.url) as connection:
        connection.execute("DELETE FROM trireme.procrastinate_jobs")


def documents(count):
    return [Document(f"d{n}", "", ("text",), "") for n in range(count)]


def test_the_librarys_schema_is_the_one_that_ours_was_written_for():
    from procrastinate.schema import SchemaManager

    assert hashlib.sha256(SchemaManager.get_schema().encode()).hexdigest() == SCHEMA_SHA256


def test_jobs_that_ended_well_long_ago_are_forgotten_and_others_are_not(database, queue):
    published = queue.publish("t", "c", documents(4))
    done, dead, *_ = jobs = queue.take(3)
    with psycopg.connect(database.url) as connection:
        connection.execute("SET search_path = trireme, public")
        for job in (done, jobs[2]):
            connection.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", (int(job.id),))
        queue.settle([dead], "dead", "no")
        connection.commit()
        connection.execute(
            "UPDATE procrastinate_events SET at = now() - interval '2 days' WHERE job_id <> %s",
            (int(jobs[2].id),),
        )
    with closing(ProcrastinateQueue(database.url, QueueTiming(prune=0.0))) as keeper:
        keeper.take(1)
    left = {job.id for job in queue.find(JobQuery()).jobs}
    assert left == {one.job for one in published} - {done.id}


def test_taking_jobs_reads_no_more_rows_where_many_wait(database, queue):
    """On tables that nobody has analyzed, as after a large load."""
    for start in range(0, 6000, 1000):
        queue.publish("t", "c", [Document(f"d{start + n}", "", ("x",), "") for n in range(1000)])
    queue.take(1)
    with psycopg.connect(database.url) as connection:
        connection.execute("SET search_path = trireme, public")
        connection.execute(PLAN)
        (plan,) = connection.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + TAKE,
            {"queue": QUEUE, "limit": 64, "suspect": 3, "worker": None},
        ).fetchone()
        connection.rollback()

    def rows(node):
        yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        for child in node.get("Plans", []):
            yield from rows(child)

    assert max(rows(plan[0]["Plan"])) < 200


def test_a_taker_whose_first_take_is_slow_is_one_worker_and_leaves_none_behind(database, queue):
    queue.publish("t", "c", documents(1))
    taken = []
    with closing(ProcrastinateQueue(database.url, QueueTiming(timeout=15.0, beats=1500))) as slow:
        with psycopg.connect(database.url) as other:
            # The take waits for this lock, for many heartbeats, with its registration not committed yet.
            other.execute("LOCK TABLE trireme.procrastinate_jobs")
            thread = threading.Thread(target=lambda: taken.extend(slow.take(1)))
            thread.start()
            time.sleep(0.3)
        thread.join()
        assert [str(worker) for worker in workers(database)] == [taken[0].claim]
    assert workers(database) == []


def workers(database):
    with psycopg.connect(database.url) as connection:
        return [one for (one,) in connection.execute("SELECT id FROM trireme.procrastinate_workers")]
