"""An engine whose answer a person can predict: the prompt again, token by token, then the end."""

from __future__ import annotations

import json
import math
import random
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from trireme.errors import SettingError, TriremeError, UnavailableError
from trireme.generate.engine import (
    Chunk,
    EngineOptions,
    EngineRequest,
    EngineStats,
    StructuredOutput,
    check_adapter,
)
from trireme.generate.fake_forms import least_text
from trireme.generate.request_table import RequestTable
from trireme.generate.tokenizer import LlmTokenizer

KNOBS_FILE = "fake.json"
_REMEMBERED_PROMPTS = 100
# Between two looks at a hold_file while every answer has as many tokens as it says.
_HELD_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Knobs:
    """How the fake behaves. A model folder may hold them as JSON in fake.json."""

    step_seconds: float = 0.0
    # A step that runs a prompt with this token fails, as an engine out of memory would.
    failing_token: int | None = None
    restart_seconds: float = 0.0
    # While this file is there, no answer has more tokens than the number in it: what runs does not end by itself.
    hold_file: str = ""
    # Where a prompt has this token twice, the answer is what stands between the last two of them.
    quote_token: int | None = None


@dataclass(slots=True)
class _Answer:
    request: EngineRequest
    cached: int = 0
    made: int = 0
    # The whole answer, where it is held to a form.
    held: tuple[int, ...] | None = None
    random: random.Random = field(default_factory=random.Random)


