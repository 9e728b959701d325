"""The warm-up over the fake engine, and over engines that fail or refuse."""

import itertools
import threading
from dataclasses import dataclass

import pytest

from trireme.errors import UnavailableError
from trireme.generate.warm_up import MEASURE_TOKENS, MOST_PROMPT, MOST_ROUNDS, WarmUp, WarmUpSizes
from trireme.generate.work import INPUT_TOKEN_WORK, GeneratorWork


@dataclass
class Piece:
    output_tokens: int = 0
    error: Exception | None = None


class Engine:
    """Answers at once; keeps what it was given."""

    def __init__(self, places=100):
        self.prompts, self.samplings, self.cancelled = [], [], []
        self._places, self._taken = places, 0

    def submit(self, prompt, sampling, deliver):
        if self._taken >= self._places:
            raise UnavailableError("full")
        self._taken += 1
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        deliver(Piece(sampling.max_tokens))
        return str(len(self.prompts))

    def cancel(self, request_id):
        self.cancelled.append(request_id)
        self._taken = 0


def warm_up(engine, **sizes):
    values = {"max_model_len": 128, "max_num_batched_tokens": 64, "max_num_seqs": 4} | sizes
    return WarmUp(engine.submit, engine.cancel, (5, 6), WarmUpSizes(**values))


@pytest.mark.parametrize(("step", "longest"), [(64, 64), (2048, MOST_PROMPT)])
def test_the_warm_up_runs_a_long_prompt_one_alone_and_several(step, longest):
    engine = Engine()
    warm_up(engine, max_num_batched_tokens=step, max_model_len=4096).run()
    assert [len(prompt) for prompt in engine.prompts] == [longest, 2, 2, 2, 2, 2]


def test_the_measure_asks_for_one_more_than_there_are_places():
    engine, work = Engine(), GeneratorWork()
    warm_up(engine, max_num_batched_tokens=8).measure(work)
    rounds, left = divmod(len(engine.prompts), 5)
    assert 2 <= rounds <= MOST_ROUNDS
    assert left == 0
    assert {len(prompt) for prompt in engine.prompts} == {2}
    assert len(engine.cancelled) == len(engine.prompts)
    assert {sampling.max_tokens for sampling in engine.samplings} == {MEASURE_TOKENS}
    assert work.rate.value > 0


@pytest.mark.parametrize(
    ("rates", "rounds", "found"),
    [
        ([100.0, 90.0], 2, 90.0),
        ([1.0, 100.0, 90.0], 3, 90.0),
        ([1.0, 10.0, 100.0], 3, 100.0),
        ([0.0], 1, 0.0),
    ],
    ids=["steady", "the first compiles", "never steady", "nothing was written"],
)
def test_the_rate_is_of_the_round_that_says_what_the_one_before_said(monkeypatch, rates, rounds, found):
    work, written = GeneratorWork(), []

    def write(_, work):
        written.append(rates[len(written)])
        work.rate.add(written[-1], 1.0)

    monkeypatch.setattr(WarmUp, "_write", write)
    warm_up(Engine(), max_num_batched_tokens=8).measure(work)
    assert (len(written), work.rate.value) == (rounds, found)


def test_a_slow_engine_is_measured_once(monkeypatch):
    monkeypatch.setattr("trireme.generate.warm_up.MOST_MEASURE_SECONDS", 0.0)
    engine, work = Engine(), GeneratorWork()
    warm_up(engine, max_num_batched_tokens=8).measure(work)
    assert len(engine.prompts) == 5
    assert work.rate.value > 0


def test_an_input_token_costs_what_longer_prompts_take_beyond_short_ones(monkeypatch):
    engine, work, now = Engine(), GeneratorWork(), 0.0

    def submit(prompt, sampling, deliver):
        nonlocal now
        # A step takes a second, whatever it does; a token of a prompt a hundredth, but for the first long prompt.
        first_long = len(prompt) == 64 and not any(len(one) == 64 for one in engine.prompts)
        now += 1 + 0.01 * len(prompt) + 5 * first_long
        return Engine.submit(engine, prompt, sampling, deliver)

    warm = WarmUp(submit, engine.cancel, (1, 6), WarmUpSizes(128, 64, 4))
    monkeypatch.setattr(WarmUp, "_measure_rate", lambda self, work, rounds: work.rate.add(20.0, 1.0))
    monkeypatch.setattr("trireme.generate.warm_up.MEASURE_SECONDS", 100.0)
    monkeypatch.setattr("trireme.generate.warm_up.time.monotonic", lambda: now)
    warm.measure(work)
    assert [len(prompt) for prompt in engine.prompts] == [16, 64] * 3
    # A prefix cache has none of them, and a mixture of experts needs all of its experts.
    assert len({prompt[:4] for prompt in engine.prompts}) == 6
    assert all(len(set(prompt)) > len(prompt) / 2 for prompt in engine.prompts)
    assert work.input_token_work == pytest.approx(0.01 * 20)


def test_a_slow_engine_reads_one_pair_of_prompts(monkeypatch):
    monkeypatch.setattr("trireme.generate.warm_up.MEASURE_SECONDS", 0.0)
    engine, work = Engine(), GeneratorWork()
    warm_up(engine).measure(work)
    assert [len(prompt) for prompt in engine.prompts if len(prompt) > 2] == [16, 64]


def test_a_short_measure_has_one_round_and_reads_no_long_prompt(monkeypatch):
    rounds = []
    monkeypatch.setattr(WarmUp, "_write", lambda self, work: (rounds.append(work), work.rate.add(20.0, 10.0)))
    engine, work = Engine(), GeneratorWork()
    warm_up(engine).measure(work, is_short=True)
    assert rounds == [work]
    assert engine.prompts == []
    assert work.rate.value > 0
    warm_up(engine).measure(work)
    assert len(rounds) == 3


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
    warm_up(engine, max_num_batched_tokens=8).measure(work)
    assert engine.cancelled[:2] == ["1", "2"]
    assert len(engine.prompts) % 2 == 0
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
