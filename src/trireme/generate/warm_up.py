"""What a generator runs before its first request: each shape whose first time is slow, then its own measure."""

from __future__ import annotations

import contextlib
import queue
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from trireme.errors import TriremeError, UnavailableError
from trireme.generate.engine import Sampling
from trireme.generate.work import LEAST_INPUT_TOKEN_WORK, GeneratorWork

WARM_UP_SECONDS = 300.0
WARM_UP_TOKENS = 4
# The measure: an engine that does all places' steps quickly is measured for so long, a slow one until it has said
# anything, and none longer than the last.
MEASURE_WINDOWS = 2
MEASURE_SECONDS = 1.0
MOST_MEASURE_SECONDS = 20.0
MEASURE_TOKENS = 64
# Measured again until a round's rate is within this share of the one before: an engine's first steps may compile.
STEADY_SHARE = 0.3
MOST_ROUNDS = 3
# What a longer prompt takes beyond a short one is how fast prompts are read; still longer ones only take longer. So
# does a longer warm-up: of 2,032 tokens the first prompt takes a tenth more than the second, after one of 512.
SHORT_PROMPT = 16
MOST_PROMPT = 512
# Every vocabulary has these.
COMMON_IDS = range(8, 128)
# Pairs of a short and a long prompt, while they take no longer than MEASURE_SECONDS.
PAIRS = 3
GREEDY = Sampling(max_tokens=WARM_UP_TOKENS, temperature=0.0, ignore_eos=True)

Prompt = tuple[int, ...]
# Prompt, sampling and who gets the one piece that ends the answer; the request's id. Raises as Engine.submit.
Submit = Callable[[Prompt, Sampling, Callable[[Any], None]], str]


@dataclass(frozen=True, slots=True)
class WarmUpSizes:
    """Tokens of the longest prompt, of a step's prefill, and how many requests run at once; 0: not measured."""

    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int = 0


class WarmUp:
    """Runs requests that no metric sees. Blocks."""

    def __init__(
        self, submit: Submit, cancel: Callable[[str], None], word: Prompt, sizes: WarmUpSizes
    ) -> None:
        """word: tokens that prompts are made of, at least one."""
        self._submit, self._cancel, self._word = submit, cancel, word
        self._longest = max(1, sizes.max_model_len - WARM_UP_TOKENS)
        self._full = min(sizes.max_num_batched_tokens, self._longest, MOST_PROMPT)
        self._short = min(len(word), self._longest)
        self._sizes = sizes

    def run(self) -> None:
        """A long prefill, one decoding alone, several together.

        Raises UnavailableError when the engine does not answer within WARM_UP_SECONDS.
        """
        sampled = replace(GREEDY, temperature=1.0, top_k=10, top_p=0.9, min_p=0.01, seed=0)
        sampled = replace(sampled, repetition_penalty=1.1, presence_penalty=0.1, frequency_penalty=0.1)
        self._run_all([(self._prompt(self._full), GREEDY)])
        self._run_all([(self._prompt(self._short), sampled)])
        self._run_all([(self._prompt(self._short), GREEDY)] * 4)

    def measure(self, work: GeneratorWork, *, is_short: bool = False) -> None:
        """The rate of output tokens with all places taken, and what an input token costs beside one.

        is_short: the rate alone, and once. Engines answer only while they work well: one that fails while it writes
        is left unmeasured. Raises UnavailableError as `run`.
        """
        if not self._sizes.max_num_seqs:
            return
        self._measure_rate(work, 1 if is_short else MOST_ROUNDS)
        if not is_short and self._full >= 2 * SHORT_PROMPT and work.rate.value:
            # Of the steps that both need, and of the one token that both write, nothing is left in the difference.
            share = self._read_seconds(self._full) / (self._full - SHORT_PROMPT) * work.rate.value
            work.input_token_work = min(1.0, max(LEAST_INPUT_TOKEN_WORK, share))

    def _measure_rate(self, work: GeneratorWork, rounds: int) -> None:
        began, before = time.monotonic(), 0.0
        for _ in range(rounds):
            work.rate.reset()
            with contextlib.suppress(TriremeError):
                self._write(work)
            work.rate.settle()
            rate = work.rate.value
            is_steady = before > 0 and abs(rate - before) <= STEADY_SHARE * before
            if not rate or is_steady or time.monotonic() - began > MOST_MEASURE_SECONDS:
                return
            before = rate

    def _read_seconds(self, size: int) -> float:
        """How much longer a prompt of `size` takes than a short one: the median of a few."""
        began = time.monotonic()
        found: list[float] = []
        while len(found) < PAIRS and (not found or time.monotonic() - began < MEASURE_SECONDS):
            short, long = (self._time_to_read(2 * len(found) + n, (SHORT_PROMPT, size)[n]) for n in (0, 1))
            found.append(long - short)
        return median(found)

    def _time_to_read(self, seed: int, size: int) -> float:
        # Of many different tokens, as people's; and none as one before, which the prefix cache has.
        prompt = tuple(random.Random(seed).choices(COMMON_IDS, k=size))  # noqa: S311 - no secrets
        began = time.monotonic()
        self._run_all([(prompt, replace(GREEDY, max_tokens=1))])
        return time.monotonic() - began

    def _write(self, work: GeneratorWork) -> None:
        """One request more than there are places, for a while."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        most = max(1, min(MEASURE_TOKENS, self._longest - self._short))
        # Drawn, so that answers differ: a mixture of experts is faster where all tokens ask for the same ones.
        sampling = replace(GREEDY, temperature=1.0, max_tokens=most)
        began = time.monotonic()
        ids: list[str] = []
        # The queue has no room for one more.
        with contextlib.suppress(UnavailableError):
            for _ in range(self._sizes.max_num_seqs + 1):
                ids.append(self._submit(self._prompt(self._short), sampling, done.put))
        pieces: list[Any] = []
        while len(pieces) < len(ids) and not self._is_measured(work, time.monotonic() - began):
            with contextlib.suppress(queue.Empty):
                pieces.append(done.get(timeout=0.02))
        for request_id in ids:
            self._cancel(request_id)
        while len(pieces) < len(ids):
            pieces.append(self._next(done))
        if not work.rate.value:
            # All places were never taken, or all was over at once.
            work.rate.add(sum(piece.output_tokens for piece in pieces), time.monotonic() - began)

    def _is_measured(self, work: GeneratorWork, seconds: float) -> bool:
        if seconds > MEASURE_SECONDS and work.rate.value:
            return True
        return work.rate.windows >= MEASURE_WINDOWS or seconds > MOST_MEASURE_SECONDS

    def _prompt(self, size: int) -> Prompt:
        return (self._word * (size // len(self._word) + 1))[:size]

    def _run_all(self, shapes: Sequence[tuple[Prompt, Sampling]]) -> None:
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for prompt, sampling in shapes:
            self._submit(prompt, sampling, done.put)
        for _ in shapes:
            if (error := self._next(done).error) is not None:
                raise error

    @staticmethod
    def _next(done: queue.SimpleQueue[Any]) -> Any:
        try:
            return done.get(timeout=WARM_UP_SECONDS)
        except queue.Empty:
            raise UnavailableError(f"the LLM engine did not answer in {WARM_UP_SECONDS:.0f} s") from None
