"""What a slow consumer of an engine's stream gets."""

import threading

from trireme.errors import UnavailableError
from trireme.generate.chunk_queue import Outbox
from trireme.generate.engine import Chunk


def test_a_consumer_in_time_gets_each_step():
    outbox = Outbox()
    outbox.put([Chunk("a", (1,)), Chunk("b", (2,))])
    assert outbox.take() == [Chunk("a", (1,)), Chunk("b", (2,))]
    outbox.put([Chunk("a", (3,))])
    assert outbox.take() == [Chunk("a", (3,))]


def test_steps_that_were_missed_are_joined_by_request():
    outbox = Outbox()
    outbox.put([Chunk("a", (1,)), Chunk("b", (2,))])
    outbox.put([Chunk("b", (3,), "stop"), Chunk("a", (4,))])
    assert outbox.take() == [Chunk("a", (1, 4)), Chunk("b", (2, 3), "stop")]


def test_an_error_joins_the_tokens_before_it():
    outbox, error = Outbox(), UnavailableError("gone")
    outbox.put([Chunk("a", (1,))])
    outbox.put([Chunk("a", error=error)])
    assert outbox.take() == [Chunk("a", (1,), error=error)]


def test_taking_waits_for_a_chunk_of_another_thread():
    outbox = Outbox()
    later = threading.Timer(0.01, outbox.put, [[Chunk("a", (1,))]])
    later.start()
    assert outbox.take() == [Chunk("a", (1,))]


def test_after_closing_what_is_left_comes_once():
    outbox = Outbox()
    outbox.put([Chunk("a", (1,))])
    outbox.close()
    assert [outbox.take(), outbox.take()] == [[Chunk("a", (1,))], []]
