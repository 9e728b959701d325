"""One suite for every DocumentStore: the fake in memory and the real PostgreSQL must both pass it."""

import dataclasses
import json
from contextlib import closing

import numpy as np
import pytest

from fakes.memory_documents import MemoryDocuments
from fakes.memory_queue import MemoryJobs, MemoryQueue
from trireme.errors import EmbedderMismatchError, InvalidInputError
from trireme.ingest.documents import Indexed
from trireme.ingest.queue import JobQuery
from trireme.postgres.documents import PostgresDocuments
from trireme.postgres.queue import ProcrastinateQueue
from trireme.storage import open_store
from trireme.types import Document, Embedder, Passage

DIMENSIONS = 8
EMBEDDER = Embedder("a" * 64, DIMENSIONS)
OTHER = Embedder("b" * 64, DIMENSIONS)
MODEL = "embedding"


class Memory:
    """Queue and documents in memory, and what they hold."""

    def __init__(self):
        self.jobs = MemoryJobs()
        self.queue, self.other = MemoryQueue(self.jobs), MemoryQueue(self.jobs)
        self.documents = MemoryDocuments(self.jobs)

    def passages(self, tenant="t", collection="c"):
        stored = self.documents.stored.get((tenant, collection), {})
        return {
            key: (passage.text, json.loads(passage.metadata), vector)
            for document in stored.values()
            for key, (passage, vector) in document.rows.items()
        }

    def count(self):
        return len(self.passages())

    def collections(self):
        return [scope for scope in self.documents.stored if scope[0] == "t"]

    def close(self):
        pass


class Postgres:
    """The same in PostgreSQL."""

    def __init__(self, url):
        self.url = url
        self.queue, self.other = ProcrastinateQueue(url), ProcrastinateQueue(url)
        self.documents = PostgresDocuments(url)

    def passages(self, tenant="t", collection="c"):
        import psycopg
        from pgvector.psycopg import register_vector

        with psycopg.connect(self.url) as connection:
            register_vector(connection)
            rows = connection.execute(
                "SELECT p.id, p.text, p.metadata, e.embedding FROM trireme.passages p "
                "JOIN trireme.collections c ON c.id = p.collection_id "
                "JOIN trireme.embeddings e ON e.passage_key = p.key "
                "WHERE c.tenant = %s AND c.collection = %s",
                (tenant, collection),
            ).fetchall()
            left = connection.execute("SELECT count(*) FROM trireme.staged").fetchone()[0]
        self.left_staged = left
        return {key: (text, metadata, vector.to_numpy()) for key, text, metadata, vector in rows}

    def count(self):
        with closing(open_store(self.url)) as store:
            return sum(info.passages for info in store.collections("t"))

    def collections(self):
        with closing(open_store(self.url)) as store:
            return [(info.tenant, info.collection) for info in store.collections("t")]

    def close(self):
        import psycopg

        for one in (self.queue, self.other, self.documents):
            one.close()
        with psycopg.connect(self.url) as connection:
            connection.execute("DELETE FROM trireme.collections")
            connection.execute("DELETE FROM trireme.procrastinate_jobs")
            connection.execute("DELETE FROM trireme.procrastinate_workers")


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.e2e)])
def world(request):
    made = Memory() if request.param == "memory" else Postgres(request.getfixturevalue("database").url)
    yield made
    made.close()


def take(world, *documents, tenant="t", collection="c"):
    answers = world.queue.publish(tenant, collection, documents)
    assert all(answer.job for answer in answers), answers
    return world.queue.take(100)


def document(key, digest="1", **changes):
    return Document(key, f"title of {key}", ("text",), f"source of {key}", digest=digest, **changes)


def vectors(count, seed=0):
    random = np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return random / np.linalg.norm(random, axis=1, keepdims=True)


def passages(key, texts, start=0):
    return tuple(
        Passage(f"{key}#{n}", text, json.dumps({"position": n})) for n, text in enumerate(texts, start)
    )


def indexed(job, *texts, seed=0, **changes):
    return Indexed(job, passages(job.document.id, texts), vectors(len(texts), seed), **changes)


def replace(world, *given, embedder=EMBEDDER):
    return world.documents.replace(given, embedder, MODEL)


def states(world):
    found = world.queue.find(JobQuery())
    return found.waiting, found.running, found.done, found.dead