class FakeEngine:
    """One token per running request and step. Greedy, or without a seed: the prompt's tokens in order, then eos.

    With a seed and a temperature each token is drawn from the prompt's. With ignore_eos, and below min_tokens, it
    starts over. An answer that is held to a form is the least that the form takes (see fake_forms), in tokens of
    the folder's tokenizer.json. Log-probabilities are those of `fake_logprobs`. Its prefix cache has the last
    100 prompts: what a prompt has in common with one of the same salt and adapter is cached, token by token. With
    the n-th of its adapters, from 1, the prompt is said from its n-th token on, then what is before.
    """

    def __init__(self, options: EngineOptions, knobs: Knobs | None = None) -> None:
        """Raises SettingError for an unknown knob in fake.json."""
        self._options = options
        self._knobs = knobs or _read_knobs(options)
        self._table = RequestTable(options.max_num_seqs, options.max_waiting)
        self._answers: dict[str, _Answer] = {}
        self._prompts: deque[tuple[tuple[str, str], tuple[int, ...]]] = deque(maxlen=_REMEMBERED_PROMPTS)
        self._queries = self._hits = self._restarts = 0
        self._kv_usage = 0.0
        self._work = threading.Event()
        self._may_step = threading.Event()
        self._may_step.set()
        self._closed = threading.Event()
        self._stepper = threading.Thread(target=self._run, name="fake-engine", daemon=True)
        self._stepper.start()

    def submit(self, request: EngineRequest) -> None:
        check_adapter(request.adapter, self._options)
        self._table.submit(request)
        self._work.set()

    def stream(self) -> Iterator[list[Chunk]]:
        return self._table.stream()

    def cancel(self, request_id: str) -> None:
        if self._table.cancel(request_id):
            self._work.set()

    def stats(self) -> EngineStats:
        waiting, running = self._table.counts()
        waits, wait_seconds = self._table.waits()
        return EngineStats(
            is_ready=self._table.is_up(),
            waiting=waiting,
            running=running,
            kv_cache_usage=self._kv_usage,
            prefix_cache_queries=self._queries,
            prefix_cache_hits=self._hits,
            restarts=self._restarts,
            waits=waits,
            wait_seconds=wait_seconds,
        )

    def close(self) -> None:
        self._closed.set()
        self._work.set()
        self._may_step.set()
        self._stepper.join()
        self._table.close()

    def pause(self) -> None:
        """No step begins until `resume`: tests see the engine as it is between steps."""
        self._may_step.clear()

    def resume(self) -> None:
        """Steps go on."""
        self._may_step.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._work.wait()
            self._work.clear()
            self._let_go()
            while (self._answers or any(self._table.counts())) and not self._closed.is_set():
                self._may_step.wait()
                self._closed.wait(self._knobs.step_seconds)
                try:
                    self._step()
                except RuntimeError as error:
                    self._restart(error)

    def _let_go(self) -> None:
        for request_id in self._table.ended():
            self._answers.pop(request_id, None)

    def _step(self) -> None:
        self._let_go()
        for request in self._table.admit():
            try:
                self._answers[request.request_id] = _Answer(
                    request,
                    self._look_up(request),
                    held=self._hold(request.sampling.structured),
                    random=random.Random(request.sampling.seed),  # noqa: S311 - a fake draws no secrets
                )
            except TriremeError as error:
                self._table.deliver([Chunk(request.request_id, error=error)])
        if any(self._knobs.failing_token in answer.request.prompt for answer in self._answers.values()):
            raise RuntimeError("the failing token was in a prompt")
        most = self._most_tokens()
        chunks = [self._next_chunk(answer) for answer in self._answers.values() if answer.made < most]
        if self._answers and not chunks:
            self._closed.wait(_HELD_SECONDS)
        for chunk in chunks:
            if chunk.is_last:
                del self._answers[chunk.request_id]
        held = sum(len(answer.request.prompt) + answer.made for answer in self._answers.values())
        self._kv_usage = min(1.0, held / (self._options.max_num_seqs * self._options.max_model_len))
        self._table.deliver(chunks)

    def _most_tokens(self) -> float:
        """How many tokens an answer may have now."""
        if not self._knobs.hold_file:
            return math.inf
        try:
            return int(Path(self._knobs.hold_file).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return math.inf

    def _next_chunk(self, answer: _Answer) -> Chunk:
        request, sampling = answer.request, answer.request.sampling
        stops = set(sampling.stop_token_ids)
        stops |= set() if sampling.ignore_eos else set(self._options.eos_token_ids)
        may_end = answer.made >= sampling.min_tokens
        token = self._next_token(answer) if may_end else self._other_token(answer, stops)
        answer.made += 1
        if token in stops and may_end:
            return Chunk(request.request_id, finish_reason="stop", cached_tokens=answer.cached)
        chunk = Chunk(request.request_id, (token,), cached_tokens=answer.cached)
        if sampling.logprobs is not None:
            likeliest = fake_logprobs(token, max(1, sampling.logprobs))
            chunk = replace(
                chunk, logprobs=(likeliest[0][1],), top_logprobs=(likeliest[: sampling.logprobs],)
            )
        return replace(chunk, finish_reason="length") if answer.made >= sampling.max_tokens else chunk

    def _hold(self, form: StructuredOutput | None) -> tuple[int, ...] | None:
        if form is None:
            return None
        tokenizer = LlmTokenizer.load(self._options.model_dir)
        return tokenizer.encode(least_text(form), add_special_tokens=False)

    def _next_token(self, answer: _Answer) -> int:
        prompt, sampling = self._spoken(answer.request), answer.request.sampling
        if answer.held is not None:
            return (*answer.held, self._options.eos_token_ids[0])[answer.made]
        if sampling.temperature > 0 and sampling.seed is not None:
            return answer.random.choice(prompt)
        if answer.made >= len(prompt) and not sampling.ignore_eos and self._options.eos_token_ids:
            return self._options.eos_token_ids[0]
        return prompt[answer.made % len(prompt)]

    def _spoken(self, request: EngineRequest) -> tuple[int, ...]:
        """What of the prompt is said, from the first token on."""
        prompt = self._quoted(request.prompt)
        turns = self._options.adapters.index(request.adapter) + 1 if request.adapter else 0
        first = turns % max(1, len(prompt))
        return prompt[first:] + prompt[:first]

    def _quoted(self, prompt: tuple[int, ...]) -> tuple[int, ...]:
        quotes = [at for at, token in enumerate(prompt) if token == self._knobs.quote_token]
        return prompt[quotes[-2] + 1 : quotes[-1]] if len(quotes) > 1 else prompt

    def _other_token(self, answer: _Answer, stops: set[int]) -> int:
        """The prompt over and over without what would end the answer; of a prompt of nothing else, that."""
        others = [token for token in answer.request.prompt if token not in stops] or answer.request.prompt
        return others[answer.made % len(others)]

    def _look_up(self, request: EngineRequest) -> int:
        """How many tokens of the prompt are cached; from now on, all of it are."""
        self._queries += len(request.prompt)
        if not self._options.prefix_caching:
            return 0
        owner = (request.cache_salt, request.adapter)
        known = [prompt for one, prompt in self._prompts if one == owner]
        cached = max((_shared(prompt, request.prompt) for prompt in known), default=0)
        self._hits += cached
        self._prompts.append((owner, request.prompt))
        return cached

    def _restart(self, error: RuntimeError) -> None:
        self._answers.clear()
        self._kv_usage = 0.0
        self._table.go_down(UnavailableError(f"the LLM engine failed ({error}) and starts again; try again"))
        self._closed.wait(self._knobs.restart_seconds)
        self._restarts += 1
        self._table.come_up()


def fake_logprobs(token: int, count: int) -> tuple[tuple[int, float], ...]:
    """The likeliest tokens where the fake chose `token`, and the logarithms of their chances.

    The chosen one has the chance 1 / (2 + token % 8), each of the ids that follow half of the one before.
    """
    chosen = -math.log(2 + token % 8)
    return tuple((token + n, chosen - n * math.log(2)) for n in range(count))


def _shared(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Length of the common beginning."""
    for position, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return position
    return min(len(first), len(second))


def _read_knobs(options: EngineOptions) -> Knobs:
    path = options.model_dir / KNOBS_FILE
    if not path.is_file():
        return Knobs()
    given = json.loads(path.read_text(encoding="utf-8"))
    if unknown := sorted(given.keys() - {spec.name for spec in fields(Knobs)}):
        raise SettingError(f"{path} has an unknown key {unknown[0]!r}")
    return Knobs(**given)
