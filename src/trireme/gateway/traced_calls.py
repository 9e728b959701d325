"""Calls of models as OpenTelemetry has them: a client span for each, and the metrics of its GenAI conventions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import urlsplit

from trireme.errors import TriremeError
from trireme.gateway.file import GatewayFile
from trireme.gateway.metrics import GatewayMetrics
from trireme.observe import metrics as names
from trireme.observe.spans import SECOND, Span, SpanSink, SpanValue, bounded
from trireme.observe.trace import CURRENT, Trace
from trireme.providers.chat import ChatCall, Event, Finished, Started, Usage, is_content
from trireme.providers.meter import AttemptMeter, Meter
from trireme.providers.models import Embedded, ModelServer, Reranked, SearchCall, ServedModel
from trireme.providers.port import ProviderError
from trireme.providers.targets import Target
from trireme.types import Classified, Hit, InputType, OverLength

T = TypeVar("T")
# Outcomes of an attempt that are no failure of the call.
_FINE = frozenset({"ok", "escalated"})
CHAT, COMPLETION, EMBEDDINGS, RETRIEVAL = "chat", "text_completion", "embeddings", "retrieval"
# The conventions have no name for these.
RERANK, CLASSIFY = "rerank", "classify"


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a provider of gateway.toml calls. provider: gen_ai.provider.name. address, port: of its API."""

    provider: str
    address: str = ""
    port: int = 0


def peers_of(file: GatewayFile, own: str) -> dict[str, Peer]:
    """Whom each provider of the file calls. own: host:port of our own Triton. Pure."""
    return {name: _peer(row.kind, row.url or own) for name, row in file.providers.items()}


def _peer(kind: str, url: str) -> Peer:
    parts = urlsplit(url if "://" in url else f"grpc://{url}")
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    return Peer(kind, parts.hostname or "", port)


@dataclass(slots=True)
class _Call:
    """One call of a model, and what is known of it by its end. trace: of what is sent, None of no request."""

    operation: str
    peer: Peer
    model: str
    trace: Trace | None
    began: int = field(default_factory=time.time_ns)
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    first: float | None = None
    is_stream: bool = False
    response_model: str = ""
    usage: Usage | None = None
    finish_reasons: list[str] = field(default_factory=list)
    more: dict[str, SpanValue] = field(default_factory=dict)


class CallRecorder:
    """Records calls. peers: by the provider's name in the file."""

    def __init__(self, spans: SpanSink, metrics: GatewayMetrics, peers: Mapping[str, Peer]) -> None:
        self._spans = spans
        self._metrics = metrics
        self._peers = peers

    def open(self, operation: str, provider: str, model: str) -> _Call:
        """A call that begins now. provider: its name in the file."""
        trace = CURRENT.get()
        if trace is not None and trace.is_sampled and self._spans.is_on:
            trace = trace.calling()
        return _Call(operation, self._peers.get(provider) or Peer(provider), model, trace)

    def close(self, call: _Call, error: str = "") -> None:
        """It has ended. error: what failed, in a word."""
        seconds = (time.monotonic() if call.ended is None else call.ended) - call.started
        self._count(call, seconds, error)
        if call.trace is not None and call.trace.call:
            self._spans.put(_span_of(call, call.trace, seconds, error))

    def _count(self, call: _Call, seconds: float, error: str) -> None:
        whom = (call.operation, call.peer.provider, self._metrics.name_model(call.model, is_served=not error))
        self._metrics.observe(names.CLIENT_DURATION, seconds, *whom, error)
        if call.is_stream and call.first is not None:
            self._metrics.observe(names.CLIENT_FIRST_CHUNK, call.first - call.started, *whom)
        if call.usage is not None:
            counts = {"input": call.usage.input_tokens, "output": call.usage.output_tokens}
            for kind, count in counts.items():
                if count:
                    self._metrics.observe(names.CLIENT_TOKENS, count, *whom, kind)


class TracedMeter:
    """See Meter: another's attempts, each of which is recorded."""

    def __init__(self, meter: Meter, recorder: CallRecorder) -> None:
        self._meter = meter
        self._recorder = recorder

    @property
    def step(self) -> str:
        """See Meter."""
        return self._meter.step

    @step.setter
    def step(self, name: str) -> None:
        self._meter.step = name

    async def begin(self, call: ChatCall, target: Target) -> AttemptMeter:
        """See Meter."""
        inner = await self._meter.begin(call, target)
        operation = COMPLETION if call.prompt is not None else CHAT
        opened = self._recorder.open(operation, target.entry.name, target.model)
        opened.is_stream = call.stream
        if self._meter.step:
            opened.more["trireme.step"] = self._meter.step
        return _TracedAttempt(inner, opened, self._recorder)