def test_documents_are_stored_with_their_passages_and_their_jobs_are_done(world):
    jobs = take(world, document("a", "d1"), document("b", "d2"))
    done = replace(world, indexed(jobs[0], "one", "two"), indexed(jobs[1], "three", seed=1))
    assert done == [job.id for job in jobs]
    assert states(world) == (0, 0, 2, 0)
    stored = world.passages()
    assert {key: text for key, (text, *_) in stored.items()} == {"a#0": "one", "a#1": "two", "b#0": "three"}
    assert stored["a#1"][1] == {"position": 1}
    np.testing.assert_allclose(stored["a#1"][2], vectors(2)[1], atol=1e-6)
    assert world.documents.digests("t", "c", ["a", "b", "z"]) == {"a": "d1", "b": "d2"}
    assert world.documents.digests("u", "c", ["a"]) == {}
    assert world.documents.ids("t", "c") == ["a", "b"]
    assert world.count() == 3


def test_a_changed_document_replaces_all_of_its_passages(world):
    replace(world, indexed(take(world, document("a"))[0], "one", "two", "three"))
    replace(world, indexed(take(world, document("ab"))[0], "neighbour"))
    replace(world, indexed(take(world, document("a", "2"))[0], "one", "changed", seed=2))
    assert {key: text for key, (text, *_) in world.passages().items()} == {
        "a#0": "one",
        "a#1": "changed",
        "ab#0": "neighbour",
    }
    np.testing.assert_allclose(world.passages()["a#0"][2], vectors(2, 2)[0], atol=1e-6)
    assert world.documents.digests("t", "c", ["a"]) == {"a": "2"}
    assert world.count() == 3


def test_a_document_of_no_passages_is_stored_as_such(world):
    replace(world, indexed(take(world, document("a"))[0], "one"))
    (job,) = take(world, document("a", "2"))
    assert replace(world, Indexed(job, (), np.zeros((0, DIMENSIONS), np.float32))) == [job.id]
    assert world.passages() == {}
    assert world.documents.ids("t", "c") == ["a"]
    assert world.count() == 0


def test_a_known_document_only_ends_its_job(world):
    replace(world, indexed(take(world, document("a"))[0], "one"))
    (job,) = take(world, document("a"))
    assert replace(world, Indexed(job, is_known=True)) == [job.id]
    assert set(world.passages()) == {"a#0"}
    assert states(world) == (0, 0, 2, 0)


def test_a_job_that_is_no_longer_its_claimants_writes_nothing(world):
    mine, lost, twice = take(world, document("mine"), document("lost"), document("twice"))
    world.queue.settle([lost], "released")
    (again,) = world.other.take(10)
    assert replace(world, indexed(mine, "a"), indexed(lost, "b"), indexed(twice, "c")) == [mine.id, twice.id]
    assert replace(world, indexed(twice, "c")) == []
    assert set(world.passages()) == {"mine#0", "twice#0"}
    assert replace(world, indexed(again, "b")) == [again.id]
    assert set(world.passages()) == {"mine#0", "twice#0", "lost#0"}
    assert world.count() == 3


def test_staged_passages_are_seen_only_once_the_document_is_replaced(world):
    (job,) = take(world, document("long"))
    texts = [f"text {n}" for n in range(7)]
    all_passages, all_vectors = passages("long", texts), vectors(7)
    world.documents.stage(job, 0, all_passages[:3], all_vectors[:3], EMBEDDER)
    world.documents.stage(job, 3, all_passages[3:5], all_vectors[3:5], EMBEDDER)
    assert world.passages() == {}
    world.queue.settle([job], "released")
    (job,) = world.queue.take(1)
    assert (job.staged, job.staged_with) == (5, EMBEDDER.digest)
    assert replace(world, Indexed(job, all_passages[5:], all_vectors[5:], staged=5)) == [job.id]
    stored = world.passages()
    assert {key: text for key, (text, *_) in stored.items()} == {f"long#{n}": texts[n] for n in range(7)}
    for n in range(7):
        np.testing.assert_allclose(stored[f"long#{n}"][2], all_vectors[n], atol=1e-6)
    assert world.count() == 7
    assert getattr(world, "left_staged", 0) == 0


def test_a_long_document_that_changed_replaces_its_older_self(world):
    for digest, texts in (("1", ["a", "b", "c", "d"]), ("2", ["a", "B", "c"])):
        (job,) = take(world, document("long", digest))
        world.documents.stage(job, 0, passages("long", texts), vectors(len(texts)), EMBEDDER)
        assert replace(world, Indexed(job, staged=len(texts))) == [job.id]
    assert {key: text for key, (text, *_) in world.passages().items()} == {
        "long#0": "a",
        "long#1": "B",
        "long#2": "c",
    }
    assert world.count() == 3


