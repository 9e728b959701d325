"""What the suites of the job queue share: queues over the same jobs, on a clock that the test moves."""

import time

import psycopg

from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.ingest.queue import BackOff, JobQuery
from trireme.postgres.queue import ProcrastinateQueue, QueueTiming
from trireme.types import Document

# Long enough that a busy machine takes no part in what is measured.
TIMEOUT = 30.0
BACK_OFF = BackOff(100.0, 2.0)
BEAT_SECONDS = 0.1


class MemoryWorld:
    """Queues in memory over the same jobs, as several processes have over one database."""

    def __init__(self):
        self.jobs = MemoryJobs()
        self.now = 0.0

    def open(self):
        return MemoryQueue(self.jobs, timeout=TIMEOUT, clock=lambda: self.now, back_off=BACK_OFF)

    def advance(self, seconds):
        """So many seconds pass, during which no taker sends a heartbeat."""
        self.now += seconds

    def beat(self, queue):
        """The taker sends a heartbeat."""
        queue.beat()

    def kill(self, queue):
        """The taker sends no further heartbeat, and says nothing."""

    def close(self):
        pass


class PostgresWorld:
    """Queues in PostgreSQL; time passes there in that all that is stored becomes older."""

    def __init__(self, url):
        self.url = url
        self.opened = []

    def open(self):
        timing = QueueTiming(TIMEOUT, beats=round(TIMEOUT / BEAT_SECONDS), back_off=BACK_OFF)
        self.opened.append(ProcrastinateQueue(self.url, timing))
        return self.opened[-1]

    def advance(self, seconds):
        with psycopg.connect(self.url) as connection:
            for table, column in (("workers", "last_heartbeat"), ("jobs", "scheduled_at")):
                connection.execute(
                    f"UPDATE trireme.procrastinate_{table} SET {column} = {column} - make_interval(secs => %s) "
                    f"WHERE {column} IS NOT NULL",
                    (seconds,),
                )

    def beat(self, queue):
        # Its own thread does it, soon.
        with psycopg.connect(self.url, autocommit=True) as connection:
            (asked,) = connection.execute("SELECT now()").fetchone()
            newest = "SELECT 1 FROM trireme.procrastinate_workers WHERE id = %s AND last_heartbeat > %s"
            wait_until(lambda: connection.execute(newest, (queue._worker, asked)).fetchone())

    def kill(self, queue):
        queue._closed.set()
        queue._beating.join()

    def close(self):
        for queue in self.opened:
            queue.close()
        empty(self.url)


def empty(url):
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('trireme.procrastinate_jobs')").fetchone()[0]:
            connection.execute("DELETE FROM trireme.procrastinate_jobs")
            connection.execute("DELETE FROM trireme.procrastinate_workers")


def wait_until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def documents(count, prefix="d"):
    return [document(f"{prefix}{n:04d}") for n in range(count)]


def document(key, text="Some text.", **changes):
    parts = changes.pop("parts", (text,))
    return Document(key, f"title of {key}", parts, f"source of {key}", digest=f"digest of {text}", **changes)


def publish(queue, given, batch=""):
    return [one.job for one in queue.publish("t", "c", given, batch)]


def state(queue, job):
    (found,) = queue.find(JobQuery(ids=(job,))).jobs
    return found
