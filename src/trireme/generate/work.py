"""What an LLM's requests cost, in output tokens: an input token is a share of one, which the warm-up measures."""

from __future__ import annotations

from collections import deque
from statistics import fmean

from trireme.generate.engine import Chunk, Sampling
from trireme.observe.work import WorkMeter, WorkRate

# An input token beside an output token, until the warm-up has measured it and at least.
INPUT_TOKEN_WORK = 0.1
LEAST_INPUT_TOKEN_WORK = 0.001
# Before so many answers have ended, a request is expected to write max_tokens; then, at most, as many as those did.
LEAST_ANSWERS = 8
KEPT_ANSWERS = 64


class GeneratorWork:
    """The work of one generator's requests, and its rate: output tokens a second while requests wait.

    How long an answer gets nobody knows before: a request is offered at what is expected, and corrected when its
    answer has ended. Steps are told by one thread; the rest is thread-safe.
    """

    def __init__(self) -> None:
        self.rate = WorkRate()
        self.meter = WorkMeter()
        self.input_token_work = INPUT_TOKEN_WORK
        self._answers: deque[int] = deque(maxlen=KEPT_ANSWERS)
        self._full_since: float | None = None

    def expect(self, input_tokens: int, sampling: Sampling) -> float:
        """The cost of a request that has just come."""
        return self.input_token_work * input_tokens + self._expected_output(sampling)

    def step(self, now: float, made: float, waiting: int) -> None:
        """A step ended at `now` that did work of `made`; `waiting` requests wait still, so the next one is full."""
        if self._full_since is not None:
            self.rate.add(made, now - self._full_since)
        self._full_since = now if waiting else None

    def cost_of(self, chunk: Chunk, unread: int) -> float:
        """What was done for a chunk. unread: tokens of the prompt, where it is the answer's first; else 0."""
        if not chunk.tokens:
            return 0.0
        return self.input_token_work * max(0, unread - (chunk.cached_tokens or 0)) + len(chunk.tokens)

    def end(self, expected: float, input_tokens: int, output_tokens: int, *, is_whole: bool) -> None:
        """A request that was offered at `expected` ended. input_tokens: without cached ones.

        is_whole: not cancelled, and without an error. Of another one what it would have cost stays offered.
        """
        actual = self.input_token_work * input_tokens + output_tokens
        if is_whole:
            self._answers.append(output_tokens)
        if is_whole or actual > expected:
            self.meter.correct(actual - expected)

    def _expected_output(self, sampling: Sampling) -> float:
        answers = list(self._answers)
        if sampling.ignore_eos or len(answers) < LEAST_ANSWERS:
            return sampling.max_tokens
        return max(sampling.min_tokens, min(sampling.max_tokens, fmean(answers)))