def test_staging_begins_anew_where_it_is_told_to_and_with_another_embedder(world):
    (job,) = take(world, document("long"))
    world.documents.stage(job, 0, passages("long", "abcd"), vectors(4), EMBEDDER)
    world.documents.stage(job, 2, passages("long", "xyz", 2), vectors(3, 1), EMBEDDER)
    with pytest.raises(InvalidInputError, match="staged"):
        replace(world, Indexed(job, staged=4))
    world.documents.stage(job, 0, passages("long", "pq"), vectors(2), OTHER)
    assert replace(world, Indexed(job, staged=2), embedder=OTHER) == [job.id]
    assert [text for _, (text, *_) in sorted(world.passages().items())] == ["p", "q"]


def test_nothing_is_staged_for_a_job_that_is_no_longer_its_claimants(world):
    (job,) = take(world, document("long"))
    world.queue.settle([job], "released")
    (again,) = world.other.take(1)
    world.documents.stage(job, 0, passages("long", "ab"), vectors(2), EMBEDDER)
    assert replace(world, indexed(again, "mine")) == [again.id]
    assert [text for text, *_ in world.passages().values()] == ["mine"]


def test_a_call_that_cannot_be_stored_writes_nothing_and_leaves_the_jobs(world):
    good, bad = take(world, document("good"), document("bad"))
    nul = Indexed(bad, (Passage("bad#0", "x\x00y"),), vectors(1))
    with pytest.raises(InvalidInputError, match="NUL"):
        replace(world, indexed(good, "fine"), nul)
    zero = Indexed(bad, (Passage("bad#0", "x"),), np.zeros((1, DIMENSIONS), np.float32))
    with pytest.raises(InvalidInputError):
        replace(world, indexed(good, "fine"), zero)
    assert world.passages() == {}
    assert states(world) == (0, 2, 0, 0)
    assert replace(world, indexed(good, "fine")) == [good.id]


def test_a_passage_id_of_another_document_is_refused_by_name(world):
    whole, chunked = take(world, document("a#0", whole=True), document("a"))
    first = Indexed(whole, (Passage("a#0", "whole"),), vectors(1))
    assert replace(world, first) == [whole.id]
    with pytest.raises(InvalidInputError, match="'a#0'"):
        replace(world, indexed(chunked, "chunk"))
    assert [text for text, *_ in world.passages().values()] == ["whole"]


def test_vectors_of_another_embedder_are_refused_and_the_jobs_are_left(world):
    first, second = take(world, document("a"), document("b"))
    replace(world, indexed(first, "one"))
    with pytest.raises(EmbedderMismatchError):
        replace(world, indexed(second, "two"), embedder=OTHER)
    assert states(world) == (0, 1, 1, 0)
    assert set(world.passages()) == {"a#0"}


def test_documents_of_two_collections_are_not_mixed(world):
    first = take(world, document("a"))
    second = take(world, document("a"), collection="other")
    with pytest.raises(InvalidInputError, match="several collections"):
        replace(world, indexed(first[0], "one"), indexed(second[0], "two"))
    replace(world, indexed(first[0], "one"))
    replace(world, indexed(second[0], "two"))
    assert world.passages()["a#0"][0] == "one"
    assert world.passages(collection="other")["a#0"][0] == "two"


def test_deleted_documents_are_gone_with_their_passages(world):
    jobs = take(world, document("a"), document("b"), document("ab"))
    replace(world, *(indexed(job, "one", "two") for job in jobs))
    assert world.documents.delete("t", "c", ["ab", "nowhere", "a"]) == ["ab", "a"]
    assert set(world.passages()) == {"b#0", "b#1"}
    assert world.documents.ids("t", "c") == ["b"]
    assert world.count() == 2
    assert world.documents.delete("t", "c", ["a"]) == []
    assert world.documents.delete("t", "no such collection", ["b"]) == []


def test_deleting_withdraws_what_waits_and_what_is_worked_on(world):
    (running,) = take(world, document("a"))
    (waiting,) = world.queue.publish("t", "c", [document("b")])
    assert world.documents.delete("t", "c", ["a", "b"]) == ["a", "b"]
    assert replace(world, indexed(running, "too late")) == []
    assert world.queue.take(10) == []
    assert world.passages() == {}
    found = world.queue.find(JobQuery(ids=(running.id, waiting.job))).jobs
    assert [job.state for job in found] == ["cancelled", "cancelled"]


