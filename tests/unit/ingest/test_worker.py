"""The worker over fakes of everything: what ends a document's job, and what only makes it wait."""

import hashlib
import threading
import time

import numpy as np
import pytest

from fakes import memory_queue
from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.documents.chunk import chunk
from trireme.errors import EmbedderMismatchError, InvalidInputError, TriremeError, UnavailableError
from trireme.ingest import cut as cutting
from trireme.ingest import embed as sending
from trireme.ingest import jobs_in_hand as hand
from trireme.ingest import worker
from trireme.ingest import write as writing
from trireme.ingest.encoder import Encoder
from trireme.ingest.queue import JobQuery
from trireme.ingest.throttle import Throttle
from trireme.ingest.worker import Worker
from trireme.types import Document, Embedder

EMBEDDER = Embedder("a" * 64, 4)
OTHER = Embedder("b" * 64, 4)


def vector(text):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).normal(size=4).astype(np.float32) + 0.1


class Server:
    """Embeds predictably; `trouble` may raise, with the texts of each request."""

    def __init__(self):
        self.requests = []
        self.trouble = lambda texts: None
        self.ready = True

    def embed(self, texts):
        self.requests.append(list(texts))
        self.trouble(texts)
        return np.stack([vector(text) for text in texts])


class Builder:
    """Notes how many jobs are unfinished at each look; `trouble` may raise or block."""

    def __init__(self, jobs):
        self.queue = MemoryQueue(jobs)
        self.looks = []
        self.is_cancelled = threading.Event()
        self.trouble = lambda: None

    def build_due(self):
        self.looks.append(self.queue.find(JobQuery(limit=0)).unfinished)
        self.trouble()
        return 1

    def cancel(self):
        self.is_cancelled.set()

    def close(self):
        pass


