"""The first step of a worker: what is taken, staged, known, and what cannot be cut."""

import time

import numpy as np
import pytest

from fakes.memory_queue import MemoryQueue
from fakes.worker import EMBEDDER, OTHER, Bench, document, long_text, vector
from trireme.documents.chunk import chunk
from trireme.errors import EmbedderMismatchError
from trireme.ingest.encoder import Encoder
from trireme.ingest.options import Sizes
from trireme.ingest.queue import JobQuery


def test_a_long_document_is_staged_and_seen_at_its_end():
    bench = Bench(sizes=Sizes(unit_passages=10))
    bench.publish(document("long", long_text(35), whole=False), document("short"))
    bench.run()
    assert list(bench.rows("long")) == [f"long#{n}" for n in range(35)]
    for passage, stored in bench.rows("long").values():
        np.testing.assert_array_equal(stored, vector(passage.text))
    assert bench.states() == (0, 0, 2, 0)


@pytest.mark.parametrize("staged", [10, 20, 35])
def test_a_long_document_goes_on_where_another_worker_stopped(staged):
    bench = Bench(sizes=Sizes(unit_passages=10))
    given = document("long", long_text(35), whole=False)
    bench.publish(given)
    (job,) = bench.queue.take(1)
    first = list(chunk(given, max_tokens=64))[:staged]
    vectors = np.stack([vector(passage.text) for passage in first])
    bench.documents.stage(job, 0, first, vectors, EMBEDDER)
    bench.queue.settle([job], "released")
    bench.run()
    assert sum(len(request) for request in bench.server.requests) == 35 - staged
    assert list(bench.rows("long")) == [f"long#{n}" for n in range(35)]


@pytest.mark.parametrize("embedder", [EMBEDDER, OTHER])
def test_what_was_staged_otherwise_is_staged_anew(bench, embedder):
    bench.publish(document("long", long_text(5), whole=False))
    (job,) = bench.queue.take(1)
    old = list(chunk(document("long", long_text(9), whole=False), max_tokens=64))
    bench.documents.stage(job, 0, old, np.stack([vector("old")] * len(old)), embedder)
    bench.queue.settle([job], "released")
    bench.run()
    for passage, stored in bench.rows("long").values():
        np.testing.assert_array_equal(stored, vector(passage.text))
    assert len(bench.rows("long")) == 5


def test_little_is_in_hand_where_writing_is_slow():
    bench = Bench(sizes=Sizes(taken_jobs=2, held_jobs=3, unit_passages=10, unwritten_passages=20))
    most = {"held": 0, "passages": 0}
    stage, replace = bench.documents.stage, bench.documents.replace

    def slow_stage(job, position, passages, *rest, sparse):
        time.sleep(0.05)
        sent = sum(len(request) for request in bench.server.requests if "Part" in request[0])
        most["passages"] = max(most["passages"], sent - position)
        stage(job, position, passages, *rest, sparse=sparse)

    def slow_replace(*arguments):
        time.sleep(0.02)
        most["held"] = max(most["held"], bench.queue.find(JobQuery(limit=0)).running)
        return replace(*arguments)

    bench.documents.stage = slow_stage
    bench.documents.replace = slow_replace
    bench.publish(document("long", long_text(100), whole=False), *(document(f"d{n}") for n in range(20)))
    bench.run()
    assert bench.states() == (0, 0, 21, 0)
    assert len(bench.rows("long")) == 100
    assert most["passages"] <= 20 + 2 * 10
    assert most["held"] <= 5


def test_a_document_that_is_stored_as_it_is_is_not_embedded_again(bench):
    bench.publish(document("a", "text"))
    bench.run()
    bench.publish(document("a", "text"))
    bench.worker = bench.hire()
    bench.run()
    assert len(bench.server.requests) == 1
    assert bench.states() == (0, 0, 2, 0)


def test_a_document_that_cannot_be_cut_ends_alone(bench):
    choose = bench.choose

    def broken(tenant, collection):
        encoder = choose(tenant, collection)

        def cut(given):
            if given.id == "bad":
                raise RecursionError
            return encoder.cut(given)

        return Encoder(encoder.model, encoder.embedder, cut, encoder.count, encoder.embed, encoder.is_ready)

    bench.choose = broken
    bad, _ = bench.publish(document("bad"), document("good"))
    for _ in range(8):
        bench.worker = bench.hire()
        bench.run()
    assert bench.states() == (0, 0, 1, 1)
    assert "internal error while it was cut: RecursionError" in bench.info(bad).error


def test_a_suspect_is_alone_in_hand(bench):
    bench.publish(document("suspect", "suspect"), *(document(f"d{n}", f"text {n}") for n in range(20)))
    for _ in range(3):
        taker = MemoryQueue(bench.jobs)
        taker.take(1)
        taker.close()
        bench.queue.take(1)  # lets it be found, and is given back
        bench.queue.close()
    held = []

    def trouble(texts):
        if "suspect" in texts:
            held.append((texts, bench.queue.find(JobQuery(state="running")).running))

    bench.server.trouble = trouble
    bench.run()
    assert held == [(["suspect"], 1)]
    assert bench.states() == (0, 0, 21, 0)


def test_an_embedder_that_is_not_served_ends_the_job_with_its_reason(bench):
    bench.choose_error = EmbedderMismatchError("collection 'c' holds vectors of another embedder")
    (job,) = bench.publish(document("a"))
    bench.run()
    assert bench.info(job).state == "dead"
    assert "another embedder" in bench.info(job).error


def test_an_empty_document_is_stored_without_passages(bench):
    (job,) = bench.publish(document("empty", "", whole=False))
    bench.run()
    assert bench.info(job).state == "done"
