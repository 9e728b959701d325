"""The suite of every IndexBuilder, of which PostgreSQL's is the only one: when an index is due, how it is built."""

import threading
import time
from contextlib import ExitStack, closing

import numpy as np
import psycopg
import pytest

from trireme.errors import UnavailableError
from trireme.ingest.documents import Indexed
from trireme.postgres.index_builder import PostgresIndexBuilder
from trireme.storage import open_documents, open_index_builder, open_queue
from trireme.types import Document, Embedder, Passage

pytestmark = pytest.mark.e2e

EMBEDDER = Embedder("a" * 64, 8)
INDEXES = (
    "SELECT x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
    "WHERE c.relname LIKE 'embeddings_hnsw_%'"
)


class World:
    """A queue and documents; collections of 20 passages and more get an index."""

    def __init__(self, url, resources):
        self.url = url
        self.resources = resources
        self.queue = resources.enter_context(closing(open_queue(url, 15.0)))
        self.documents = resources.enter_context(closing(open_documents(url)))
        self.builder = self.open_builder()

    def open_builder(self):
        return self.resources.enter_context(closing(open_index_builder(self.url, 20)))

    def open_strict_builder(self, **limits):
        """A builder with other limits of what a load is."""
        return self.resources.enter_context(closing(PostgresIndexBuilder(self.url, 20, **limits)))

    def publish(self, *ids):
        documents = [Document(one, "", ("text",), one, digest=one) for one in ids]
        assert all(answer.job for answer in self.queue.publish("t", "c", documents))

    def load(self, passages, job=None):
        """Store one document with so many passages."""
        if job is None:
            self.publish(f"d{passages}")
            (job,) = self.queue.take(1)
        rows = tuple(Passage(f"{job.document.id}#{n}", f"text {n}") for n in range(passages))
        vectors = np.random.default_rng(0).normal(size=(passages, 8)).astype(np.float32)
        assert self.documents.replace([Indexed(job, rows, vectors)], EMBEDDER, "embedding") == [job.id]

    def indexes(self):
        """Whether each index that is there is valid."""
        with psycopg.connect(self.url) as connection:
            return [is_valid for (is_valid,) in connection.execute(INDEXES)]


@pytest.fixture
def world(database):
    with ExitStack() as resources:
        yield World(database.url, resources)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DELETE FROM trireme.collections")
        connection.execute("DELETE FROM trireme.procrastinate_jobs")
        connection.execute("DELETE FROM trireme.submissions")
        for (name,) in connection.execute(
            "SELECT relname FROM pg_class WHERE relname LIKE 'embeddings_hnsw_%'"
        ).fetchall():
            connection.execute(f"DROP INDEX trireme.{name}")


def test_a_collection_gets_its_index_once_it_has_reached_the_size(world):
    assert world.builder.build_due() == 0
    world.load(19)
    assert world.builder.build_due() == 0
    world.load(20)
    assert world.indexes() == []
    assert world.builder.build_due() == 1
    assert world.indexes() == [True]
    assert world.builder.build_due() == 0


@pytest.mark.parametrize(
    ("bulk", "most"),
    [
        pytest.param(3, 10**6, id="a bulk load of its collection is under way"),
        # Two documents wait to the end, but the second one makes the collection very large.
        pytest.param(1, 31, id="the load goes on, but the collection is not very large yet"),
    ],
)
def test_no_index_is_built_while(world, bulk, most):
    builder = world.open_strict_builder(bulk_documents=bulk, most_unindexed=most)
    world.publish("first", "second", "third", "fourth")
    first, second = world.queue.take(2)
    world.load(30, first)
    assert builder.build_due() == 0
    world.load(1, second)
    assert builder.build_due() == 1


def test_dead_documents_and_other_collections_are_no_load(world):
    builder = world.open_strict_builder(bulk_documents=1)
    world.load(30)
    world.publish("dead")
    world.queue.settle(world.queue.take(1), "dead", "broken")
    world.queue.publish("t", "other", [Document("waits", "", ("text",), "waits", digest="1")])
    assert builder.build_due() == 1


def test_a_build_that_is_cancelled_ends_soon_and_is_done_anew_by_another_builder(world):
    world.load(30)
    errors = []

    def build():
        try:
            world.builder.build_due()
        except UnavailableError as error:
            errors.append(error)

    # An older transaction that has written: the build waits for its end.
    with psycopg.connect(world.url) as older:
        older.execute("UPDATE trireme.embeddings SET tenant = tenant")
        thread = threading.Thread(target=build)
        thread.start()
        deadline = time.monotonic() + 60
        while not world.indexes():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        world.builder.cancel()
        thread.join(timeout=60)
        assert not thread.is_alive()
        assert world.indexes() == [False]
    assert len(errors) == 1
    assert world.builder.build_due() == 0
    assert world.open_builder().build_due() == 1
    assert world.indexes() == [True]