class Bench:
    """Queue, documents, server, index builder and one worker."""

    def __init__(self):
        self.jobs = MemoryJobs()
        self.queue = MemoryQueue(self.jobs)
        self.documents = MemoryDocuments(self.jobs)
        self.server = Server()
        self.notices = []
        self.embedder = EMBEDDER
        self.choose_error = None
        self.builder = Builder(self.jobs)
        self.worker = self.hire()

    def hire(self):
        self.taker = MemoryQueue(self.jobs)
        return Worker(
            self.taker,
            self.documents,
            self,
            self.builder,
            throttle=Throttle(lambda: None),
            notice=self.notices.append,
        )

    def choose(self, tenant, collection):
        if self.choose_error:
            raise self.choose_error
        return Encoder(
            "embedding",
            self.embedder,
            lambda document: chunk(document, max_tokens=64),
            lambda texts: [len(text.split()) for text in texts],
            self.server.embed,
            lambda: self.server.ready,
        )

    def forget(self):
        self.embedder = self.documents.embedders.get(("t", "c"), self.embedder)

    def publish(self, *documents, collection="c"):
        return [one.job for one in self.queue.publish("t", collection, documents)]

    def run(self):
        self.worker.run(drain=True)

    def start(self):
        thread = threading.Thread(target=self.worker.run)
        thread.start()
        return thread

    def rows(self, document, collection="c"):
        return self.documents.stored[("t", collection)][document].rows

    def states(self):
        found = self.queue.find(JobQuery())
        return found.waiting, found.running, found.done, found.dead

    def info(self, job):
        (found,) = self.queue.find(JobQuery(ids=(job,))).jobs
        return found


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr(memory_queue, "back_off", lambda failures: 0.0)
    monkeypatch.setattr(cutting, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(sending, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(writing, "WRITE_SECONDS", 0.02)
    monkeypatch.setattr(hand, "RETRY_SECONDS", (0.01, 0.02))
    return Bench()


def document(key, text="Some text.", digest=None, whole=True):
    return Document(
        key, "", (text,), key, whole=whole, digest=digest or hashlib.sha256(text.encode()).hexdigest()
    )


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def long_text(sections):
    return "\n\n".join(f"# Part {n}\n\nSentence of part {n}." for n in range(sections))


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


def test_passages_of_many_documents_share_requests_up_to_the_budget(bench):
    bench.server.trouble = lambda texts: time.sleep(0.02)
    bench.publish(*(document(f"d{n}", "word " * 60 + str(n)) for n in range(40)))
    bench.run()
    sizes = [len(request) for request in bench.server.requests]
    assert sum(sizes) == 40
    assert max(sizes) > 1
    assert max(sum(len(text.split()) for text in request) for request in bench.server.requests) <= 16_384


def test_a_long_document_is_staged_and_seen_at_its_end(bench, monkeypatch):
    monkeypatch.setattr(cutting, "UNIT_PASSAGES", 10)
    bench.publish(document("long", long_text(35), whole=False), document("short"))
    bench.run()
    assert list(bench.rows("long")) == [f"long#{n}" for n in range(35)]
    for passage, stored in bench.rows("long").values():
        np.testing.assert_array_equal(stored, vector(passage.text))
    assert bench.states() == (0, 0, 2, 0)


@pytest.mark.parametrize("staged", [10, 20, 35])
def test_a_long_document_goes_on_where_another_worker_stopped(bench, monkeypatch, staged):
    monkeypatch.setattr(cutting, "UNIT_PASSAGES", 10)
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


def test_little_is_in_hand_where_writing_is_slow(bench, monkeypatch):
    monkeypatch.setattr(cutting, "UNIT_PASSAGES", 10)
    monkeypatch.setattr(cutting, "UNWRITTEN_PASSAGES", 20)
    monkeypatch.setattr(cutting, "HELD_JOBS", 3)
    monkeypatch.setattr(cutting, "TAKEN_JOBS", 2)
    most = {"held": 0, "passages": 0}
    stage, replace = bench.documents.stage, bench.documents.replace

    def slow_stage(job, position, passages, *rest):
        time.sleep(0.05)
        sent = sum(len(request) for request in bench.server.requests if "Part" in request[0])
        most["passages"] = max(most["passages"], sent - position)
        stage(job, position, passages, *rest)

    def slow_replace(*arguments):
        time.sleep(0.02)
        most["held"] = max(most["held"], bench.queue.find(JobQuery(limit=0)).running)
        return replace(*arguments)

    monkeypatch.setattr(bench.documents, "stage", slow_stage)
    monkeypatch.setattr(bench.documents, "replace", slow_replace)
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


def test_a_document_that_cannot_be_cut_ends_alone(bench, monkeypatch):
    choose = bench.choose

    def broken(tenant, collection):
        encoder = choose(tenant, collection)

        def cut(given):
            if given.id == "bad":
                raise RecursionError
            return encoder.cut(given)

        return Encoder(encoder.model, encoder.embedder, cut, encoder.count, encoder.embed, encoder.is_ready)

    monkeypatch.setattr(bench, "choose", broken)
    bad, _ = bench.publish(document("bad"), document("good"))
    for _ in range(8):
        bench.worker = bench.hire()
        bench.run()
    assert bench.states() == (0, 0, 1, 1)
    assert "internal error while it was cut: RecursionError" in bench.info(bad).error


def test_a_document_that_cannot_be_written_ends_alone(bench):
    bench.publish(document("taken#0"))
    bench.run()
    bench.worker = bench.hire()
    good, bad, other = bench.publish(
        document("x", "one"), document("taken", "two words", whole=False), document("y", "three")
    )
    bench.run()
    assert bench.info(good).state == bench.info(other).state == "done"
    assert bench.info(bad).state == "dead"
    assert "belongs to document 'taken#0'" in bench.info(bad).error


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
    time.sleep(0.3)
    assert bench.states() == (0, 10, 0, 0)
    assert len(bench.server.requests) <= 4
    assert bench.notices == ["no server answers; waiting"]
    away.clear()
    bench.server.ready = True
    wait_until(lambda: bench.states() == (0, 0, 10, 0))
    bench.worker.stop()
    thread.join(10)
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


def test_a_database_that_is_away_burns_no_attempts(bench, monkeypatch):
    away = threading.Event()
    verbs = {name: getattr(bench.documents, name) for name in ("digests", "replace")}
    verbs["take"] = bench.taker.take

    def unless_away(name):
        def act(*args, **kwargs):
            if away.is_set():
                raise UnavailableError("the database does not answer")
            return verbs[name](*args, **kwargs)

        return act

    monkeypatch.setattr(bench.documents, "digests", unless_away("digests"))
    monkeypatch.setattr(bench.documents, "replace", unless_away("replace"))
    monkeypatch.setattr(bench.taker, "take", unless_away("take"))
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
    thread.join(10)
    assert len(bench.documents.stored["t", "c"]) == 50


def test_a_worker_that_is_stopped_gives_back_what_it_holds(bench):
    going = threading.Event()

    def trouble(texts):
        going.set()
        time.sleep(0.05)

    bench.server.trouble = trouble
    jobs = bench.publish(*(document(f"d{n}", "word " * 200 + str(n)) for n in range(60)))
    thread = bench.start()
    going.wait(5)
    bench.worker.stop()
    thread.join(10)
    assert not thread.is_alive()
    waiting, running, _, dead = bench.states()
    assert (running, dead) == (0, 0)
    assert waiting > 0
    assert {bench.info(job).attempts for job in jobs if bench.info(job).state == "waiting"} == {0}
    bench.server.trouble = lambda texts: None
    bench.worker = bench.hire()
    bench.run()
    assert bench.states() == (0, 0, 60, 0)


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


def test_a_collection_that_was_switched_meanwhile_is_written_with_its_new_embedder(bench):
    bench.documents.embedders["t", "c"] = OTHER
    (job,) = bench.publish(document("a"))
    bench.run()
    assert bench.info(job).state == "done"
    assert bench.info(job).attempts == 0


def test_a_collection_that_stays_another_embedders_ends_the_job_and_does_not_go_round_for_ever(bench):
    bench.documents.embedders["t", "c"] = OTHER
    bench.forget = lambda: None
    (job,) = bench.publish(document("a"))
    bench.run()
    assert bench.info(job).state == "dead"
    assert "holds vectors of embedder" in bench.info(job).error
    assert len(bench.server.requests) == 5


def test_collections_are_kept_apart(bench):
    bench.publish(document("a", "one"))
    bench.publish(document("a", "two"), collection="d")
    bench.run()
    assert [passage.text for passage, _ in bench.rows("a").values()] == ["one"]
    assert [passage.text for passage, _ in bench.rows("a", "d").values()] == ["two"]


def test_an_empty_document_is_stored_without_passages(bench):
    (job,) = bench.publish(document("empty", "", whole=False))
    bench.run()
    assert bench.info(job).state == "done"


def test_a_worker_that_drains_the_queue_builds_the_indexes_at_the_end(bench):
    bench.publish(*(document(f"d{n}") for n in range(50)))
    bench.run()
    assert bench.builder.looks[-1] == 0
    assert bench.worker.stats.build_seconds > 0


def test_a_worker_looks_for_indexes_that_are_due_while_it_works(bench, monkeypatch):
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.01)
    thread = bench.start()
    wait_until(lambda: len(bench.builder.looks) > 2)
    bench.worker.stop()
    thread.join()


def test_an_index_that_cannot_be_built_is_told_once_and_ends_no_job(bench, monkeypatch):
    monkeypatch.setattr(worker, "LOOK_SECONDS", 0.01)

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
        assert bench.builder.is_cancelled.wait(10)
        raise UnavailableError("cancelled")

    bench.builder.trouble = wait
    thread = threading.Thread(target=bench.run)
    thread.start()
    wait_until(lambda: bench.builder.looks)
    bench.worker.stop()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert bench.notices == []
