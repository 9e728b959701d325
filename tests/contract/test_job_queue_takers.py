"""The suite of every JobQueue, continued: takers that fail, die, beat and close."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from queues import BACK_OFF, TIMEOUT, document, documents, publish, state

from trireme.ingest.queue import MAX_ATTEMPTS, MAX_FAILURES, SUSPECT_AFTER, JobQuery


def test_two_takers_never_get_the_same_job(world):
    publisher = world.open()
    jobs = publish(publisher, documents(300))
    takers = [world.open() for _ in range(4)]

    def take_all(taker):
        mine = []
        while taken := taker.take(7):
            mine += [job.id for job in taken]
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = list(itertools.chain(*pool.map(take_all, takers)))
    assert sorted(taken) == sorted(jobs)
    assert len(set(taken)) == len(taken)


def test_a_failed_job_waits_and_is_tried_again_until_it_is_dead_with_its_error(world, queue):
    (key,) = publish(queue, [document("bad")])
    for attempt in range(1, MAX_FAILURES + 1):
        (job,) = queue.take(10)
        assert job.attempts == attempt - 1
        queue.settle([job], "failed", f"failure {attempt}")
        if attempt < MAX_FAILURES:
            assert state(queue, key).state == "waiting"
            assert state(queue, key).error == f"failure {attempt}"
            world.advance(BACK_OFF.after(attempt) * 0.8)
            assert queue.take(1) == []
            world.advance(BACK_OFF.after(attempt) * 0.2)
            queue.settle(queue.take(1), "released")
    dead = state(queue, key)
    assert (dead.state, dead.error, dead.attempts) == ("dead", f"failure {MAX_FAILURES}", MAX_FAILURES)
    assert queue.find(JobQuery(state="dead")).jobs == (dead,)
    world.advance(BACK_OFF.after(MAX_FAILURES) * 2)
    assert queue.take(1) == []


def test_a_failed_job_blocks_no_other_document(queue):
    publish(queue, documents(3))
    first, *_ = queue.take(3)
    queue.settle([first], "failed", "no")
    publish(queue, [document("later")])
    assert [job.document.id for job in queue.take(10)] == ["later"]


def test_a_dead_job_is_retried_with_all_its_attempts(queue):
    (key,) = publish(queue, [document("bad", "its text")])
    queue.settle(queue.take(1), "dead", "it is refused")
    assert state(queue, key).error == "it is refused"
    assert queue.retry([key, "999999999", "no number"]) == [key]
    assert queue.retry([key]) == []
    (job,) = queue.take(1)
    assert (job.id, job.attempts, job.document.text) == (key, 0, "its text")
    queue.settle([job], "failed", "again")
    assert state(queue, key).state == "waiting"


def test_a_released_job_comes_back_at_once_and_unharmed(world):
    queue, other = world.open(), world.open()
    publish(queue, documents(2))
    queue.settle(queue.take(2), "released")
    assert [(job.document.id, job.attempts) for job in other.take(10)] == [("d0000", 0), ("d0001", 0)]


def test_jobs_of_a_taker_that_died_come_back_after_its_heartbeats_stopped(world):
    dead, alive = world.open(), world.open()
    publish(alive, documents(3))
    lost = dead.take(2)
    world.kill(dead)
    (kept,) = alive.take(10)
    world.advance(TIMEOUT * 0.6)
    world.beat(alive)
    assert world.open().take(10) == []
    world.advance(TIMEOUT * 0.5)
    world.beat(alive)
    found = world.open().take(10)
    assert [job.id for job in found] == [job.id for job in lost]
    assert {job.attempts for job in found} == {1}
    # What the dead one still says of them counts for nothing.
    dead.settle(lost, "dead", "too late")
    assert alive.find(JobQuery()).running == 3
    assert kept.id not in {job.id for job in found}


def test_a_taker_that_beats_keeps_its_jobs_however_long_they_take(world):
    busy = world.open()
    publish(busy, documents(2))
    busy.take(2)
    for _ in range(6):
        world.advance(TIMEOUT / 2)
        world.beat(busy)
        assert world.open().take(10) == []


def test_a_taker_that_closes_gives_its_jobs_back_at_once(world):
    leaving, other = world.open(), world.open()
    publish(other, documents(2))
    assert len(leaving.take(2)) == 2
    leaving.close()
    assert len(other.take(2)) == 2


def test_a_job_whose_worker_dies_again_and_again_is_taken_alone_and_given_up_in_the_end(world):
    watcher = world.open()
    killer, neighbour = publish(watcher, [document("killer"), document("neighbour")])
    for attempt in range(MAX_ATTEMPTS):
        taker = world.open()
        taken = taker.take(2)
        assert taken[0].id == killer
        assert taken[0].attempts == attempt
        assert len(taken) == (1 if attempt >= SUSPECT_AFTER else 2)
        taker.close()
    (job,) = world.open().take(2)
    assert job.id == neighbour
    dead = state(watcher, killer)
    assert dead.state == "dead"
    assert f"died {MAX_ATTEMPTS} times" in dead.error
