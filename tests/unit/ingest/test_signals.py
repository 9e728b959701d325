"""Ingestion's signals on a clock that the test turns."""

import pytest

from trireme.ingest.queue import FoundJobs
from trireme.ingest.signals import IngestSignals, WorkerReading


def found(waiting=0, workers=1, newest=0):
    return FoundJobs((), waiting=waiting, workers=workers, newest=newest)


def reading(now, documents=0, passages=0, paused=0.0, tokens=0):
    return WorkerReading(now, documents, passages, tokens, paused, has_jobs=True)


def test_the_backlog_is_the_passages_that_wait_by_the_rate_of_passages():
    signals = IngestSignals()
    for second in range(6):
        told = signals.look(found(100), reading(second, 10 * second, 50 * second))
    assert told.capacity == pytest.approx(50)
    # 100 documents of 5 passages each.
    assert (told.backlog_seconds, told.queue_depth) == (pytest.approx(10), 100)


def test_workers_each_tell_their_share_of_the_queue_and_of_what_was_published():
    offered = depth = backlog = 0.0
    for _ in range(4):
        signals = IngestSignals()
        for second in range(6):
            told = signals.look(found(80, 4, 1000), reading(second, second, 2 * second))
        told = signals.look(found(120, 4, 1040), reading(6, 6, 12))
        offered += told.offered_seconds
        depth += told.queue_depth
        backlog += told.backlog_seconds
    # 40 documents of two passages came, and 120 wait; each worker does two passages a second.
    assert (offered, depth, backlog) == (pytest.approx(40), 120, pytest.approx(120))


def test_time_in_which_it_held_back_or_had_nothing_to_do_is_not_in_the_rate():
    signals = IngestSignals()
    now = passages = paused = 0
    for step in range(40):
        waiting = 0 if step % 4 == 0 else 50
        signals.look(found(waiting), reading(now, passages, passages, paused))
        now += 10
        # Of the ten seconds four were a pause, and 60 passages were done in the others; or none, for want of any.
        if step % 4 in (1, 2):
            paused += 4
            passages += 60
    told = signals.look(found(50), reading(now, passages, passages, paused))
    assert told.capacity == pytest.approx(10)


def test_what_came_before_any_document_was_finished_is_counted_once_one_is():
    signals = IngestSignals()
    signals.look(found(0, 1, 10), reading(0))
    told = signals.look(found(6, 1, 16), reading(1))
    assert (told.offered_seconds, told.backlog_seconds, told.capacity) == (0.0, None, None)
    told = signals.look(found(5, 1, 16), reading(2, 1, 4))
    # Six documents of four passages, at 4 a second.
    assert told.offered_seconds == pytest.approx(6)


def test_jobs_that_are_forgotten_take_nothing_away():
    signals = IngestSignals()
    for second, newest in enumerate((10, 10, 0, 12)):
        told = signals.look(found(4, 1, newest), reading(second, second, second))
    assert told.offered_seconds == pytest.approx(2)


def test_tokens_are_those_since_the_last_look():
    signals = IngestSignals()
    signals.look(found(), reading(0))
    assert signals.look(found(), reading(1, tokens=70)).input_tokens == 70
    assert signals.look(found(), reading(2, tokens=90)).input_tokens == 20
