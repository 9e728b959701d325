"""The whole worker: every document is stored, what is away is waited for, indexes are built, and it stops."""

import threading
import time
from dataclasses import replace

import numpy as np

from fakes.worker import QUICK, Bench, document, long_text, vector, wait_until
from trireme.errors import UnavailableError


def test_every_document_is_stored_with_the_vectors_of_its_own_passages(bench):
    bench.publish(*(document(f"d{n}", f"text {n}") for n in range(300)))
    bench.publish(document("cut", long_text(5), whole=False))
    bench.run()
    assert bench.states() == (0, 0, 301, 0)
    for n in range(300):
        ((passage, stored),) = bench.rows(f"d{n}").values()
        assert passage.text == f"text {n}"
        np.testing.assert_array_equal(stored, vector(f"text {n}"))
    assert list(bench.rows("cut")) == [f"cut#{n}" for n in range(5)]
    for passage, stored in bench.rows("cut").values():
        np.testing.assert_array_equal(stored, vector(passage.text))
    assert bench.worker.stats.documents == 301
    assert bench.worker.stats.passages == 305


def test_a_database_that_is_away_burns_no_attempts(bench):
    away = threading.Event()
    verbs = {name: getattr(bench.documents, name) for name in ("digests", "replace")}
    verbs["take"] = bench.taker.take

    def unless_away(name):
        def act(*args, **kwargs):
            if away.is_set():
                raise UnavailableError("the database does not answer")
            return verbs[name](*args, **kwargs)

        return act

    bench.documents.digests = unless_away("digests")
    bench.documents.replace = unless_away("replace")
    bench.taker.take = unless_away("take")
    bench.publish(*(document(f"d{n}", f"text {n}") for n in range(50)))
    away.set()
    thread = bench.start()
    for _ in range(5):
        time.sleep(0.05)
        away.clear()
        time.sleep(0.005)
        away.set()
    away.clear()
    wait_until(lambda: bench.states() == (0, 0, 50, 0))
    bench.worker.stop()
    thread.join(60)
    assert len(bench.documents.stored["t", "c"]) == 50


def test_a_worker_that_is_stopped_gives_back_what_it_holds(bench):
    going, stopped = threading.Event(), threading.Event()

    def trouble(texts):
        going.set()
        stopped.wait(60)

    bench.server.trouble = trouble
    jobs = bench.publish(*(document(f"d{n}", "word " * 200 + str(n)) for n in range(60)))
    thread = bench.start()
    assert going.wait(60)
    bench.worker.stop()
    stopped.set()
    thread.join(60)
    assert not thread.is_alive()
    waiting, running, _, dead = bench.states()
    assert (running, dead) == (0, 0)
    assert waiting > 0
    assert {bench.info(job).attempts for job in jobs if bench.info(job).state == "waiting"} == {0}
    bench.server.trouble = lambda texts: None
    bench.worker = bench.hire()
    bench.run()
    assert bench.states() == (0, 0, 60, 0)


def test_a_worker_that_drains_the_queue_builds_the_indexes_at_the_end(bench):
    bench.publish(*(document(f"d{n}") for n in range(50)))
    bench.run()
    assert bench.builder.looks[-1] == 0
    assert bench.worker.stats.build_seconds > 0


def test_a_worker_looks_for_indexes_that_are_due_while_it_works():
    bench = Bench(replace(QUICK, build=0.01))
    thread = bench.start()
    wait_until(lambda: len(bench.builder.looks) > 2)
    bench.worker.stop()
    thread.join()


def test_an_index_that_cannot_be_built_is_told_once_and_ends_no_job():
    bench = Bench(replace(QUICK, build=0.01))

    def fail():
        raise UnavailableError("the disk is full")

    bench.builder.trouble = fail
    thread = bench.start()
    bench.publish(document("a"))
    wait_until(lambda: len(bench.builder.looks) > 5 and bench.states() == (0, 0, 1, 0))
    bench.worker.stop()
    thread.join()
    assert bench.notices == ["a vector index was not built: the disk is full; trying again"]


def test_a_worker_that_is_stopped_cancels_the_building_of_an_index(bench):
    def wait():
        assert bench.builder.is_cancelled.wait(60)
        raise UnavailableError("cancelled")

    bench.builder.trouble = wait
    thread = threading.Thread(target=bench.run)
    thread.start()
    wait_until(lambda: bench.builder.looks)
    bench.worker.stop()
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert bench.notices == []
