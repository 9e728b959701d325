"""What a slow consumer of an engine's stream gets."""

import threading

import pytest

from trireme.errors import UnavailableError
from trireme.generate.chunk_queue import ChunkQueue
from trireme.generate.engine import Chunk


def test_a_consumer_in_time_gets_each_step():
    chunks = ChunkQueue()
    chunks.put([Chunk("a", (1,)), Chunk("b", (2,))])
    assert chunks.take() == [Chunk("a", (1,)), Chunk("b", (2,))]
    chunks.put([Chunk("a", (3,))])
    assert chunks.take() == [Chunk("a", (3,))]


def test_steps_that_were_missed_are_joined_by_request():
    chunks = ChunkQueue()
    chunks.put([Chunk("a", (1,)), Chunk("b", (2,))])
    chunks.put([Chunk("b", (3,), "stop"), Chunk("a", (4,))])
    assert chunks.take() == [Chunk("a", (1, 4)), Chunk("b", (2, 3), "stop")]


def test_an_error_joins_the_tokens_before_it():
    chunks, error = ChunkQueue(), UnavailableError("gone")
    chunks.put([Chunk("a", (1,))])
    chunks.put([Chunk("a", error=error)])
    assert chunks.take() == [Chunk("a", (1,), error=error)]


@pytest.mark.parametrize("later", [0, None])
def test_what_the_prefix_cache_had_is_kept(later):
    chunks = ChunkQueue()
    chunks.put([Chunk("a", (1,), cached_tokens=0)])
    chunks.put([Chunk("a", (2,), "stop", cached_tokens=later)])
    assert chunks.take() == [Chunk("a", (1, 2), "stop", cached_tokens=0)]


def test_log_probabilities_stay_beside_their_tokens():
    chunks = ChunkQueue()
    chunks.put([Chunk("a", (1, 2), logprobs=(-1.0, -2.0), top_logprobs=((), ((2, -2.0),)))])
    chunks.put([Chunk("a", (3,), "stop", logprobs=(-3.0,), top_logprobs=((),))])
    joined = Chunk("a", (1, 2, 3), "stop", logprobs=(-1.0, -2.0, -3.0), top_logprobs=((), ((2, -2.0),), ()))
    assert chunks.take() == [joined]


def test_taking_waits_for_a_chunk_of_another_thread():
    chunks = ChunkQueue()
    later = threading.Timer(0.01, chunks.put, [[Chunk("a", (1,))]])
    later.start()
    assert chunks.take() == [Chunk("a", (1,))]


def test_after_closing_what_is_left_comes_once():
    chunks = ChunkQueue()
    chunks.put([Chunk("a", (1,))])
    chunks.close()
    assert [chunks.take(), chunks.take()] == [[Chunk("a", (1,))], []]
