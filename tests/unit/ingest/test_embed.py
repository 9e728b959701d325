"""The second step of a worker: which passages share a request, and what a failing server does to their jobs."""

import threading
import time

from fakes.worker import document, wait_until
from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.ingest.queue import JobQuery
from trireme.ingest.throttle import ThrottleLimits


def test_passages_of_many_documents_share_requests_up_to_the_budget(bench):
    bench.limits = ThrottleLimits(least_tokens=200, most_tokens=200)
    bench.worker = bench.hire()
    bench.server.trouble = lambda texts: time.sleep(0.02)
    bench.publish(*(document(f"d{n}", "word " * 60 + str(n)) for n in range(40)))
    bench.run()
    sizes = [len(request) for request in bench.server.requests]
    assert sum(sizes) == 40
    assert max(sizes) > 1
    assert max(sum(len(text.split()) for text in request) for request in bench.server.requests) <= 200


def test_a_poison_document_ends_alone_and_names_its_error(bench):
    def trouble(texts):
        if any("poison" in text for text in texts):
            raise InvalidInputError("text holds poison")

    bench.server.trouble = trouble
    jobs = bench.publish(*(document(f"d{n}", "poison" if n == 20 else f"text {n}") for n in range(40)))
    bench.run()
    assert bench.states() == (0, 0, 39, 1)
    assert bench.info(jobs[20]).error == "text holds poison"
    assert bench.info(jobs[20]).attempts == 1


def test_a_failure_that_may_pass_is_tried_again_and_then_dead(bench):
    def trouble(texts):
        if "unlucky" in texts:
            raise TriremeError("the session failed")
        if "bug" in texts:
            raise ValueError("not ours")

    bench.server.trouble = trouble
    unlucky, bug, _ = bench.publish(document("a", "unlucky"), document("b", "bug"), document("c"))
    for _ in range(8):
        bench.worker = bench.hire()
        bench.run()
    assert bench.states() == (0, 0, 1, 2)
    assert (bench.info(unlucky).error, bench.info(unlucky).attempts) == ("the session failed", 5)
    assert bench.info(bug).error == "internal error while it was embedded: ValueError"
    assert any("Traceback" in notice for notice in bench.notices)


def test_a_server_that_is_away_burns_no_attempts(bench):
    away = threading.Event()
    away.set()

    def trouble(texts):
        if away.is_set():
            raise UnavailableError("no server answers")

    bench.server.trouble = trouble
    bench.server.ready = False
    jobs = bench.publish(*(document(f"d{n}", f"text {n}") for n in range(10)))
    thread = bench.start()
    wait_until(lambda: bench.server.looks > 10)
    assert bench.states() == (0, 10, 0, 0)
    assert len(bench.server.requests) <= 4
    assert bench.notices == ["no server answers; waiting"]
    away.clear()
    bench.server.ready = True
    wait_until(lambda: bench.states() == (0, 0, 10, 0))
    bench.worker.stop()
    thread.join(60)
    assert {bench.info(job).attempts for job in jobs} == {0}


def test_a_text_that_ends_the_server_again_and_again_is_found_out(bench):
    def trouble(texts):
        if "killer" in texts:
            raise UnavailableError("the server has gone")

    bench.server.trouble = trouble
    bench.publish(*(document(f"d{n}", "killer" if n == 3 else f"text {n}") for n in range(6)))
    for _ in range(8):
        bench.worker = bench.hire()
        bench.run()
    assert bench.states() == (0, 0, 5, 1)
    (dead,) = bench.queue.find(JobQuery(state="dead")).jobs
    assert dead.document == "d3"
    assert "ended 3 times" in dead.error
