"""What is PostgreSQL's own in the queue: old jobs are forgotten, plans stay quick, the schema is the known one."""

import hashlib
import tempfile
from pathlib import Path

import psycopg
import pytest

from trireme.ingest.queue import JobQuery
from trireme.local.postgres import start_postgres
from trireme.postgres.queue import ProcrastinateQueue
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
    queue._recovered_at = queue._pruned_at = -1e9
    queue.take(1)
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