class _TracedAttempt:
    """See AttemptMeter."""

    def __init__(self, inner: AttemptMeter, opened: _Call, recorder: CallRecorder) -> None:
        self._inner = inner
        self._opened = opened
        self._recorder = recorder
        self.call = inner.call

    def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """See AttemptMeter."""
        return self._inner.watch(self._seen(events))

    def end(self, outcome: str) -> None:
        """See AttemptMeter."""
        if outcome == "escalated":
            self._opened.more["trireme.outcome"] = outcome
        try:
            self._recorder.close(self._opened, "" if outcome in _FINE else outcome)
        finally:
            self._inner.end(outcome)

    async def _seen(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        opened, outer = self._opened, CURRENT.get()
        # The call is made before its first event: what it is told of the trace is this span.
        CURRENT.set(opened.trace)
        try:
            async for event in events:
                if CURRENT.get() is opened.trace:
                    CURRENT.set(outer)
                _note(opened, event)
                yield event
        except ProviderError as error:
            if error.status:
                opened.more["http.response.status_code"] = error.status
            raise
        finally:
            if CURRENT.get() is opened.trace:
                CURRENT.set(outer)
            opened.ended = time.monotonic()
            await events.aclose()


class TracedServer:
    """See ModelServer: another one, each call of which is recorded."""

    def __init__(self, server: ModelServer, recorder: CallRecorder, provider: str) -> None:
        """provider: the server's name in the file."""
        self._server = server
        self._recorder = recorder
        self._provider = provider

    async def models(self) -> list[ServedModel]:
        """See ModelServer. Not recorded: it is asked again and again."""
        return await self._server.models()

    async def embed(
        self,
        texts: Sequence[str],
        model: str,
        input_type: InputType | None = None,
        dimensions: int | None = None,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Embedded:
        """See ModelServer."""
        with self._call(EMBEDDINGS, model) as call:
            embedded = await self._server.embed(
                texts, model, input_type, dimensions, seconds, over_length=over_length
            )
            call.usage = Usage(input_tokens=int(embedded.tokens.sum()))
            call.more["gen_ai.embeddings.dimension.count"] = int(embedded.vectors.shape[-1])
            return embedded

    async def rerank(
        self,
        query: str,
        passages: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> Reranked:
        """See ModelServer."""
        return await self._made(
            RERANK,
            model,
            lambda: self._server.rerank(query, passages, model, seconds, over_length=over_length),
        )

    async def classify(
        self,
        texts: Sequence[str],
        model: str,
        seconds: float | None = None,
        *,
        over_length: OverLength | None = None,
    ) -> list[Classified]:
        """See ModelServer."""
        return await self._made(
            CLASSIFY, model, lambda: self._server.classify(texts, model, seconds, over_length=over_length)
        )

    async def search(self, call: SearchCall) -> list[Hit]:
        """See ModelServer."""
        return await self._made(RETRIEVAL, call.model, lambda: self._server.search(call))

    async def close(self) -> None:
        """See ModelServer."""
        await self._server.close()

    async def _made(self, operation: str, model: str, act: Callable[[], Awaitable[T]]) -> T:
        with self._call(operation, model):
            return await act()

    @contextmanager
    def _call(self, operation: str, model: str) -> Iterator[_Call]:
        opened, outer = self._recorder.open(operation, self._provider, model), CURRENT.get()
        CURRENT.set(opened.trace)
        error = ""
        try:
            yield opened
        except TriremeError as failed:
            error = failed.code
            raise
        except BaseException as failed:
            error = type(failed).__name__
            raise
        finally:
            CURRENT.set(outer)
            self._recorder.close(opened, error)


def _note(call: _Call, event: Event) -> None:
    if isinstance(event, Started):
        call.response_model = event.model
    elif isinstance(event, Usage):
        call.usage = event
    elif isinstance(event, Finished):
        call.finish_reasons.append(event.reason)
    elif call.first is None and is_content(event):
        call.first = time.monotonic()


def _span_of(call: _Call, trace: Trace, seconds: float, error: str) -> Span:
    said: dict[str, SpanValue] = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": call.peer.provider,
        "gen_ai.request.model": bounded(call.model),
    }
    if call.peer.address:
        said["server.address"] = call.peer.address
        said["server.port"] = call.peer.port
    if call.response_model:
        said["gen_ai.response.model"] = bounded(call.response_model)
    if call.finish_reasons:
        said["gen_ai.response.finish_reasons"] = tuple(call.finish_reasons)
    if call.is_stream:
        said["gen_ai.request.stream"] = True
        if call.first is not None:
            said["gen_ai.response.time_to_first_chunk"] = call.first - call.started
    if call.usage is not None:
        counts = {
            "gen_ai.usage.input_tokens": call.usage.input_tokens,
            "gen_ai.usage.output_tokens": call.usage.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": call.usage.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": call.usage.reasoning_tokens,
        }
        said |= {name: count for name, count in counts.items() if count is not None}
    return Span(
        f"{call.operation} {bounded(call.model)}",
        "client",
        trace.trace,
        trace.call,
        trace.span,
        call.began,
        call.began + int(seconds * SECOND),
        error,
        said | call.more,
    )