def test_ids_that_look_alike_are_documents_of_their_own(world):
    alike = [
        "caf\u00e9",
        "cafe\u0301",
        "Caf\u00e9",
        "caf\u00e9 ",
        "ca\u200bf\u00e9",
        "../caf\u00e9",
        "caf\u00e9\n",
    ]
    for job in take(world, *map(document, alike)):
        replace(world, indexed(job, f"text of {job.document.id}"))
    assert {key: text for key, (text, *_) in world.passages().items()} == {
        f"{one}#0": f"text of {one}" for one in alike
    }
    assert world.documents.ids("t", "c") == sorted(alike)
    assert world.documents.delete("t", "c", alike[:1]) == alike[:1]
    assert world.documents.ids("t", "c") == sorted(alike[1:])


def test_ids_that_no_document_can_have_are_not_found(world):
    (job,) = take(world, document("a"))
    replace(world, indexed(job, "text"))
    odd = ["\x00", "a\x00", "\ud800"]
    assert world.documents.delete("t", "c", [*odd, "a"]) == ["a"]
    assert world.documents.digests("t", "c", odd, waiting=True) == {}
    with pytest.raises(InvalidInputError):
        world.documents.ids("t\x00", "c")


def test_digests_may_be_asked_for_as_they_will_be(world):
    replace(world, indexed(take(world, document("a", "old"))[0], "one"))
    take(world, document("a", "new"))
    world.queue.publish("t", "c", [document("a", "newest"), document("b", "first")])
    assert world.documents.digests("t", "c", ["a", "b"]) == {"a": "old"}
    assert world.documents.digests("t", "c", ["a", "b"], waiting=True) == {"a": "newest", "b": "first"}


def test_a_dead_job_is_forgotten_once_a_later_one_of_its_document_is_done(world):
    (old,) = take(world, document("a", "old"))
    world.queue.settle([old], "dead", "no")
    (new,) = take(world, document("a", "new"))
    replace(world, indexed(new, "new"))
    assert world.queue.retry([old.id]) == []
    assert states(world) == (0, 0, 1, 0)


def test_a_dead_job_that_is_retried_while_a_later_one_runs_undoes_nothing(world):
    (old,) = take(world, document("a", "old"))
    world.queue.settle([old], "dead", "no")
    (new,) = take(world, document("a", "new"))
    assert world.queue.retry([old.id]) == [old.id]
    assert world.other.take(1) == []
    assert replace(world, indexed(new, "new")) == [new.id]
    assert world.other.take(1) == []
    assert states(world) == (0, 0, 1, 0)
    assert world.documents.digests("t", "c", ["a"]) == {"a": "new"}


def test_a_job_that_is_withdrawn_leaves_no_collection_behind(world):
    (running,) = take(world, document("a"))
    assert world.documents.delete("t", "c", ["a"]) == ["a"]
    assert replace(world, indexed(running, "too late")) == []
    assert world.collections() == []


def test_ids_are_listed_in_pages(world):
    jobs = take(world, *(document(f"d{n}") for n in range(5)))
    replace(world, *(indexed(job, "x") for job in jobs))
    assert world.documents.ids("t", "c", limit=2) == ["d0", "d1"]
    assert world.documents.ids("t", "c", after="d1", limit=2) == ["d2", "d3"]
    assert world.documents.ids("t", "c", after="d4") == []
    assert world.documents.ids("t", "nowhere") == []


@pytest.mark.e2e
def test_passages_of_no_document_stay_until_a_document_brings_their_id(database):
    world = Postgres(database.url)
    with closing(open_store(database.url)) as store:
        store.put("t", "c", EMBEDDER, [Passage(key, "old") for key in ("a#0", "a#1", "whole")], vectors(3))
    try:
        a, whole = take(world, document("a"), document("whole"))
        one = Indexed(whole, (Passage("whole", "new"),), vectors(1))
        replace(world, indexed(a, "new"), one)
        texts = {key: text for key, (text, *_) in world.passages().items()}
        assert texts == {"a#0": "new", "a#1": "old", "whole": "new"}
        assert world.documents.delete("t", "c", ["a"]) == ["a"]
        assert world.count() == 2
    finally:
        world.close()


def test_jobs_are_plain_data(world):
    (job,) = take(world, document("a"))
    assert dataclasses.replace(job, attempts=3).is_suspect
    assert not job.is_suspect
