"""The warm-up over the fake engine, and over engines that fail or refuse."""

import itertools
import threading
from dataclasses import dataclass

import pytest

from trireme.errors import UnavailableError
from trireme.generate.warm_up import MEASURE_TOKENS, WarmUp, WarmUpSizes
from trireme.generate.work import INPUT_TOKEN_WORK, GeneratorWork


@dataclass
class Piece:
    output_tokens: int = 0
    error: Exception | None = None


class Engine:
    """Answers at once; keeps what it was given."""

    def __init__(self, places=100):
        self.prompts, self.samplings, self.cancelled = [], [], []
        self._places = places

    def submit(self, prompt, sampling, deliver):
        if len(self.prompts) >= self._places:
            raise UnavailableError("full")
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        deliver(Piece(sampling.max_tokens))
        return str(len(self.prompts))

    def cancel(self, request_id):
        self.cancelled.append(request_id)


def warm_up(engine, **sizes):
    values = {"max_model_len": 128, "max_num_batched_tokens": 64, "max_num_seqs": 4} | sizes
    return WarmUp(engine.submit, engine.cancel, (5, 6), WarmUpSizes(**values))


def test_the_warm_up_runs_a_full_prompt_one_alone_and_several():
    engine = Engine()
    warm_up(engine).run()
    assert [len(prompt) for prompt in engine.prompts] == [64, 2, 2, 2, 2, 2]


def test_the_measure_asks_for_one_more_than_there_are_places_and_then_reads_a_prompt_that_no_cache_has():
    engine, work = Engine(), GeneratorWork()
    warm_up(engine).measure(work)
    *written, read = engine.prompts
    assert [len(prompt) for prompt in written] == [2] * 5
    assert len(engine.cancelled) == 5
    assert {sampling.max_tokens for sampling in engine.samplings[:5]} == {MEASURE_TOKENS}
    assert (len(read), engine.samplings[-1].max_tokens) == (64, 1)
    assert read[0] not in (5, 6)
    assert work.rate.value > 0
    assert 0 < work.input_token_work <= 1


def test_a_rate_that_steps_have_measured_is_not_made_of_the_whole():
    engine, work = Engine(), GeneratorWork()
    submit, seconds = engine.submit, itertools.count()

    def counted(prompt, sampling, deliver):
        # As the steps of an engine that writes 7 a second.
        for _ in range(3):
            work.step(next(seconds), 7, waiting=1)
        return submit(prompt, sampling, deliver)

    engine.submit = counted
    warm_up(engine).measure(work)
    assert work.rate.value == 7


def test_a_queue_that_takes_no_more_is_measured_with_what_it_took():
    engine, work = Engine(places=2), GeneratorWork()
    with pytest.raises(UnavailableError):
        warm_up(engine).measure(work)
    assert engine.cancelled == ["1", "2"]
    assert work.rate.value > 0


def test_an_engine_that_ends_nothing_is_told_to_after_a_while(monkeypatch):
    monkeypatch.setattr("trireme.generate.warm_up.MOST_MEASURE_SECONDS", 0.0)
    work, waiting = GeneratorWork(), []

    class Silent(Engine):
        def submit(self, prompt, sampling, deliver):
            self.prompts.append(prompt)
            if sampling.max_tokens == 1:
                deliver(Piece(1))
            waiting.append(deliver)
            return str(len(self.prompts))

        def cancel(self, request_id):
            waiting[int(request_id) - 1](Piece(0))

    warm_up(Silent()).measure(work)
    # Nothing is known, and nothing is made up.
    assert (work.rate.value, work.input_token_work) == (0.0, INPUT_TOKEN_WORK)


def test_without_a_number_of_places_nothing_is_measured():
    engine, work = Engine(), GeneratorWork()
    warm_up(engine, max_num_seqs=0).measure(work)
    assert (engine.prompts, work.rate.value) == ([], 0.0)


def test_an_engine_that_fails_ends_the_warm_up_with_its_error():
    class Failing(Engine):
        def submit(self, prompt, sampling, deliver):
            threading.Timer(0.0, deliver, [Piece(error=UnavailableError("no memory"))]).start()
            return "1"

    with pytest.raises(UnavailableError, match="no memory"):
        warm_up(Failing()).run()
