"""What an LLM's requests cost, on a clock that the test turns."""

import pytest

from trireme.generate.engine import Chunk, Sampling
from trireme.generate.work import INPUT_TOKEN_WORK, LEAST_ANSWERS, GeneratorWork

REQUEST = Sampling(max_tokens=100)


def test_a_request_is_expected_to_write_max_tokens_until_answers_have_ended_and_then_as_many_as_they_did():
    work = GeneratorWork()
    for _ in range(LEAST_ANSWERS):
        assert work.expect(10, REQUEST) == 10 * INPUT_TOKEN_WORK + 100
        work.end(0.0, 10, 20, is_whole=True)
    assert work.expect(10, REQUEST) == 10 * INPUT_TOKEN_WORK + 20
    assert work.expect(0, Sampling(max_tokens=5)) == 5
    assert work.expect(0, Sampling(max_tokens=100, min_tokens=30)) == 30
    assert work.expect(0, Sampling(max_tokens=100, ignore_eos=True)) == 100


def test_an_answer_that_has_ended_is_offered_at_what_it_cost():
    work = GeneratorWork()
    expected = work.expect(10, REQUEST)
    work.meter.offer(expected)
    # Four of its ten input tokens were cached.
    work.end(expected, 6, 33, is_whole=True)
    assert work.meter.totals().offered == pytest.approx(6 * INPUT_TOKEN_WORK + 33)


def test_a_cancelled_request_stays_offered_at_what_it_would_have_cost():
    work = GeneratorWork()
    work.meter.offer(50)
    work.end(50, 10, 2, is_whole=False)
    assert work.meter.totals().offered == 50
    work.end(50, 0, 70, is_whole=False)
    assert work.meter.totals().offered == 70


def test_only_steps_while_requests_wait_make_the_rate():
    work = GeneratorWork()
    # Alone and slow, with long pauses; then full, 40 tokens in each tenth of a second.
    for second in range(50):
        work.step(second, 1, waiting=0)
    for step in range(60):
        work.step(100 + step / 10, 40, waiting=3)
    work.step(1000, 1, waiting=0)
    for second in range(50):
        work.step(2000 + second, 1, waiting=0)
    assert work.rate.value == pytest.approx(400)


def test_a_prompt_is_work_with_the_first_chunk_without_what_was_cached():
    work = GeneratorWork()
    first = Chunk("a", (1, 2), cached_tokens=20)
    assert work.cost_of(first, unread=50) == pytest.approx(30 * INPUT_TOKEN_WORK + 2)
    assert work.cost_of(Chunk("a", (3,)), unread=0) == 1
    assert work.cost_of(Chunk("a", finish_reason="stop"), unread=50) == 0
