"""What is published of sources, over fakes of queue and documents."""

import numpy as np
import pytest

from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.documents.source import Skipped, Source, broken_source
from trireme.errors import DocumentError, UnavailableError
from trireme.ingest.documents import Indexed
from trireme.ingest.publish import DEFAULT_LIMITS, BatchLimits, Publisher
from trireme.ingest.queue import JobQuery
from trireme.types import Document, Embedder, Passage

EMBEDDER = Embedder("a" * 64, 2)


class Bench:
    def __init__(self):
        jobs = MemoryJobs()
        self.queue, self.documents = MemoryQueue(jobs), MemoryDocuments(jobs)
        self.opened = []

    def source(self, key, text="text", digest="1", size=10):
        def read():
            self.opened.append(key)
            return Document(key, "", (text,), key, digest=digest)

        return Source(key, digest, size, read)

    def publish(self, *sources, limits=DEFAULT_LIMITS):
        self.skipped = Skipped()
        self.publisher = Publisher(
            self.queue, self.documents, ("t", "c"), "batch", self.skipped, limits=limits
        )
        self.publisher.publish(sources, lambda tally: None)
        return self.publisher.tally

    def work(self):
        """Store all that waits."""
        jobs = self.queue.take(100_000)
        done = [
            Indexed(job, (Passage(f"{job.document.id}#0", "x"),), np.ones((1, 2), np.float32)) for job in jobs
        ]
        self.documents.replace(done, EMBEDDER, "")


@pytest.fixture
def bench():
    return Bench()


def test_new_and_changed_sources_are_published_and_unchanged_ones_are_not_even_opened(bench):
    tally = bench.publish(bench.source("a"), bench.source("b"))
    assert (tally.seen, tally.published, tally.unchanged) == (2, 2, 0)
    bench.work()
    bench.opened.clear()
    tally = bench.publish(bench.source("a"), bench.source("b", digest="2"), bench.source("c"))
    assert (tally.seen, tally.published, tally.unchanged) == (3, 2, 1)
    assert bench.opened == ["b", "c"]


def test_what_waits_as_it_is_is_not_published_again_but_what_waits_otherwise_is(bench):
    bench.publish(bench.source("a", digest="old"))
    bench.work()
    bench.publish(bench.source("a", digest="new"))
    assert bench.publish(bench.source("a", digest="new")).unchanged == 1
    # It is stored as it was, but will be another one.
    assert bench.publish(bench.source("a", digest="old")).published == 1


def test_a_source_that_cannot_be_read_is_skipped_with_its_reason(bench):
    def breaks():
        yield "good"
        raise DocumentError("its page 2 is damaged")

    half = Source("half", "1", 1, lambda: Document("half", "", breaks(), "half"))
    tally = bench.publish(broken_source("bad", "it is encrypted"), half, bench.source("good"))
    assert tally.published == 1
    assert bench.skipped.lines() == ("bad: it is encrypted", "half: its page 2 is damaged")


def test_an_id_that_is_given_twice_is_kept_once_however_far_apart(bench):
    sources = [bench.source(key) for key in ("a", "b", "a", "c", "a")]
    assert bench.publish(*sources, limits=BatchLimits(sources=2)).published == 3
    assert [name for name, _ in bench.skipped.files] == ["a", "a"]


@pytest.mark.parametrize("limits", [BatchLimits(sources=10), BatchLimits(bytes=100)])
def test_transactions_are_bounded_by_number_and_size(bench, limits):
    calls = []
    real = bench.queue.publish
    bench.queue.publish = lambda *a: calls.append(len(a[2])) or real(*a)
    bench.publish(*(bench.source(f"d{n}") for n in range(35)), limits=limits)
    assert calls == [10, 10, 10, 5]


def test_jobs_carry_the_label_of_their_batch(bench):
    bench.publish(bench.source("a"))
    assert bench.queue.find(JobQuery(batch="batch")).waiting == 1
    assert bench.queue.find(JobQuery(batch="other")).waiting == 0


def test_documents_that_are_not_among_the_sources_are_deleted_on_demand(bench):
    bench.publish(*(bench.source(f"d{n}") for n in range(5)))
    bench.work()
    tally = bench.publish(bench.source("d1"), broken_source("d3", "it is encrypted"))
    assert bench.publisher.delete_missing()
    assert tally.missing == 3
    # What cannot be read now is not missing.
    assert bench.documents.ids("t", "c") == ["d1", "d3"]


def test_nothing_is_deleted_where_a_line_of_a_corpus_could_be_any_document(bench):
    bench.publish(bench.source("a"), bench.source("b"))
    bench.work()
    bench.publish(bench.source("a"), broken_source("corpus.jsonl:2", "it is not JSON"))
    assert not bench.publisher.delete_missing()
    assert bench.documents.ids("t", "c") == ["a", "b"]


def test_a_database_that_goes_away_ends_the_call_and_the_next_goes_on(bench):
    real, calls = bench.queue.publish, []

    def once(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise UnavailableError("gone")
        return real(*arguments)

    bench.queue.publish = once
    sources = [bench.source(f"d{n}") for n in range(5)]
    with pytest.raises(UnavailableError):
        bench.publish(*sources, limits=BatchLimits(sources=1))
    tally = bench.publish(*sources)
    assert (tally.unchanged, tally.published) == (2, 3)
    assert bench.queue.find(JobQuery()).waiting == 5
