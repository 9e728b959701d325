"""Text generation over an engine: prompts in, pieces of text out, every request ended exactly once."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from trireme.errors import InvalidInputError, TriremeError, UnavailableError
from trireme.generate.answer_parts import AnswerForm, AnswerReader
from trireme.generate.chat import ChatTemplate
from trireme.generate.detokenizer import Detokenizer
from trireme.generate.engine import Chunk, Engine, EngineRequest, EngineStats, Sampling
from trireme.generate.logprobs import TokenLog, TokenLogprob
from trireme.generate.messages import Message
from trireme.generate.pieces import Piece, PieceTimes
from trireme.generate.prompts import read_prompt, room_of
from trireme.generate.sampling import Parameters
from trireme.generate.stop_strings import StopStrings
from trireme.generate.tokenizer import LlmTokenizer
from trireme.generate.tool_choice import FREE_CHOICE, ToolChoice
from trireme.generate.warm_up import WarmUp, WarmUpSizes
from trireme.generate.work import GeneratorWork
from trireme.observe.work import Waiting, WorkTotals
from trireme.types import DEFAULT_TENANT

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One request: either `text` or `messages`; `tools` go with messages. Not streamed, its answer is one piece.

    wants_calls, wants_reasoning: calls of its tools, and reasoning, are taken out of the text (see Piece).
    choice: among its tools, which goes with wants_calls.
    """

    parameters: Parameters
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    stream: bool = True
    tenant: str = DEFAULT_TENANT
    tools: tuple[dict[str, Any], ...] = ()
    wants_calls: bool = False
    choice: ToolChoice = FREE_CHOICE
    wants_reasoning: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """How one request went; times in seconds. `outcome` is its finish reason, or "error".

    seconds_per_token is the mean time between tokens after the first; None below two tokens.
    """

    outcome: str
    seconds: float
    time_to_first_token: float | None
    seconds_per_token: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Tokens of all requests so far."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """Limits of one model; chat_text_input puts `text` through the chat template where there is one.

    tool_parser: see AnswerForm.
    """

    max_model_len: int
    max_text_bytes: int = 1_000_000
    chat_text_input: bool = True
    tool_parser: str = ""
    # For the warm-up: the largest prefill of one step, and how many requests run at once; 0: no rate is measured.
    max_num_batched_tokens: int = 256
    max_num_seqs: int = 0


@dataclass(slots=True)
class _Open:
    """A request on its way."""

    deliver: Callable[[Piece], None]
    stream: bool
    input_tokens: int
    detokenizer: Detokenizer
    stops: StopStrings
    min_tokens: int = 0
    is_observed: bool = True
    # What it was expected to cost when it came.
    cost: float = 0.0
    output_tokens: int = 0
    cached_tokens: int | None = None
    began: float = field(default_factory=time.monotonic)
    first_token: float | None = None
    last_token: float = 0.0
    waited: float | None = None
    # Only of a request that asked for log-probabilities.
    log: TokenLog | None = None
    unsent: list[str] = field(default_factory=list)
    unsent_logprobs: list[TokenLogprob] = field(default_factory=list)


class Generator:
    """Answers requests with one engine, which it owns. Thread-safe; one thread of its own delivers."""

    def __init__(
        self, engine: Engine, tokenizer: LlmTokenizer, template: ChatTemplate | None, options: ServiceOptions
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._template = template
        self._options = options
        self._form = AnswerForm.of(template.source if template else "", tokenizer, options.tool_parser)
        self._secret = secrets.token_bytes(32)
        self._numbers = itertools.count(1)
        self._open: dict[str, _Open] = {}
        self._input_tokens = self._output_tokens = 0
        self.observations: queue.SimpleQueue[Observation] = queue.SimpleQueue()
        self.work = GeneratorWork()
        self._consumer = threading.Thread(target=self._consume, name="generator", daemon=True)
        self._consumer.start()

    def accept(self, request: GenerateRequest, deliver: Callable[[Piece], None]) -> str:
        """Queue a request and return its id; `deliver` gets its pieces from another thread, the last one once.

        Blocks for the tokenizing only. Raises InvalidInputError, or UnavailableError when the queue is full.
        """
        text, adds_special = self._read_prompt(request)
        prompt = self._tokenizer.encode(text, add_special_tokens=adds_special)
        reader = self._make_reader(request, text)
        room = room_of(len(prompt), self._options.max_model_len)
        sampling = request.parameters.sampling
        self._check_stop_tokens(sampling)
        most = min(sampling.max_tokens, room)
        sampling = replace(sampling, max_tokens=most, min_tokens=min(sampling.min_tokens, most))
        opened = _Open(
            deliver=deliver if reader is None else reader.wrap(deliver),
            stream=request.stream,
            input_tokens=len(prompt),
            detokenizer=Detokenizer(self._tokenizer, frozenset() if reader is None else self._form.shown),
            stops=StopStrings(request.parameters.stop, is_shown=request.parameters.shows_stop),
            min_tokens=sampling.min_tokens,
            log=TokenLog(self._tokenizer) if sampling.logprobs is not None else None,
            cost=self.work.expect(len(prompt), sampling),
        )
        adapter = request.parameters.adapter
        return self._submit(opened, prompt, sampling, self._salt(request.tenant), adapter)

    def count_tokens(self, request: GenerateRequest) -> int:
        """How many tokens its prompt has, the chat template's included. Blocks and raises as `accept`; a prompt
        that leaves no room to answer is counted, too."""
        text, adds_special = self._read_prompt(request)
        return len(self._tokenizer.encode(text, add_special_tokens=adds_special))

    def cancel(self, request_id: str) -> None:
        """End a request; its last piece says cancelled. Unknown and ended ids are left alone. Does not block."""
        self._engine.cancel(request_id)

    def stats(self) -> EngineStats:
        """The engine's counts of now."""
        return self._engine.stats()

    def totals(self) -> Totals:
        """Tokens read and made since the start, warm-up left out."""
        return Totals(self._input_tokens, self._output_tokens)

    def is_ready(self) -> bool:
        """Whether a request would be taken and answered now."""
        return self._consumer.is_alive() and self._engine.stats().is_ready

    def warm_up(self, *, is_short: bool = False) -> None:
        """Run each shape whose first time is slow, then measure the rate. is_short: measure it once, and no more.

        Blocks. Raises UnavailableError when the engine does not answer within WARM_UP_SECONDS.
        """
        word = self._tokenizer.encode("warm up ", add_special_tokens=False) or (0,)
        sizes = WarmUpSizes(
            self._options.max_model_len, self._options.max_num_batched_tokens, self._options.max_num_seqs
        )
        warm_up = WarmUp(self._submit_unseen, self.cancel, word, sizes)
        if not is_short:
            warm_up.run()
        warm_up.measure(self.work, is_short=is_short)

    def waiting(self) -> Waiting:
        """Requests that wait for a place, and what they are expected to cost. Engines take the oldest first."""
        count = self._engine.stats().waiting
        newest = list(self._open.values())[-count:] if count else []
        return Waiting(count, sum(opened.cost for opened in newest))

    def work_totals(self) -> WorkTotals:
        """What was offered, refused, waited for, read and written."""
        stats = self._engine.stats()
        return replace(
            self.work.meter.totals(),
            waits=stats.waits,
            wait_seconds=stats.wait_seconds,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
        )

    def close(self) -> None:
        """Close the engine; what is open ends as cancelled. Blocks until the delivering thread is gone."""
        self._engine.close()
        self._consumer.join()

    def _make_reader(self, request: GenerateRequest, prompt: str) -> AnswerReader | None:
        reader = self._form.make_reader(
            prompt,
            request.tools if request.wants_calls else (),
            request.choice,
            wants_reasoning=request.wants_reasoning,
            is_streamed=request.stream,
            is_held=request.parameters.sampling.structured is not None,
        )
        if reader is not None and request.parameters.sampling.logprobs is not None:
            raise InvalidInputError(
                "logprobs: they go with the whole text of an answer; leave them out, or tools and reasoning"
            )
        return reader

    def _read_prompt(self, request: GenerateRequest) -> tuple[str, bool]:
        calls = self._form.calls
        return read_prompt(request, self._template, self._options, calls.id_characters if calls else 0)

    def _check_stop_tokens(self, sampling: Sampling) -> None:
        """For min_tokens an engine writes into the logit of each end token, whether there is one or not."""
        size = self._tokenizer.vocabulary_size
        if beyond := [token for token in sampling.stop_token_ids if token >= size]:
            raise InvalidInputError(
                f"stop_token_ids holds {beyond[0]}, but the ids of this model's tokens end at {size - 1}"
            )

    def _salt(self, tenant: str) -> str:
        """Differs between tenants and processes, and tells nothing of the name."""
        return hmac.new(self._secret, tenant.encode(), hashlib.sha256).hexdigest()

    def _submit(
        self, opened: _Open, prompt: tuple[int, ...], sampling: Sampling, salt: str, adapter: str = ""
    ) -> str:
        request_id = f"{next(self._numbers)}"
        # Before the engine knows it: its first chunk may come before submit returns.
        self._open[request_id] = opened
        try:
            self._engine.submit(EngineRequest(request_id, prompt, sampling, salt, adapter))
        except TriremeError as error:
            del self._open[request_id]
            if opened.is_observed and isinstance(error, UnavailableError):
                self.work.meter.offer(opened.cost, is_refused=True)
            raise
        if opened.is_observed:
            self._input_tokens += len(prompt)
            self.work.meter.offer(opened.cost)
        return request_id

    def _submit_unseen(
        self, prompt: tuple[int, ...], sampling: Sampling, deliver: Callable[[Piece], None]
    ) -> str:
        """A request of the warm-up."""
        opened = _Open(deliver, False, len(prompt), Detokenizer(self._tokenizer), StopStrings(()), 0, False)
        return self._submit(opened, prompt, sampling, self._salt("warm-up"))

    def _consume(self) -> None:
        for chunks in self._engine.stream():
            now, made = time.monotonic(), 0.0
            for chunk in chunks:
                opened = self._open.get(chunk.request_id)
                # A stop string ended it here before the engine heard of it.
                if opened is not None:
                    unread = opened.input_tokens if opened.first_token is None else 0
                    made += self.work.cost_of(chunk, unread)
                    self._handle(opened, chunk, now)
            self.work.step(now, made, self._engine.stats().waiting)

    def _handle(self, opened: _Open, chunk: Chunk, now: float) -> None:
        try:
            piece = self._piece(opened, chunk, now)
            if piece.is_last:
                self._end(chunk.request_id, opened, piece, now)
            has_content = piece.text or piece.logprobs
            if piece.is_last or (has_content and opened.stream):
                opened.deliver(piece)
            elif has_content:
                opened.unsent.append(piece.text)
                opened.unsent_logprobs += piece.logprobs
        except Exception:
            # One receiver that fails must not end the others' answers.
            _log.exception("request %s could not be delivered", chunk.request_id)
            self._open.pop(chunk.request_id, None)
            self._engine.cancel(chunk.request_id)

    def _piece(self, opened: _Open, chunk: Chunk, now: float) -> Piece:
        if chunk.cached_tokens is not None:
            opened.cached_tokens = chunk.cached_tokens
        if chunk.waited is not None:
            opened.waited = chunk.waited
        if chunk.tokens:
            if opened.first_token is None:
                opened.first_token = now
            opened.last_token = now
            opened.output_tokens += len(chunk.tokens)
            if opened.is_observed:
                self._output_tokens += len(chunk.tokens)
        text = self._new_text(opened, chunk)
        reason = chunk.finish_reason
        if chunk.is_last and not opened.stops.found:
            text += opened.stops.push(opened.detokenizer.finish())
            text += opened.stops.finish()
        if opened.stops.found:
            if not chunk.is_last:
                self._engine.cancel(chunk.request_id)
            reason = "stop"
        is_last = chunk.is_last or opened.stops.found
        text, entries = _with_entries(opened, text, is_last=is_last)
        if not is_last:
            return Piece(text, logprobs=tuple(entries))
        return Piece(
            "".join((*opened.unsent, text)),
            reason,
            None if reason == "stop" else chunk.error,
            opened.input_tokens,
            opened.output_tokens,
            opened.cached_tokens,
            (*opened.unsent_logprobs, *entries),
            _times(opened, now),
        )

    def _new_text(self, opened: _Open, chunk: Chunk) -> str:
        """The text to show for new tokens; `output_tokens` counts them already. No stop string is looked for below
        min_tokens, as in vLLM."""
        tokens = chunk.tokens
        free = len(tokens) - min(len(tokens), max(0, opened.output_tokens - opened.min_tokens))
        if opened.log is None:
            texts = [opened.detokenizer.push(tokens[:free]), opened.detokenizer.push(tokens[free:])]
            return texts[0] + opened.stops.push(texts[1])
        texts = []
        for token, logprob, top in zip(tokens, chunk.logprobs, chunk.top_logprobs, strict=True):
            texts.append(opened.detokenizer.push((token,)))
            opened.log.add(token, logprob, top, texts[-1], is_whole=opened.detokenizer.is_whole)
        return "".join(texts[:free]) + opened.stops.push("".join(texts[free:]))

    def _end(self, request_id: str, opened: _Open, piece: Piece, now: float) -> None:
        del self._open[request_id]
        if not opened.is_observed:
            return
        self.work.end(
            opened.cost,
            opened.input_tokens - (opened.cached_tokens or 0),
            opened.output_tokens,
            is_whole=piece.finish_reason in ("stop", "length"),
        )
        first, count = opened.first_token, opened.output_tokens
        per_token = (opened.last_token - first) / (count - 1) if first is not None and count > 1 else None
        self.observations.put(
            Observation(
                outcome="error" if piece.error is not None else piece.finish_reason,
                seconds=now - opened.began,
                time_to_first_token=None if first is None else first - opened.began,
                seconds_per_token=per_token,
            )
        )


def _times(opened: _Open, now: float) -> PieceTimes:
    first = None if opened.first_token is None else opened.first_token - opened.began
    # The queue's clock begins a little later.
    waited = opened.waited if first is None or opened.waited is None else min(opened.waited, first)
    return PieceTimes(waited, first, now - opened.began)


def _with_entries(opened: _Open, text: str, *, is_last: bool) -> tuple[str, list[TokenLogprob]]:
    """Of the text that may be shown what goes out now, and the entries of its tokens where they were asked for."""
    if opened.log is None:
        return text, []
    said, entries = opened.log.release(text)
    if not is_last:
        return said, entries
    rest, last = opened.log.finish(is_cut=opened.stops.found)
    return said + rest, entries + last
